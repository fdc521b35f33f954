package crdt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// Sibling is one of the values that a multi-value register has at once: Value, written by the event
// Dot at Time.
type Sibling struct {
	Dot   Dot
	Time  hlc.Time
	Value []byte
}

// Compare orders siblings as LWWRegister orders writes: by (Time, Actor).
func (s Sibling) Compare(o Sibling) int {
	return cmp.Or(cmp.Compare(s.Time, o.Time), cmp.Compare(s.Dot.Actor, o.Dot.Actor))
}

func (s Sibling) equal(o Sibling) bool {
	return s.Dot == o.Dot && s.Time == o.Time && bytes.Equal(s.Value, o.Value)
}

// MVRegister is a multi-value register: its values, the siblings, are those of the puts that no later
// put or delete observed. A put takes the place of the siblings it observed, and a delete removes
// them, so without concurrent puts there is one sibling or none. Concurrent puts all stay, for a
// reader to choose from or to merge with the next put; a put concurrent with a delete survives it.
//
// Tie rule: for readers that want one value, Latest is the sibling with the largest (Time, Actor). It
// is a way to read, not to merge: after a put is deleted, a concurrent one with a smaller time shows.
//
// The register has one causal context, the vector of all events it includes: a dot that the context
// covers and no sibling has was removed. So deletes leave no tombstone, and nothing waits for
// garbage collection. The context may cover events that have nothing to do with the register.
//
// Laws: Join is commutative, associative and idempotent; the zero MVRegister is neutral. The state
// after an operation is also its change: to join it elsewhere is to do there what was done here.
// Size: at most one sibling per actor that put concurrently, each about 14 bytes and the value, and
// the context.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Shapiro et al., "A comprehensive study of CRDTs", INRIA RR-7506, 2011, §3.2.2; Almeida, Shoker,
// Baquero, "Delta State Replicated Data Types", JPDC 2018, §7.
type MVRegister struct {
	// siblings ascend by dot, at most one per actor. The slice is replaced, never changed.
	siblings []Sibling
	context  VersionVector
	unknown  Fields
}

// Put makes value the only sibling as event d, which the context must not cover yet: it includes all
// earlier events of d's actor. at is the event's time. The register keeps value.
func (r *MVRegister) Put(d Dot, at hlc.Time, value []byte) {
	r.siblings = []Sibling{{d, at, value}}
	r.context.Set(d.Actor, d.Seq)
}

// Delete removes every sibling.
func (r *MVRegister) Delete() { r.siblings = nil }

// Siblings returns the values, in ascending order of dots. The slice is the caller's, the values are
// shared.
func (r MVRegister) Siblings() []Sibling { return slices.Clone(r.siblings) }

// Len returns the number of siblings. A register without any is absent.
func (r MVRegister) Len() int { return len(r.siblings) }

// Latest returns the sibling with the largest (Time, Actor), and false if there is none.
func (r MVRegister) Latest() (Sibling, bool) {
	if len(r.siblings) == 0 {
		return Sibling{}, false
	}
	return slices.MaxFunc(r.siblings, Sibling.Compare), true
}

// Context returns the events that the register includes.
func (r MVRegister) Context() VersionVector { return r.context.Clone() }

// Join merges the whole state of another replica of the register. It shares o's values.
func (r *MVRegister) Join(o MVRegister) {
	var joined []Sibling
	for _, d := range JoinDots(r.dots(), o.dots(), r.context.Covers, o.context.Covers) {
		s, ok := r.sibling(d)
		if !ok {
			s, _ = o.sibling(d)
		}
		joined = append(joined, s)
	}
	r.siblings = joined
	r.context.Join(o.context)
	r.unknown = r.unknown.Join(o.unknown)
}

func (r MVRegister) dots() DotSet {
	var dots DotSet
	for _, s := range r.siblings {
		dots = append(dots, s.Dot)
	}
	return dots
}

func (r MVRegister) sibling(d Dot) (Sibling, bool) {
	i, ok := slices.BinarySearchFunc(r.siblings, d, func(s Sibling, d Dot) int { return s.Dot.Compare(d) })
	if !ok {
		return Sibling{}, false
	}
	return r.siblings[i], true
}

// Equal reports whether two registers have the same siblings and context.
func (r MVRegister) Equal(o MVRegister) bool {
	return r.unknown == o.unknown && r.context.Equal(o.context) && slices.EqualFunc(r.siblings, o.siblings, Sibling.equal)
}

// Clone returns a copy that shares no memory that is ever changed.
func (r MVRegister) Clone() MVRegister { return MVRegister{r.siblings, r.context.Clone(), r.unknown} }

// Append appends the register's encoding:
//
//	version 1 | actors varint | that many (actor varint, seq varint): the context
//	then, to the end: actor varint | seq varint | time 8 | value (length varint, bytes)
//
// Actors ascend in both lists; the context covers the siblings.
func (r MVRegister) Append(b []byte) []byte {
	b = appendVersion(b, r.unknown)
	b = appendDots(b, r.context.entries)
	for _, s := range r.siblings {
		b = binary.BigEndian.AppendUint64(appendDot(b, s.Dot), uint64(s.Time))
		b = codec.AppendBytes(b, s.Value)
	}
	return b
}

// DecodeMVRegister reads what Append wrote. The values share data's memory.
func DecodeMVRegister(data []byte) (MVRegister, error) {
	r, unknown := newReader("mvregister", data)
	reg := MVRegister{context: readContext(r), unknown: unknown}
	for r.Len() > 0 {
		s := Sibling{Dot: readDot(r), Time: hlc.Time(r.Uint64()), Value: r.Bytes(MaxValueBytes)}
		if n := len(reg.siblings); n > 0 && reg.siblings[n-1].Dot.Actor >= s.Dot.Actor {
			r.Fail("siblings' actors out of order")
		}
		if !reg.context.Covers(s.Dot) {
			r.Fail("sibling outside of the context")
		}
		reg.siblings = append(reg.siblings, s)
	}
	if err := r.Done(); err != nil {
		return MVRegister{}, err
	}
	return reg, nil
}
