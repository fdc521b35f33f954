package region

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// Watermark says that a region has durably applied an actor's events up to a sequence number.
type Watermark struct {
	Region topology.RegionID
	Actor  crdt.Actor
	Seq    uint64
}

// OutboxRecord is one delta of the outbox.
type OutboxRecord struct {
	Seq  uint64
	Data []byte
}

// OutboxState says which deltas the outbox keeps: those from First to Head. First is Head+1 if it
// is empty.
type OutboxState struct {
	Actor       crdt.Actor
	First, Head uint64
	Bytes       uint64
}

// outboxBounds: the outbox keeps the deltas in (trimmed, head].
type outboxBounds struct {
	trimmed, head, bytes uint64
}

// appendOutbox adds deltas, whose sequence numbers follow head without a gap.
func appendOutbox(kv replica.KV, bounds *outboxBounds, deltas []replica.Delta) error {
	for i := range deltas {
		data := replica.EncodeDelta(deltas[i])
		if want := bounds.head + 1; deltas[i].Dot.Seq != want {
			return fmt.Errorf("%w: delta %d follows %d in the outbox", errState, deltas[i].Dot.Seq, bounds.head)
		}
		bounds.head++
		bounds.bytes += uint64(len(data))
		if err := kv.Put(outboxKey(bounds.head), data); err != nil {
			return err
		}
	}
	return nil
}

// passOutbox numbers deltas that no other region needs, and drops what is kept already.
func passOutbox(kv replica.KV, bounds *outboxBounds, count int) error {
	if err := trimOutbox(kv, bounds, bounds.head); err != nil {
		return err
	}
	bounds.head += uint64(count)
	bounds.trimmed = bounds.head
	return nil
}

// trimOutbox removes the deltas up to and including seq.
func trimOutbox(kv replica.KV, bounds *outboxBounds, seq uint64) error {
	seq = min(seq, bounds.head)
	for ; bounds.trimmed < seq; bounds.trimmed++ {
		key := outboxKey(bounds.trimmed + 1)
		data, ok, err := kv.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: delta %d is missing from the outbox", errState, bounds.trimmed+1)
		}
		bounds.bytes -= min(bounds.bytes, uint64(len(data)))
		if err := kv.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// readOutbox returns the deltas from a sequence number on, up to maxBytes but at least one if there
// is one.
func readOutbox(kv replica.KV, from uint64, maxBytes int) ([]OutboxRecord, error) {
	var records []OutboxRecord
	size := 0
	err := kv.Scan(outboxKey(from), []byte{tableOutbox + 1}, func(key, value []byte) (bool, error) {
		if len(key) != 1+8 {
			return false, fmt.Errorf("%w: outbox key of %d bytes", errState, len(key))
		}
		if size += len(value); size > maxBytes && len(records) > 0 {
			return false, nil
		}
		records = append(records, OutboxRecord{Seq: binary.BigEndian.Uint64(key[1:]), Data: slices.Clone(value)})
		return true, nil
	})
	return records, err
}

// FoldOutbox returns the run that stands for deltas of the outbox, which follow each other, encoded for
// Partition.Merge.
func FoldOutbox(records []OutboxRecord) ([]byte, error) {
	deltas := make([]replica.Delta, len(records))
	for i, r := range records {
		var err error
		if deltas[i], err = replica.DecodeDelta(r.Data); err != nil {
			return nil, fmt.Errorf("fold delta %d: %w", r.Seq, err)
		}
	}
	run, err := replica.Fold(deltas)
	if err != nil {
		return nil, fmt.Errorf("fold deltas: %w", err)
	}
	return replica.EncodeRun(run), nil
}

// acknowledge takes over watermarks, which only ever rise, and trims the outbox. It never trims
// past what the watermarks it trims for say: a leader's mistake must not lose a delta.
func acknowledge(kv replica.KV, s *machineState, self crdt.Actor, c *logv1.AcknowledgeCommand) error {
	for _, w := range c.GetWatermarks() {
		k := watermarkKey{topology.RegionID(w.GetRegion()), crdt.Actor(w.GetActor())}
		s.watermarks[k] = max(s.watermarks[k], w.GetSeq())
	}
	trim := c.GetTrimTo()
	for k, seq := range s.watermarks {
		if k.actor == self {
			trim = min(trim, seq)
		}
	}
	return trimOutbox(kv, &s.outbox, trim)
}

func (s *machineState) sortedQueues() []*logv1.QueuePosition {
	var sorted []*logv1.QueuePosition
	for _, queue := range slices.Sorted(maps.Keys(s.queues)) {
		sorted = append(sorted, &logv1.QueuePosition{Queue: queue, Seq: s.queues[queue]})
	}
	return sorted
}

func (s *machineState) sortedWatermarks() []*logv1.Watermark {
	keys := slices.SortedFunc(maps.Keys(s.watermarks), func(a, b watermarkKey) int {
		return cmp.Or(cmp.Compare(a.region, b.region), cmp.Compare(a.actor, b.actor))
	})
	sorted := make([]*logv1.Watermark, len(keys))
	for i, k := range keys {
		sorted[i] = &logv1.Watermark{Region: uint32(k.region), Actor: uint32(k.actor), Seq: s.watermarks[k]}
	}
	return sorted
}
