package replica

import (
	"bytes"
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

const setCleared = 1

// SetChange is the change of a set.
type SetChange struct {
	// Cleared is not nil if the set was cleared: every add that it includes is gone.
	Cleared *crdt.VersionVector
	// Elements are the changed elements in ascending order.
	Elements []ElementChange
}

// ElementChange is the change of one element of a set.
type ElementChange struct {
	Element []byte
	// Added means that the delta's dot was added.
	Added bool
	// Removed are the adds that were observed and are gone.
	Removed crdt.DotSet
}

func (s *SetChange) append(b []byte) []byte {
	if s.Cleared != nil {
		b = codec.AppendBytes(append(b, setCleared), s.Cleared.Append(nil))
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Elements)))
	for i := range s.Elements {
		e := &s.Elements[i]
		b = codec.AppendBytes(b, e.Element)
		n := uint64(len(e.Removed)) << 1
		if e.Added {
			n |= 1
		}
		b = binary.AppendUvarint(b, n)
		for _, d := range e.Removed {
			b = appendDot(b, d)
		}
	}
	return b
}

func (setKind) owns(c Change) bool { _, ok := c.(*SetChange); return ok }

func (setKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	s := &SetChange{}
	switch flags := r.Byte(); flags {
	case 0:
	case setCleared:
		v, err := crdt.DecodeVersionVector(r.Bytes(r.Len()))
		if err != nil {
			r.FailWith(err)
		}
		s.Cleared = &v
	default:
		r.Fail("unknown set flags %#x", flags)
	}
	for range r.Count(3) { // an element has its length, at least one byte, and its dots
		s.Elements = append(s.Elements, readElementChange(r))
		if !r.OK() {
			break
		}
	}
	return s
}

func readElementChange(r *codec.Reader) ElementChange {
	e := ElementChange{Element: r.Bytes(crdt.MaxElementBytes)}
	n := r.Uvarint(^uint64(0))
	e.Added = n&1 != 0
	if n >>= 1; n > uint64(r.Len()/2) {
		r.Fail("%d dots cannot be in %d bytes", n, r.Len())
		return e
	}
	for range n {
		e.Removed = append(e.Removed, readDot(r))
	}
	return e
}

func (s *SetChange) names(a crdt.Actor) (seq uint64) {
	if s.Cleared != nil {
		seq = s.Cleared.Get(a)
	}
	for i := range s.Elements {
		for _, dot := range s.Elements[i].Removed {
			if dot.Actor == a {
				seq = max(seq, dot.Seq)
			}
		}
	}
	return seq
}

func (s *SetChange) fault(d *Delta) string {
	switch {
	case s.Cleared == nil && len(s.Elements) == 0:
		return "set effect without effect"
	case s.Cleared != nil && s.Cleared.Covers(d.Dot):
		return "clear of an event still to come"
	case len(s.Elements) > MaxOperationElements:
		return "too many elements"
	}
	for i := range s.Elements {
		if i > 0 && bytes.Compare(s.Elements[i-1].Element, s.Elements[i].Element) >= 0 {
			return "elements out of order"
		}
		if reason := s.Elements[i].fault(d); reason != "" {
			return reason
		}
	}
	return ""
}

func (e *ElementChange) fault(d *Delta) string {
	switch {
	case len(e.Element) == 0 || len(e.Element) > crdt.MaxElementBytes:
		return "element out of bounds"
	case !e.Added && len(e.Removed) == 0:
		return "element without effect"
	}
	for i, dot := range e.Removed {
		switch {
		case dot.Seq == 0 || dot.Actor == d.Dot.Actor && dot.Seq >= d.Dot.Seq:
			return "remove of an event still to come"
		case i > 0 && e.Removed[i-1].Compare(dot) >= 0:
			return "removed dots out of order"
		}
	}
	return ""
}
