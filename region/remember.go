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
//
// While another region has not been heard of for as long, they are kept longer: a duplicate may be on its way.
const (
	rememberFor     = 15 * time.Minute
	rememberAtMost  = 1 << 17
	rememberLongest = 24 * time.Hour
)

// windowBefore returns the instant before which nothing is remembered at another one.
func windowBefore(now hlc.Time) hlc.Time { return earlier(now, rememberFor) }

func earlier(t hlc.Time, by time.Duration) hlc.Time {
	if ms := by.Milliseconds(); t.Millis() > ms {
		return hlc.At(t.Millis()-ms, 0)
	}
	return 0
}

// horizon returns the instant up to which all regions that this one ever heard of were heard of, but for those that
// were silent for too long.
func (a *application) horizon(now hlc.Time) hlc.Time {
	horizon := now
	for _, d := range a.replica.Vector().Entries() {
		if d.Actor != a.replica.Self() {
			horizon = min(horizon, a.replica.HLCOf(d.Actor))
		}
	}
	return max(horizon, earlier(now, rememberLongest))
}

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
	record, _, err := m.record(kv, now, xxh3.HashString128(w.GetOpId()))
	if err != nil {
		return nil, false, err
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

// record returns the record that has an op_id, and its place in the storage: now and 0 if none has.
func (m *memory) record(kv replica.KV, now *logv1.RememberedEntry, id xxh3.Uint128) (*logv1.RememberedEntry, uint64, error) {
	index, known := m.entryOf[id]
	if !known {
		return now, 0, nil
	}
	data, ok, err := kv.Get(rememberedKey(index))
	if err != nil {
		return nil, 0, err
	}
	record := &logv1.RememberedEntry{}
	if err := proto.Unmarshal(data, record); err != nil || !ok {
		return nil, 0, fmt.Errorf("%w: remembered entry %d: %v", errState, index, err)
	}
	return record, index, nil
}

// release returns what a write of this region added, if it is remembered, and forgets that: it is taken back once.
func (m *memory) release(kv replica.KV, now *logv1.RememberedEntry, id replica.WriteID) ([]replica.Addition, error) {
	record, index, err := m.record(kv, now, hashOf(id.ID))
	if err != nil {
		return nil, err
	}
	for _, r := range record.GetWrites() {
		if len(r.GetAdditions()) == 0 || r.GetFingerprint() != id.Fingerprint || opIDOf(r.GetOpId()) != id.ID {
			continue
		}
		additions := decodeAdditions(r.GetAdditions())
		r.Additions = nil
		if index == 0 {
			return additions, nil
		}
		return additions, m.store(kv, index, record)
	}
	return nil, nil
}

// opIDOf returns what an op_id is called between regions.
func opIDOf(opID string) replica.OpID { return xxh3.HashString128(opID).Bytes() }

// hashOf is the reverse, as far as that can be.
func hashOf(id replica.OpID) xxh3.Uint128 {
	return xxh3.Uint128{Hi: binary.BigEndian.Uint64(id[:8]), Lo: binary.BigEndian.Uint64(id[8:])}
}

// writeIDOf names a write, and tells it from another one under its op_id.
func writeIDOf(w *logv1.WriteCommand) replica.WriteID {
	return replica.WriteID{ID: opIDOf(w.GetOpId()), Fingerprint: fingerprint(w.GetOperations())}
}

// remember adds a write to its entry's record: what it answered, and what it added, should that have to be taken back.
func (a *application) remember(w *logv1.WriteCommand, id replica.WriteID, outcomes []replica.Outcome, added []replica.Addition) {
	a.remembered.Writes = append(a.remembered.Writes, &logv1.RememberedWrite{
		OpId: w.GetOpId(), Fingerprint: id.Fingerprint, Outcomes: encodeOutcomes(outcomes), Additions: encodeAdditions(added),
	})
}

func (m *memory) store(kv replica.KV, index uint64, record *logv1.RememberedEntry) error {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode remembered entry: %w", err)
	}
	return kv.Put(rememberedKey(index), data)
}

// keepRemembered stores the entry's record, and forgets those that are too old or too many.
func (a *application) keepRemembered(now hlc.Time) error {
	record, m := a.remembered, a.memory
	if len(record.GetWrites()) == 0 {
		return nil
	}
	record.Hlc = uint64(now)
	if err := m.store(a.kv, a.entryIndex, record); err != nil {
		return err
	}
	m.add(a.entryIndex, record)
	a.state.remembered += uint64(len(record.GetWrites()))
	return m.forget(a.kv, a.state, a.horizon(now))
}

// forget drops what is older than the window before the horizon, and what there is too much of.
func (m *memory) forget(kv replica.KV, s *machineState, horizon hlc.Time) error {
	limit := windowBefore(horizon)
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
