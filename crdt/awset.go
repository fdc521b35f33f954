package crdt

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// AWSet is an add-wins set as one value: an element is in the set if some add of it was not observed
// by a later add, remove or clear. An add concurrent with a remove survives it.
//
// Each element has the dots of its surviving adds, and the set has one causal context, the vector of
// all events it includes: a dot that the context covers but no element has was removed. So removes
// leave no tombstones. The context may cover events that have nothing to do with the set.
//
// This is the whole-state form, for the laws and for users of this package. A region keeps its sets
// one element at a time, with the partition's vector as the context; package replica does that with
// the same JoinDots.
//
// Laws: Join is commutative, associative and idempotent; the zero AWSet is neutral. Size: the
// elements, about 6 bytes per concurrent add of each, and the context.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Bieniusa et al., "An Optimized Conflict-free Replicated Set", 2012, arXiv:1210.3368.
type AWSet struct {
	elements map[string]DotSet
	context  VersionVector
	unknown  Fields
}

// Add adds an element as event d, which the context must not cover yet: it includes all earlier
// events of d's actor. The add takes the place of the adds it observed.
func (s *AWSet) Add(d Dot, element string) {
	if s.elements == nil {
		s.elements = map[string]DotSet{}
	}
	s.elements[element] = DotSet{d}
	s.context.Set(d.Actor, d.Seq)
}

// Remove removes an element, if it is there.
func (s *AWSet) Remove(element string) { delete(s.elements, element) }

// Clear removes every element.
func (s *AWSet) Clear() { clear(s.elements) }

// Contains reports whether an element is in the set.
func (s AWSet) Contains(element string) bool { return len(s.elements[element]) > 0 }

// Len returns the number of elements.
func (s AWSet) Len() int { return len(s.elements) }

// Elements returns the elements in ascending order.
func (s AWSet) Elements() []string { return slices.Sorted(maps.Keys(s.elements)) }

// Dots returns the surviving adds of an element.
func (s AWSet) Dots(element string) DotSet { return s.elements[element] }

// Context returns the events that the set includes.
func (s AWSet) Context() VersionVector { return s.context.Clone() }

// Join merges the whole state of another replica of the set.
func (s *AWSet) Join(o AWSet) {
	joined := make(map[string]DotSet, max(len(s.elements), len(o.elements)))
	join := func(element string) {
		dots := JoinDots(s.elements[element], o.elements[element], s.context.Covers, o.context.Covers)
		if len(dots) > 0 {
			joined[element] = dots
		}
	}
	for element := range s.elements {
		join(element)
	}
	for element := range o.elements {
		join(element)
	}
	s.elements = joined
	s.context.Join(o.context)
	s.unknown = s.unknown.Join(o.unknown)
}

// Equal reports whether two sets have the same elements, dots and context.
func (s AWSet) Equal(o AWSet) bool {
	return s.unknown == o.unknown && s.context.Equal(o.context) &&
		maps.EqualFunc(s.elements, o.elements, func(a, b DotSet) bool { return slices.Equal(a, b) })
}

// Clone returns a copy that shares no memory that is ever changed.
func (s AWSet) Clone() AWSet { return AWSet{maps.Clone(s.elements), s.context.Clone(), s.unknown} }

// Append appends the set's encoding:
//
//	version 1 | actors varint | that many (actor varint, seq varint): the context
//	then, to the end: element (length varint, bytes) | dots varint | that many (actor varint, seq varint)
//
// Actors, elements and dots ascend.
func (s AWSet) Append(b []byte) []byte {
	b = appendVersion(b, s.unknown)
	b = appendDots(b, s.context.entries)
	for _, element := range s.Elements() {
		b = appendDots(codec.AppendBytes(b, element), s.elements[element])
	}
	return b
}

func appendDots(b []byte, dots []Dot) []byte {
	b = binary.AppendUvarint(b, uint64(len(dots)))
	for _, d := range dots {
		b = appendDot(b, d)
	}
	return b
}

// DecodeAWSet reads what Append wrote.
func DecodeAWSet(data []byte) (AWSet, error) {
	r, unknown := newReader("set", data)
	s := AWSet{elements: map[string]DotSet{}, context: readContext(r), unknown: unknown}
	last := ""
	for r.Len() > 0 {
		element := string(r.Bytes(MaxElementBytes))
		if element <= last {
			r.Fail("element empty or out of order")
		}
		last = element
		dots := readDots(r)
		if len(dots) == 0 || slices.ContainsFunc(dots, func(d Dot) bool { return !s.context.Covers(d) }) {
			r.Fail("element without dots, or with one outside of the context")
		}
		s.elements[element] = dots
	}
	if err := r.Done(); err != nil {
		return AWSet{}, err
	}
	return s, nil
}

// readDots reads a counted list of ascending dots.
func readDots(r *codec.Reader) DotSet {
	n := r.Count(2)
	dots := make(DotSet, 0, n)
	for range n {
		d := readDot(r)
		if k := len(dots); k > 0 && dots[k-1].Compare(d) >= 0 {
			r.Fail("dots out of order")
		}
		dots = append(dots, d)
	}
	return dots
}
