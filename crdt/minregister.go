package crdt

import "github.com/atolldb/atoll/hlc"

// MinRegister holds an integer that writes can only lower: its value is the smallest of the writes
// later than the last delete. Without such a write it is absent.
//
// All else is as in MaxRegister: the order of deletes and writes, laws, size, garbage. It is one
// whose values are bitwise complements, because v is the smallest exactly if ^v is the largest, and
// unlike -v every int64 has one.
//
// A copy by assignment shares memory with the original: Clone before changing either.
type MinRegister struct {
	complement MaxRegister
}

// Lower writes v as an event of actor at an instant after all that the actor had seen, and returns
// the change as a register to join elsewhere. It returns false, and changes nothing, if the value is
// v or less already, or if a later delete is known.
func (r *MinRegister) Lower(at hlc.Time, actor Actor, v int64) (MinRegister, bool) {
	delta, ok := r.complement.Raise(at, actor, ^v)
	return MinRegister{delta}, ok
}

// Delete takes away, as an event of actor, every write before it, and returns the change as a
// register to join elsewhere.
func (r *MinRegister) Delete(at hlc.Time, actor Actor) MinRegister {
	return MinRegister{r.complement.Delete(at, actor)}
}

// Value returns the smallest write since the last delete, and whether there is one.
func (r MinRegister) Value() (int64, bool) {
	v, ok := r.complement.Value()
	if !ok {
		return 0, false
	}
	return ^v, true
}

// DeletedAt returns the (Time, Actor) of the last delete; zeros if there was none.
func (r MinRegister) DeletedAt() (hlc.Time, Actor) { return r.complement.DeletedAt() }

// Len returns how many writes are kept.
func (r MinRegister) Len() int { return r.complement.Len() }

// Collapse keeps of the writes at or before cut only the smallest, as MaxRegister.Collapse does.
func (r *MinRegister) Collapse(cut hlc.Time) { r.complement.Collapse(cut) }

// Collect drops the delete as well, as MaxRegister.Collect does.
func (r *MinRegister) Collect(cut hlc.Time) { r.complement.Collect(cut) }

// Writes returns the writes that are kept, the one that is the value first.
func (r MinRegister) Writes() []ExtremeWrite {
	writes := r.complement.Writes()
	for i := range writes {
		writes[i].Value = ^writes[i].Value
	}
	return writes
}

// Join merges the writes and the delete of o, which may be a whole register or a change.
func (r *MinRegister) Join(o MinRegister) { r.complement.Join(o.complement) }

// Equal reports whether two registers have the same delete and the same writes.
func (r MinRegister) Equal(o MinRegister) bool { return r.complement.Equal(o.complement) }

// Clone returns a copy that shares no memory.
func (r MinRegister) Clone() MinRegister { return MinRegister{r.complement.Clone()} }

// Append appends the register's encoding: that of a MaxRegister of the complements, so that a write
// of v has the value ^v there.
func (r MinRegister) Append(b []byte) []byte { return r.complement.Append(b) }

// DecodeMinRegister reads what Append wrote.
func DecodeMinRegister(data []byte) (MinRegister, error) {
	reg, err := readMaxRegister("min register", data)
	return MinRegister{reg}, err
}
