package replica

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// CounterZSetRange asks for members of a crdt.CounterZSet in order of (score, member).
type CounterZSetRange struct {
	// Low and High bound the score, both included.
	Low, High int64
	// Reverse begins with the largest score; members of one score come in reverse order then, too.
	Reverse bool
	// After is the last member of the page before; nil for the first page.
	After *crdt.CountedMember
	// Offset is how many members to skip.
	Offset int
	// The page ends at Limit members, or once they have MaxBytes bytes; unless Limit is 0 it has at least
	// one if there is one.
	Limit, MaxBytes int
}

// bounds returns the keys of the range in table Z.
func (q *CounterZSetRange) bounds(kid uint64) (start, end []byte) {
	start, end = scoreKey(kid, orderOf(q.Low), nil), prefixEnd(scoreKey(kid, orderOf(q.High), nil))
	switch {
	case q.After == nil:
		return start, end
	case q.Reverse:
		return start, slices.MinFunc([][]byte{end, scoreKey(kid, orderOf(q.After.Score), []byte(q.After.Member))}, bytes.Compare)
	default:
		behind := append(scoreKey(kid, orderOf(q.After.Score), []byte(q.After.Member)), 0)
		return slices.MaxFunc([][]byte{start, behind}, bytes.Compare), end
	}
}

// counterZSet reads a sorted set's header, which is empty if there is nothing.
func (r *Replica) counterZSet(namespace, key string) (counterZSetHeader, error) {
	data, ok, err := r.kv.Get(r.object(namespace, key, crdt.TypeCounterZSet))
	if err != nil || !ok {
		return counterZSetHeader{}, err
	}
	return decodeCounterZSetHeader(data)
}

// CounterZSetRange returns a page of members, and whether there are more. They are the caller's.
func (r *Replica) CounterZSetRange(namespace, key string, q CounterZSetRange) (members []crdt.CountedMember, more bool, err error) {
	h, err := r.counterZSet(namespace, key)
	if err != nil {
		return nil, false, fmt.Errorf("read header of a sorted set: %w", err)
	}
	if h.present == 0 || q.Low > q.High {
		return nil, false, nil
	}
	start, end := q.bounds(h.kid)
	if bytes.Compare(start, end) >= 0 {
		return nil, false, nil
	}
	kv, err := h.in(r.kv, countedOrder)
	if err != nil {
		return nil, false, fmt.Errorf("order members: %w", err)
	}
	page := scorePage{start, end, q.Reverse, q.Offset, q.Limit, q.MaxBytes}
	more, err = page.read(kv, func(ordered uint64, member []byte) {
		members = append(members, crdt.CountedMember{Member: string(member), Score: scoreAt(ordered)})
	})
	return members, more, err
}

// CounterZSetScore returns a member's score, and whether it is in the set.
func (r *Replica) CounterZSetScore(namespace, key string, member []byte) (score int64, ok bool, err error) {
	h, err := r.counterZSet(namespace, key)
	if err != nil || len(member) == 0 {
		return 0, false, err
	}
	c, _, err := h.counted(r.kv, member)
	return c.Value(), !c.Empty(), err
}

// CounterZSetRank returns a member's score, and how many members are before it, or after it if reverse;
// ok is false if it is not in the set. It counts them: it costs as many steps.
func (r *Replica) CounterZSetRank(namespace, key string, member []byte, reverse bool) (score int64, rank uint64, ok bool, err error) {
	score, ok, err = r.CounterZSetScore(namespace, key, member)
	if err != nil || !ok {
		return 0, 0, false, err
	}
	h, err := r.counterZSet(namespace, key)
	if err != nil {
		return 0, 0, false, err
	}
	kv, err := h.in(r.kv, countedOrder)
	if err == nil {
		rank, err = rankOf(kv, h.kid, orderOf(score), member, reverse)
	}
	return score, rank, err == nil, err
}

// explain lists the members by score, and then those that were removed.
func (counterZSetKind) explain(kv KV, s stored, e *Explained) error {
	h := s.(*counterZSetHeader)
	e.Size = h.present + h.traces
	order, err := h.in(kv, countedOrder)
	if err != nil {
		return err
	}
	keys, err := collectKeys(order, scorePrefix(h.kid), explainElements)
	if err != nil {
		return err
	}
	for _, k := range keys {
		_, member := scoreOf(k)
		c, _, err := h.counted(kv, member)
		if err != nil {
			return err
		}
		e.Parts = append(e.Parts, explainCounted(member, c))
	}
	if len(e.Parts) == explainElements || h.traces == 0 {
		return nil
	}
	return h.scan(kv, nil, nil, func(member, v []byte) (bool, error) {
		c, err := crdt.DecodeCounter(v)
		if err == nil && c.Empty() {
			e.Parts = append(e.Parts, explainCounted(slices.Clone(member), c))
		}
		return len(e.Parts) < explainElements, err
	})
}

// explainCounted says what a member's score is made of: the last addition of each actor, and what it
// and those before it add. A member that was removed names the additions that were reset.
func explainCounted(member []byte, c crdt.Counter) ExplainedPart {
	p := ExplainedPart{Name: member, Hidden: c.Empty()}
	var terms []string
	for row := range c.All() {
		if p.Hidden {
			p.Dots = append(p.Dots, crdt.Dot{Actor: row.Actor, Seq: max(row.Entry.Seq, row.Base.Seq)})
		} else if row.Live() {
			p.Dots = append(p.Dots, crdt.Dot{Actor: row.Actor, Seq: row.Entry.Seq})
			terms = append(terms, strconv.FormatInt(c.Effective(row), 10))
		}
	}
	switch {
	case p.Hidden:
		p.Value = "removed"
	case len(terms) == 1:
		p.Value = terms[0]
	default:
		p.Value = strconv.FormatInt(c.Value(), 10) + " = " + strings.Join(terms, " + ")
	}
	return p
}
