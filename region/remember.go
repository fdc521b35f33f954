package region

import (
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// How long, and how many, writes with an op_id are remembered per partition, so that a retry answers
// like the first attempt and changes nothing. The window is judged by the partition's hybrid logical
// clock, so that every replica forgets the same op_ids at the same entry.
const (
	rememberFor     = 15 * time.Minute
	rememberAtMost  = 1 << 17
	forgetPerWrite  = 8 // more than one, so that a backlog shrinks
	ageKeyHeaderLen = 1 + 8
)

// recall returns what the write with this op_id answered, if it is remembered.
func recall(kv replica.KV, w *logv1.WriteCommand) (outcomes []replica.Outcome, ok bool, err error) {
	data, ok, err := kv.Get(rememberedKey(w.GetOpId()))
	if err != nil || !ok {
		return nil, false, err
	}
	record := &logv1.RememberedOutcome{}
	if err := proto.Unmarshal(data, record); err != nil {
		return nil, false, fmt.Errorf("%w: %w", errState, err)
	}
	print, err := fingerprint(w.GetOperations())
	if err != nil {
		return nil, false, err
	}
	if print != record.GetFingerprint() {
		return nil, false, ErrOpIDReused
	}
	return decodeOutcomes(record.GetOutcomes()), true, nil
}

// remember keeps what a write answered, and forgets a few that are too old or too many.
func remember(kv replica.KV, s *machineState, w *logv1.WriteCommand, outcomes []replica.Outcome, now hlc.Time) error {
	print, err := fingerprint(w.GetOperations())
	if err != nil {
		return err
	}
	record := &logv1.RememberedOutcome{Outcomes: encodeOutcomes(outcomes), Hlc: uint64(now), Fingerprint: print}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode remembered outcome: %w", err)
	}
	if err := kv.Put(rememberedKey(w.GetOpId()), data); err != nil {
		return err
	}
	if err := kv.Put(ageKey(uint64(now), w.GetOpId()), nil); err != nil {
		return err
	}
	s.remembered++
	return forget(kv, s, now)
}

func forget(kv replica.KV, s *machineState, now hlc.Time) error {
	oldest := uint64(0)
	if window := rememberFor.Milliseconds(); now.Millis() > window {
		oldest = uint64(hlc.At(now.Millis()-window, 0))
	}
	var forgotten [][]byte
	surplus := int64(s.remembered) - rememberAtMost
	err := kv.Scan([]byte{tableByAge}, []byte{tableByAge + 1}, func(key, _ []byte) (bool, error) {
		if len(key) < ageKeyHeaderLen {
			return false, fmt.Errorf("%w: age key of %d bytes", errState, len(key))
		}
		tooOld := binary.BigEndian.Uint64(key[1:]) < oldest
		if len(forgotten) == forgetPerWrite || (!tooOld && int64(len(forgotten)) >= surplus) {
			return false, nil
		}
		forgotten = append(forgotten, append([]byte(nil), key...))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, key := range forgotten {
		if err := kv.Delete(key); err != nil {
			return err
		}
		if err := kv.Delete(rememberedKey(string(key[ageKeyHeaderLen:]))); err != nil {
			return err
		}
		s.remembered--
	}
	return nil
}
