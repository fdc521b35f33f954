package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// OpID stands for the operation id that a client gave a write: 128 bits of a hash of it.
type OpID [16]byte

// WriteID names a client's write, and tells it from another one under the same operation id.
type WriteID struct {
	ID          OpID
	Fingerprint uint64
}

// Write says that a client's write was executed, so that who has merged it knows a retry. It travels in the
// last delta that the write made: who has that has all that the write did.
type Write struct {
	WriteID
	// Seq and Time are those of the write's last event. They are the delta's own unless it was folded away.
	Seq  uint64
	Time hlc.Time
	// versions has of each operation 0 if it had no version of its own, else 1 plus twice by how many events it was
	// before the last one, and one more if the version is that of a register. Of a write of many operations it
	// has none.
	versions []uint64
}

const (
	// maxWriteVersions is how many operations a write has at most for its versions to travel.
	maxWriteVersions = 64
	// maxWriteEvents is at least as many events as such a write makes: each operation one, and one more of each
	// type for what had expired.
	maxWriteEvents = 1 << 12
	// MaxWrites bounds the writes that a delta, or a run, tells of. Folding keeps the last.
	MaxWrites = 1 << 16
	// writeBytes is the size of the shortest write.
	writeBytes = 16 + 8 + 2
)

// Outcomes returns what can be known elsewhere of what the write's operations answered: their versions, "" where
// an operation had no effect, or the write had many. author is who executed it.
func (w *Write) Outcomes(author crdt.Actor, operations int) []Outcome {
	outcomes := make([]Outcome, operations)
	if len(w.versions) != operations {
		return outcomes
	}
	for i, v := range w.versions {
		if v == 0 {
			continue
		}
		before := (v - 1) >> 1
		dot := crdt.Dot{Actor: author, Seq: w.Seq - before}
		if (v-1)&1 == 0 {
			outcomes[i].Version = dot.String()
			continue
		}
		// The events of a write have consecutive instants.
		register := crdt.LWWRegister{Time: w.Time - hlc.Time(before), Actor: dot.Actor, Seq: dot.Seq}
		outcomes[i].Version = register.Version()
	}
	return outcomes
}

// fault returns what about a write no honest replica says in a delta, or "".
func (w *Write) fault(d *Delta) string {
	if w.Seq == 0 || w.Seq > d.Dot.Seq || w.Time == 0 || w.Time > d.Time || (w.Seq == d.Dot.Seq) != (w.Time == d.Time) {
		return "write of another event"
	}
	if len(w.versions) > maxWriteVersions {
		return "too many versions of a write"
	}
	for _, v := range w.versions {
		if v != 0 && (v>>1 > maxWriteEvents || (v-1)>>1 >= w.Seq || (v-1)>>1 >= uint64(w.Time)) {
			return "version of no event"
		}
	}
	return ""
}

// append appends the encoding, as part of a delta.
func (w *Write) append(b []byte, d *Delta) []byte {
	b = binary.BigEndian.AppendUint64(append(b, w.ID[:]...), w.Fingerprint)
	b = binary.AppendUvarint(b, d.Dot.Seq-w.Seq)
	if w.Seq != d.Dot.Seq {
		b = binary.AppendUvarint(b, uint64(d.Time-w.Time))
	}
	b = binary.AppendUvarint(b, uint64(len(w.versions)))
	for _, v := range w.versions {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendWrites(b []byte, d *Delta) []byte {
	b = binary.AppendUvarint(b, uint64(len(d.Writes)))
	for i := range d.Writes {
		b = d.Writes[i].append(b, d)
	}
	return b
}

// readWrites reads what appendWrites wrote of a delta whose dot and time are known.
func readWrites(r *codec.Reader, d *Delta) []Write {
	n := r.Count(writeBytes)
	if n > MaxWrites {
		r.Fail("%d writes", n)
	}
	if n == 0 || !r.OK() {
		return nil
	}
	writes := make([]Write, 0, n)
	for i := 0; i < n && r.OK(); i++ {
		w := Write{Seq: d.Dot.Seq, Time: d.Time}
		high, low := r.Uint64(), r.Uint64()
		binary.BigEndian.PutUint64(w.ID[:8], high)
		binary.BigEndian.PutUint64(w.ID[8:], low)
		w.Fingerprint = r.Uint64()
		if before := r.Uvarint(d.Dot.Seq); before != 0 {
			w.Seq, w.Time = d.Dot.Seq-before, d.Time-hlc.Time(r.Uvarint(uint64(d.Time)))
		}
		versions := r.Count(1)
		if versions > maxWriteVersions {
			r.Fail("%d versions of a write", versions)
			break
		}
		for range versions {
			w.versions = append(w.versions, r.Uvarint(^uint64(0)))
		}
		writes = append(writes, w)
	}
	return writes
}

// writesFault returns what about a delta's writes no honest replica says, or "".
func (d *Delta) writesFault() string {
	if len(d.Writes) > MaxWrites {
		return fmt.Sprintf("%d writes", len(d.Writes))
	}
	for i := range d.Writes {
		if reason := d.Writes[i].fault(d); reason != "" {
			return reason
		}
		if i > 0 && d.Writes[i].Seq < d.Writes[i-1].Seq {
			return "writes out of order"
		}
	}
	return ""
}

// lastWrites leaves the last writes of deltas: as many as one encoding may tell of.
func lastWrites(deltas []Delta) {
	room := MaxWrites
	for i := len(deltas) - 1; i >= 0; i-- {
		d := &deltas[i]
		d.Writes = d.Writes[max(0, len(d.Writes)-room):]
		room -= len(d.Writes)
	}
}

// ExecuteWrite is Execute of client's writes with the given names: all of them are the operations, or parts of
// what they add up to. The last delta tells of the writes; if there is none, they did nothing, and nobody need
// know. additions are what the operations added, should it have to be taken back.
func (r *Replica) ExecuteWrite(now hlc.Time, ops []Op, writes ...WriteID) (outcomes []Outcome, deltas []Delta, additions []Addition, err error) {
	done, err := r.executeAll(now, ops)
	if err != nil || len(writes) == 0 || len(done.deltas) == 0 {
		return done.outcomes, done.deltas, nil, err
	}
	last := &done.deltas[len(done.deltas)-1]
	versions := done.versions()
	last.Writes = make([]Write, len(writes))
	for i, id := range writes {
		last.Writes[i] = Write{WriteID: id, Seq: last.Dot.Seq, Time: last.Time, versions: versions}
	}
	for i, at := range done.events {
		if at < 0 {
			continue
		}
		if a, adds := additionOf(&ops[i], &done.deltas[at]); adds {
			additions = append(additions, a)
		}
	}
	return done.outcomes, done.deltas, additions, nil
}

// executed is what operations did.
type executed struct {
	outcomes []Outcome
	deltas   []Delta
	// events has of each operation which of the deltas is its own, -1 if none is.
	events []int
}

// versions returns Write.versions.
func (e *executed) versions() []uint64 {
	if len(e.events) > maxWriteVersions {
		return nil
	}
	versions := make([]uint64, len(e.events))
	for i, at := range e.events {
		if at < 0 {
			continue
		}
		effects := e.deltas[at].Effects
		value := slices.IndexFunc(effects, func(e Effect) bool { return e.Type&deadlineBit == 0 })
		if value < 0 { // the deadline alone: the version stays
			continue
		}
		versions[i] = 1 + uint64(len(e.deltas)-1-at)<<1
		if effects[value].Type == crdt.TypeLWWRegister {
			versions[i]++
		}
	}
	return versions
}
