package region

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
)

// OutboxRecord is one delta of the outbox, or a run that stands for several.
type OutboxRecord struct {
	// First and Seq are the first and the last event that it stands for.
	First, Seq uint64
	Data       []byte
}

// OutboxState says which deltas the outbox keeps: those from First to Head. First is Head+1 if it
// is empty.
type OutboxState struct {
	Actor       crdt.Actor
	First, Head uint64
	// Bytes is what they take. FoldedBytes of them are in runs, which stand for FoldedEvents events.
	Bytes, FoldedBytes, FoldedEvents uint64
	// Appended is the size of all deltas that were ever in it.
	Appended uint64
}

// outboxBounds: the outbox keeps the deltas in (trimmed, head], of so many bytes; appended counts those of all that
// it ever had.
type outboxBounds struct {
	trimmed, head, bytes, appended uint64
	// What of bytes is in runs, and how many events these stand for.
	foldedBytes, foldedEvents uint64
}

// drop takes a pair out of the books.
func (b *outboxBounds) drop(p *outboxPair) {
	b.bytes -= min(b.bytes, p.size)
	if p.folded {
		b.foldedBytes -= min(b.foldedBytes, p.size)
		b.foldedEvents -= min(b.foldedEvents, p.seq+1-p.first)
	}
}

// The value of a pair of the outbox is a delta, or foldedMark, the first event's number and instant, and a run.
// Neither a delta nor a run begins with the mark.
const (
	foldedMark      = 0x20
	foldedHeadBytes = 1 + 8 + 8
)

// outboxPair is one pair of the outbox.
type outboxPair struct {
	// first and seq are the first and the last event that it stands for.
	first, seq uint64
	// at is the instant of the first event, only of a folded pair.
	at     hlc.Time
	folded bool
	// data is the delta or the run, in the store's memory; size is that of the whole value.
	data []byte
	size uint64
}

func readOutboxPair(key, value []byte) (outboxPair, error) {
	if len(key) != 1+8 {
		return outboxPair{}, fmt.Errorf("%w: outbox key of %d bytes", errState, len(key))
	}
	p := outboxPair{seq: binary.BigEndian.Uint64(key[1:]), data: value, size: uint64(len(value))}
	p.first = p.seq
	if len(value) == 0 || value[0] != foldedMark {
		return p, nil
	}
	if len(value) <= foldedHeadBytes {
		return outboxPair{}, fmt.Errorf("%w: run of %d bytes in the outbox", errState, len(value))
	}
	p.folded, p.data = true, value[foldedHeadBytes:]
	p.first, p.at = binary.BigEndian.Uint64(value[1:]), hlc.Time(binary.BigEndian.Uint64(value[9:]))
	return p, nil
}

// firstTime returns the instant of the first event that the pair stands for.
func (p *outboxPair) firstTime() (hlc.Time, error) {
	if p.folded {
		return p.at, nil
	}
	o, err := replica.ReadOutline(p.data)
	return o.First, err
}

func foldedValue(first uint64, at hlc.Time, run []byte) []byte {
	b := append(make([]byte, 0, foldedHeadBytes+len(run)), foldedMark)
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	return append(b, run...)
}

// scanOutbox visits the pairs from that which has an event on, until visit returns false. They are in the
// store's memory.
func scanOutbox(kv replica.KV, from uint64, visit func(p *outboxPair) (bool, error)) error {
	return kv.Scan(outboxKey(from), []byte{tableOutbox + 1}, func(key, value []byte) (bool, error) {
		p, err := readOutboxPair(key, value)
		if err != nil {
			return false, err
		}
		return visit(&p)
	})
}

// outbox is the outbox in one Apply.
type outbox struct {
	kv     replica.KV
	bounds *outboxBounds
	index  *outboxIndex
}

// add adds deltas, whose sequence numbers follow head without a gap.
func (o outbox) add(deltas []replica.Delta) error {
	for i := range deltas {
		data := replica.EncodeDelta(deltas[i])
		if want := o.bounds.head + 1; deltas[i].Dot.Seq != want {
			return fmt.Errorf("%w: delta %d follows %d in the outbox", errState, deltas[i].Dot.Seq, o.bounds.head)
		}
		o.bounds.head++
		o.bounds.bytes += uint64(len(data))
		o.bounds.appended += uint64(len(data))
		o.index.put(o.bounds.head, uint64(len(data)))
		if err := o.kv.Put(outboxKey(o.bounds.head), data); err != nil {
			return err
		}
	}
	return nil
}

// pass numbers deltas that no other region needs, and drops what is kept already.
func (o outbox) pass(count int) error {
	if err := o.trim(o.bounds.head); err != nil {
		return err
	}
	o.bounds.head += uint64(count)
	o.bounds.trimmed = o.bounds.head
	return nil
}

// trim removes the deltas up to and including seq, but for the run that stands for later ones too.
func (o outbox) trim(seq uint64) error {
	seq = min(seq, o.bounds.head)
	for o.bounds.trimmed < seq {
		pairs, err := o.upTo(seq)
		if err != nil {
			return err
		}
		if len(pairs) == 0 {
			return nil
		}
		for i := range pairs {
			if err := o.remove(&pairs[i]); err != nil {
				return err
			}
			o.bounds.trimmed = pairs[i].seq
		}
	}
	return nil
}

// trimChunk bounds what is remembered of the pairs that are to be removed.
const trimChunk = 1024

// upTo returns the first pairs of the outbox that stand for nothing after seq, without their data.
func (o outbox) upTo(seq uint64) ([]outboxPair, error) {
	var pairs []outboxPair
	next, empty := o.bounds.trimmed+1, true
	err := scanOutbox(o.kv, next, func(p *outboxPair) (bool, error) {
		empty = false
		if p.first != next {
			return false, fmt.Errorf("%w: delta %d is missing from the outbox", errState, next)
		}
		if p.seq > seq {
			return false, nil
		}
		next = p.seq + 1
		p.data = nil
		pairs = append(pairs, *p)
		return len(pairs) < trimChunk, nil
	})
	if err == nil && empty {
		err = fmt.Errorf("%w: delta %d is missing from the outbox", errState, next)
	}
	return pairs, err
}

// remove removes a pair.
func (o outbox) remove(p *outboxPair) error {
	o.bounds.drop(p)
	o.index.remove(p.seq, p.size)
	return o.kv.Delete(outboxKey(p.seq))
}

// readOutbox returns the records from that on which has an event, up to maxBytes but at least one if there
// is one.
func readOutbox(kv replica.KV, from uint64, maxBytes int) ([]OutboxRecord, error) {
	var records []OutboxRecord
	size := 0
	err := scanOutbox(kv, from, func(p *outboxPair) (bool, error) {
		if size += len(p.data); size > maxBytes && len(records) > 0 {
			return false, nil
		}
		records = append(records, OutboxRecord{First: p.first, Seq: p.seq, Data: slices.Clone(p.data)})
		return true, nil
	})
	return records, err
}

// FoldOutbox returns the run that stands for records of the outbox, which follow each other, encoded for
// Partition.Merge.
func FoldOutbox(records []OutboxRecord) ([]byte, error) {
	var runs []replica.Run
	plain := false // the last run is of deltas as they were made
	for _, r := range records {
		run, err := replica.DecodeRunOrDelta(r.Data)
		if err != nil {
			return nil, fmt.Errorf("fold up to event %d: %w", r.Seq, err)
		}
		isRun := replica.IsRun(r.Data)
		if n := len(runs); plain && !isRun && runs[n-1].To()+1 == run.From && runs[n-1].Actor() == run.Actor() {
			runs[n-1].Deltas = append(runs[n-1].Deltas, run.Deltas...)
			continue
		}
		runs, plain = append(runs, run), !isRun
	}
	run, err := replica.FoldRuns(runs...)
	if err != nil {
		return nil, fmt.Errorf("fold deltas: %w", err)
	}
	return replica.EncodeRun(run), nil
}
