package replica

import (
	"bytes"
	"encoding/binary"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// CounterZSetChange is the change of a sorted set whose scores are counters.
type CounterZSetChange struct {
	// Members are the changed members in ascending order.
	Members []MemberChange
}

// MemberChange is the change of one member's score: its changed rows, as in a CounterChange.
type MemberChange struct {
	Member []byte
	Rows   crdt.Counter
}

func (c *CounterZSetChange) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.Members)))
	for i := range c.Members {
		b = codec.AppendBytes(codec.AppendBytes(b, c.Members[i].Member), c.Members[i].Rows.Append(nil))
	}
	return b
}

func (counterZSetKind) owns(c Change) bool { _, ok := c.(*CounterZSetChange); return ok }

func (counterZSetKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	c := &CounterZSetChange{}
	for range r.Count(4) { // a member has its length, at least one byte, and its counter's length and version
		m := MemberChange{Member: r.Bytes(crdt.MaxElementBytes)}
		var err error
		if m.Rows, err = crdt.DecodeCounter(r.Bytes(r.Len())); err != nil {
			r.FailWith(err)
		}
		c.Members = append(c.Members, m)
		if !r.OK() {
			break
		}
	}
	return c
}

func (c *CounterZSetChange) names(a crdt.Actor) (seq uint64) {
	for i := range c.Members {
		seq = max(seq, namedIn(c.Members[i].Rows, a))
	}
	return seq
}

func (c *CounterZSetChange) fault(d *Delta) string {
	switch {
	case len(c.Members) == 0:
		return "sorted set effect without effect"
	case len(c.Members) > MaxOperationElements:
		return "too many members"
	}
	for i := range c.Members {
		m := &c.Members[i]
		switch {
		case len(m.Member) == 0 || len(m.Member) > crdt.MaxElementBytes:
			return "member out of bounds"
		case i > 0 && bytes.Compare(c.Members[i-1].Member, m.Member) >= 0:
			return "members out of order"
		}
		if reason := rowsFault(m.Rows, d); reason != "" {
			return reason
		}
	}
	return ""
}
