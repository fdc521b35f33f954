package crdt

import (
	"cmp"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// VersionVector says, per actor, up to which sequence number its events are included, all of them:
// it stands for the set of dots {(a, n) | n ≤ v[a]}. The zero value includes nothing.
//
// It is a small sorted slice, because there is about one actor per region. A copy by assignment
// shares memory with the original: Clone before changing either.
type VersionVector struct {
	entries []Dot
}

// Get returns a's sequence number, 0 if there is none.
func (v VersionVector) Get(a Actor) uint64 {
	if i, ok := v.search(a); ok {
		return v.entries[i].Seq
	}
	return 0
}

// Set sets a's sequence number; 0 removes a.
func (v *VersionVector) Set(a Actor, seq uint64) {
	i, ok := v.search(a)
	switch {
	case ok && seq == 0:
		v.entries = slices.Delete(v.entries, i, i+1)
	case ok:
		v.entries[i].Seq = seq
	case seq != 0:
		v.entries = slices.Insert(v.entries, i, Dot{a, seq})
	}
}

// Covers reports whether d is included.
func (v VersionVector) Covers(d Dot) bool { return d.Seq <= v.Get(d.Actor) }

// Join includes all that o includes.
func (v *VersionVector) Join(o VersionVector) {
	for _, e := range o.entries {
		if e.Seq > v.Get(e.Actor) {
			v.Set(e.Actor, e.Seq)
		}
	}
}

// Descends reports whether v includes all that o includes; so does o itself.
func (v VersionVector) Descends(o VersionVector) bool {
	return !slices.ContainsFunc(o.entries, func(e Dot) bool { return !v.Covers(e) })
}

// Equal reports whether both include the same.
func (v VersionVector) Equal(o VersionVector) bool { return slices.Equal(v.entries, o.entries) }

// Clone returns a copy that shares no memory.
func (v VersionVector) Clone() VersionVector { return VersionVector{slices.Clone(v.entries)} }

// Len returns the number of actors of which anything is included.
func (v VersionVector) Len() int { return len(v.entries) }

// Each calls visit for every actor of which anything is included, in ascending order.
func (v VersionVector) Each(visit func(a Actor, seq uint64)) {
	for _, e := range v.entries {
		visit(e.Actor, e.Seq)
	}
}

// Entries returns the last included dot of every actor, in ascending order. It is the caller's.
func (v VersionVector) Entries() []Dot { return slices.Clone(v.entries) }

func (v VersionVector) search(a Actor) (int, bool) {
	return slices.BinarySearchFunc(v.entries, a, func(e Dot, a Actor) int { return cmp.Compare(e.Actor, a) })
}

// Append appends the vector's encoding: the version, then actor and sequence number as varints, in
// ascending order of actors, to the end.
func (v VersionVector) Append(b []byte) []byte {
	b = append(b, codecVersion)
	for _, e := range v.entries {
		b = appendDot(b, e)
	}
	return b
}

// DecodeVersionVector reads what Append wrote.
func DecodeVersionVector(data []byte) (VersionVector, error) {
	r := codec.NewReader("version vector", data, codecVersion)
	var v VersionVector
	for r.Len() > 0 {
		d := readDot(r)
		if n := len(v.entries); n > 0 && v.entries[n-1].Actor >= d.Actor {
			r.Fail("actors out of order")
		}
		v.entries = append(v.entries, d)
	}
	if err := r.Done(); err != nil {
		return VersionVector{}, err
	}
	return v, nil
}

// readContext reads a counted list of dots, one per actor, as the causal context of a whole state.
func readContext(r *codec.Reader) VersionVector {
	dots := readDots(r)
	for i := 1; i < len(dots); i++ {
		if dots[i].Actor == dots[i-1].Actor {
			r.Fail("actor %d twice in the context", dots[i].Actor)
		}
	}
	return VersionVector{dots}
}
