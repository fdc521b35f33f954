package region

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// How long, and how many, writes with an op_id are remembered per partition, so that a retry answers
// like the first attempt and changes nothing. The window is judged by the partition's hybrid logical
// clock, so that every replica forgets the same op_ids at the same entry.
const (
	rememberFor    = 15 * time.Minute
	rememberAtMost = 1 << 17
)

// memory knows the writes that are remembered. The storage has one record per log entry; which record
// has an op_id is found in memory, where it is named by its hash of 128 bits.
type memory struct {
	entryOf map[xxh3.Uint128]uint64
	oldest  []remembered // by entry, from the front
}

// remembered is one record of the storage.
type remembered struct {
	index uint64
	hlc   hlc.Time
	ids   []xxh3.Uint128
}

// loadMemory reads what the storage remembers.
func loadMemory(kv replica.KV) (*memory, error) {
	m := &memory{entryOf: map[xxh3.Uint128]uint64{}}
	err := kv.Scan([]byte{tableRemembered}, []byte{tableRemembered + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 1+8 {
			return false, fmt.Errorf("%w: key of a remembered entry of %d bytes", errState, len(key))
		}
		record := &logv1.RememberedEntry{}
		if err := proto.Unmarshal(value, record); err != nil {
			return false, fmt.Errorf("%w: %w", errState, err)
		}
		m.add(binary.BigEndian.Uint64(key[1:]), record)
		return true, nil
	})
	return m, err
}

func (m *memory) add(index uint64, record *logv1.RememberedEntry) {
	r := remembered{index: index, hlc: hlc.Time(record.GetHlc()), ids: make([]xxh3.Uint128, len(record.GetWrites()))}
	for i, w := range record.GetWrites() {
		r.ids[i] = xxh3.HashString128(w.GetOpId())
		m.entryOf[r.ids[i]] = index
	}
	m.oldest = append(m.oldest, r)
}

// recall returns what the write with this op_id answered, if it is remembered. now holds the writes of
// the entry that is being applied.
func (m *memory) recall(
	kv replica.KV, now *logv1.RememberedEntry, w *logv1.WriteCommand,
) (outcomes []replica.Outcome, ok bool, err error) {
	record := now
	index, known := m.entryOf[xxh3.HashString128(w.GetOpId())]
	if known {
		data, ok, err := kv.Get(rememberedKey(index))
		if err != nil {
			return nil, false, err
		}
		record = &logv1.RememberedEntry{}
		if err := proto.Unmarshal(data, record); err != nil || !ok {
			return nil, false, fmt.Errorf("%w: remembered entry %d: %v", errState, index, err)
		}
	}
	for _, r := range record.GetWrites() {
		if r.GetOpId() != w.GetOpId() {
			continue
		}
		if r.GetFingerprint() != fingerprint(w.GetOperations()) {
			return nil, false, ErrOpIDReused
		}
		return decodeOutcomes(r.GetOutcomes()), true, nil
	}
	return nil, false, nil
}

// remember adds what a write answered to the entry's record.
func remember(now *logv1.RememberedEntry, w *logv1.WriteCommand, outcomes []replica.Outcome) {
	now.Writes = append(now.Writes, &logv1.RememberedWrite{
		OpId: w.GetOpId(), Fingerprint: fingerprint(w.GetOperations()), Outcomes: encodeOutcomes(outcomes),
	})
}

// keep stores an entry's record, and forgets those that are too old or too many.
func (m *memory) keep(kv replica.KV, s *machineState, index uint64, record *logv1.RememberedEntry, now hlc.Time) error {
	if len(record.GetWrites()) == 0 {
		return nil
	}
	record.Hlc = uint64(now)
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode remembered entry: %w", err)
	}
	if err := kv.Put(rememberedKey(index), data); err != nil {
		return err
	}
	m.add(index, record)
	s.remembered += uint64(len(record.GetWrites()))
	return m.forget(kv, s, now)
}

func (m *memory) forget(kv replica.KV, s *machineState, now hlc.Time) error {
	limit := hlc.Time(0)
	if window := rememberFor.Milliseconds(); now.Millis() > window {
		limit = hlc.At(now.Millis()-window, 0)
	}
	for len(m.oldest) > 1 && (m.oldest[0].hlc < limit || s.remembered > rememberAtMost) {
		first := m.oldest[0]
		if err := kv.Delete(rememberedKey(first.index)); err != nil {
			return err
		}
		for _, id := range first.ids {
			if m.entryOf[id] == first.index {
				delete(m.entryOf, id)
			}
		}
		s.remembered -= min(s.remembered, uint64(len(first.ids)))
		m.oldest[0] = remembered{}
		m.oldest = m.oldest[1:]
	}
	return nil
}
