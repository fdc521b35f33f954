package replica

import (
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// SiblingsChange is the change of a multi-value register or a flag.
type SiblingsChange struct {
	// Added means that the delta's dot was added, with Value, in place of all earlier ones of its actor,
	// which Removed does not name. A flag's value is empty.
	Added bool
	Value []byte
	// Removed are the dots that were observed and are gone.
	Removed crdt.DotSet
}

// append appends: number of removed dots, with flag 1 if added | dots | value bytes, if added.
func (c *SiblingsChange) append(b []byte) []byte {
	n := uint64(len(c.Removed)) << 1
	if c.Added {
		n |= 1
	}
	b = binary.AppendUvarint(b, n)
	for _, d := range c.Removed {
		b = appendDot(b, d)
	}
	if c.Added {
		b = codec.AppendBytes(b, c.Value)
	}
	return b
}

// owns reports false for a flag with a value, too.
func (k siblingsKind) owns(c Change) bool {
	change, ok := c.(*SiblingsChange)
	return ok && len(change.Value) <= k.maxValue()
}

func (k siblingsKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	c := &SiblingsChange{}
	n := r.Uvarint(^uint64(0))
	c.Added = n&1 != 0
	if n >>= 1; n > uint64(r.Len()/2) {
		r.Fail("%d dots cannot be in %d bytes", n, r.Len())
		return c
	}
	for range n {
		c.Removed = append(c.Removed, readDot(r))
	}
	if c.Added {
		c.Value = r.Bytes(k.maxValue())
	}
	return c
}

func (c *SiblingsChange) names(a crdt.Actor) (seq uint64) {
	for _, dot := range c.Removed {
		if dot.Actor == a {
			seq = max(seq, dot.Seq)
		}
	}
	return seq
}

func (c *SiblingsChange) fault(d *Delta) string {
	switch {
	case !c.Added && len(c.Removed) == 0:
		return "siblings without effect"
	case !c.Added && len(c.Value) > 0:
		return "value of nothing added"
	}
	for i, dot := range c.Removed {
		switch {
		case dot.Seq == 0 || dot.Actor == d.Dot.Actor && dot.Seq >= d.Dot.Seq:
			return "remove of an event still to come"
		case dot.Actor == d.Dot.Actor && c.Added:
			return "remove of what the add takes the place of"
		case i > 0 && c.Removed[i-1].Compare(dot) >= 0: // folded, it may name several of an actor
			return "removed dots out of order"
		}
	}
	return ""
}
