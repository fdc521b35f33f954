package crdt

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// MaxRegister holds an integer that writes can only raise: its value is the largest of the writes
// later than the last delete. Without such a write it is absent.
//
// Concurrent raises: the larger one is the value. A delete takes away every write before it in the
// order of (Time, Actor), whether it had seen that write or not, and none after it. No two events
// share both, because an actor's times rise strictly, so no tie is left to arrival order. A write
// that is not above the present value has no effect, also if a delete of that value arrives later.
//
// The state is the last delete and the writes that can be the value yet: a write is dropped if
// another one is as late and as large, or if the delete is not before it. What is left is a
// staircase: the later the write, the smaller its value. The earliest write is the value; the others
// are only there for a delete that comes between, and Collapse drops them when none can. An actor
// has at most one of them, because it writes a smaller value only after a delete, and the change
// carries that delete.
//
// Laws: Join is commutative, associative and idempotent; the zero MaxRegister, which was never
// written, is neutral. Size: about 15 bytes per actor that raised concurrently, and 12 once deleted.
// Garbage: a deleted register stays as a tombstone. It may go once no event at or before its
// DeletedAt can arrive.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types",
// INRIA RR-7506, 2011, for joins; Kung, Luccio, Preparata, "On Finding the Maxima of a Set of
// Vectors", JACM 1975, for the staircase.
type MaxRegister struct {
	deletedAt moment
	// writes ascend by moment, and so descend by value.
	writes  []maxWrite
	unknown Fields
}

// moment is an event's place in the order of events. The zero moment is before all of them.
type moment struct {
	time  hlc.Time
	actor Actor
}

func (m moment) compare(o moment) int {
	return cmp.Or(cmp.Compare(m.time, o.time), cmp.Compare(m.actor, o.actor))
}

// ExtremeWrite is a write that a MaxRegister or a MinRegister keeps.
type ExtremeWrite struct {
	Time  hlc.Time
	Actor Actor
	Value int64
}

type maxWrite struct {
	moment
	value int64
}

// Raise writes v as an event of actor at an instant after all that the actor had seen, and returns
// the change as a register to join elsewhere. It returns false, and changes nothing, if the value is
// v or more already, or if a later delete is known.
func (r *MaxRegister) Raise(at hlc.Time, actor Actor, v int64) (MaxRegister, bool) {
	write := maxWrite{moment{at, actor}, v}
	value, ok := r.Value()
	if ok && value >= v || write.compare(r.deletedAt) <= 0 {
		return MaxRegister{}, false
	}
	delta := MaxRegister{deletedAt: r.deletedAt, writes: []maxWrite{write}}
	r.Join(delta)
	return delta, true
}

// Delete takes away, as an event of actor, every write before it, and returns the change as a
// register to join elsewhere.
func (r *MaxRegister) Delete(at hlc.Time, actor Actor) MaxRegister {
	delta := MaxRegister{deletedAt: moment{at, actor}}
	r.Join(delta)
	return delta
}

// Value returns the largest write since the last delete, and whether there is one.
func (r MaxRegister) Value() (int64, bool) {
	if len(r.writes) == 0 {
		return 0, false
	}
	return r.writes[0].value, true
}

// DeletedAt returns the (Time, Actor) of the last delete; zeros if there was none.
func (r MaxRegister) DeletedAt() (hlc.Time, Actor) { return r.deletedAt.time, r.deletedAt.actor }

// Len returns how many writes are kept.
func (r MaxRegister) Len() int { return len(r.writes) }

// Collapse keeps of the writes at or before cut only the largest. Neither the value nor what later
// events make of it changes, if every event at or before cut is in the register: a delete after cut
// takes away all of these writes at once. Replicas that collapsed up to different cuts differ in
// their states and encodings, but not in their values.
func (r *MaxRegister) Collapse(cut hlc.Time) {
	later := slices.IndexFunc(r.writes, func(w maxWrite) bool { return w.time > cut })
	if later < 0 {
		later = len(r.writes)
	}
	if later > 1 {
		r.writes = slices.Delete(r.writes, 1, later)
	}
}

// Collect is Collapse for one who joins changes only, each once, and no whole registers: it drops the
// delete as well if it is at or before cut, because every change still to come is of a later event.
func (r *MaxRegister) Collect(cut hlc.Time) {
	r.Collapse(cut)
	if r.deletedAt.time <= cut {
		r.deletedAt = moment{}
	}
}

// Writes returns the writes that are kept, the one that is the value first.
func (r MaxRegister) Writes() []ExtremeWrite {
	writes := make([]ExtremeWrite, len(r.writes))
	for i, w := range r.writes {
		writes[i] = ExtremeWrite{Time: w.time, Actor: w.actor, Value: w.value}
	}
	return writes
}

// Join merges the writes and the delete of o, which may be a whole register or a change.
func (r *MaxRegister) Join(o MaxRegister) {
	if o.deletedAt.compare(r.deletedAt) > 0 {
		r.deletedAt = o.deletedAt
	}
	r.writes = staircase(slices.Concat(r.writes, o.writes), r.deletedAt)
	r.unknown = r.unknown.Join(o.unknown)
}

// staircase returns the writes that no delete and no other write makes superfluous, in ascending
// order. It uses the memory of writes.
func staircase(writes []maxWrite, deletedAt moment) []maxWrite {
	slices.SortFunc(writes, func(a, b maxWrite) int {
		return cmp.Or(b.compare(a.moment), cmp.Compare(b.value, a.value))
	})
	// From the latest write on, each must be larger than all that are later.
	kept := writes[:0]
	for _, w := range writes {
		if w.compare(deletedAt) > 0 && (len(kept) == 0 || w.value > kept[len(kept)-1].value) {
			kept = append(kept, w)
		}
	}
	slices.Reverse(kept)
	return kept
}

// Equal reports whether two registers have the same delete and the same writes.
func (r MaxRegister) Equal(o MaxRegister) bool {
	return r.deletedAt == o.deletedAt && r.unknown == o.unknown && slices.Equal(r.writes, o.writes)
}

// Clone returns a copy that shares no memory.
func (r MaxRegister) Clone() MaxRegister {
	return MaxRegister{r.deletedAt, slices.Clone(r.writes), r.unknown}
}

const maxRegisterDeleted = 1

// Append appends the register's encoding:
//
//	version 1 | flags 1 | the delete, if flag 1: time 8 | actor varint
//	then, to the end: time 8 | actor varint | value zigzag varint
//
// Flag 1 means that there was a delete. The writes ascend by (time, actor) from after the delete on,
// and descend by value.
func (r MaxRegister) Append(b []byte) []byte {
	b = appendVersion(b, r.unknown)
	if r.deletedAt == (moment{}) {
		b = append(b, 0)
	} else {
		b = appendMoment(append(b, maxRegisterDeleted), r.deletedAt)
	}
	for _, w := range r.writes {
		b = binary.AppendVarint(appendMoment(b, w.moment), w.value)
	}
	return b
}

func appendMoment(b []byte, m moment) []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(b, uint64(m.time)), uint64(m.actor))
}

// DecodeMaxRegister reads what Append wrote.
func DecodeMaxRegister(data []byte) (MaxRegister, error) {
	return readMaxRegister("max register", data)
}

func readMaxRegister(what string, data []byte) (MaxRegister, error) {
	r, unknown := newReader(what, data)
	flags := r.Byte()
	if flags&^maxRegisterDeleted != 0 {
		r.Fail("unknown flags %#x", flags)
	}
	reg := MaxRegister{unknown: unknown}
	if flags&maxRegisterDeleted != 0 {
		reg.deletedAt = readMoment(r)
		if reg.deletedAt == (moment{}) {
			r.Fail("delete flagged but 0")
		}
	}
	last := reg.deletedAt
	for r.Len() > 0 {
		w := maxWrite{readMoment(r), r.Varint()}
		if w.compare(last) <= 0 {
			r.Fail("write out of order, or not after the delete")
		}
		if n := len(reg.writes); n > 0 && w.value >= reg.writes[n-1].value {
			r.Fail("an earlier write that is not larger")
		}
		last = w.moment
		reg.writes = append(reg.writes, w)
	}
	if err := r.Done(); err != nil {
		return MaxRegister{}, err
	}
	return reg, nil
}

func readMoment(r *codec.Reader) moment {
	return moment{hlc.Time(r.Uint64()), Actor(r.Uvarint(maxActor))}
}
