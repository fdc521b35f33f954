package crdt

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// CounterZSet is a set of members with scores that add up: each member's score is an observed-reset
// Counter, and a member is in the set while its counter has an addition that no reset observed. It
// has whole-numbered scores; ZSet has fractional ones, of which the last write wins.
//
// Operations: Add resets the score and adds, Incr adds, Remove and Clear reset.
//
// Concurrent operations on one member: increments all count. An increment survives a concurrent
// Remove, Clear or Add, so a Remove beside an Incr by 2 leaves the member with score 2. Of two
// concurrent Adds both scores count, and the sum is the score: an Add takes away only what it saw.
//
// Scores are exact. An increment that would leave the range of int64 is refused; increments of
// several regions that exceed it together read as the nearest int64.
//
// Laws: Join is commutative, associative and idempotent over states of one history; the zero
// CounterZSet is neutral. There is no causal context, because the sums are absolute and resets say
// what they observed; so a change is a CounterZSet too. Size: a member and its counter's rows, about
// 20 bytes per actor that added to it, twice that with resets. A removed member leaves its rows until
// Compact may drop them: its owner must have seen the reset, as said there.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Weidner, Almeida, "An Oblivious Observed-Reset Embeddable Replicated Counter", PaPoC 2022, for
// the meaning; that of Redis' active-active sorted sets is the same, but for concurrent Adds.
type CounterZSet struct {
	counters map[string]Counter // each with at least one row
	unknown  Fields
}

// CountedMember is a member of a CounterZSet and its score.
type CountedMember struct {
	Member string
	Score  int64
}

// compareCounted orders by score, then by member.
func compareCounted(a, b CountedMember) int {
	return cmp.Or(cmp.Compare(a.Score, b.Score), strings.Compare(a.Member, b.Member))
}

// Add makes score the member's score, as one event d that resets and adds, and returns the change. d
// is newer than every event of its actor in the set, here and below.
func (s *CounterZSet) Add(d Dot, member string, score int64) CounterZSet {
	c := s.counters[member]
	return s.changed(member, c, c.Set(d, score))
}

// Incr adds to the member's score, which is 0 if it is not in the set, as event d, and returns the
// change. The member is in the set afterwards, even with a score of 0. It returns
// ErrCounterOverflow, and changes nothing, if the score would leave int64.
func (s *CounterZSet) Incr(d Dot, member string, x int64) (CounterZSet, error) {
	c := s.counters[member]
	delta, err := c.Add(d, x)
	if err != nil {
		return CounterZSet{}, err
	}
	return s.changed(member, c, delta), nil
}

// Remove takes away, as event d, every addition to the member's score, and returns the change, which
// is empty if the member is not in the set.
func (s *CounterZSet) Remove(d Dot, member string) CounterZSet {
	c := s.counters[member]
	return s.changed(member, c, c.Reset(d))
}

// Clear removes every member, as one event d, and returns the change.
func (s *CounterZSet) Clear(d Dot) CounterZSet {
	var delta CounterZSet
	for member := range s.counters {
		delta.Join(s.Remove(d, member))
	}
	return delta
}

// changed stores a member's counter after a change, which it returns.
func (s *CounterZSet) changed(member string, after, delta Counter) CounterZSet {
	if delta.Len() == 0 {
		return CounterZSet{}
	}
	if s.counters == nil {
		s.counters = map[string]Counter{}
	}
	s.counters[member] = after
	return CounterZSet{counters: map[string]Counter{member: delta}}
}

// Join merges o, which may be a whole set or a change.
func (s *CounterZSet) Join(o CounterZSet) {
	if s.counters == nil {
		s.counters = make(map[string]Counter, len(o.counters))
	}
	for member, theirs := range o.counters {
		c := s.counters[member]
		c.Join(theirs)
		s.counters[member] = c
	}
	s.unknown = s.unknown.Join(o.unknown)
}

// Compact drops what a replica need not keep, given that it is self's and includes the events of
// seen; Counter.Compact says what. It is for replicas that apply each change once, in the order of
// its actor: a whole state of another replica may still have what was dropped here, and bring it back.
func (s *CounterZSet) Compact(self Actor, seen VersionVector) {
	for member, c := range s.counters {
		c.Compact(self, seen)
		if c.Len() == 0 {
			delete(s.counters, member)
		} else {
			s.counters[member] = c
		}
	}
}

// Score returns a member's score, and whether it is in the set.
func (s CounterZSet) Score(member string) (int64, bool) {
	c := s.counters[member]
	return c.Value(), !c.Empty()
}

// Len returns the number of members.
func (s CounterZSet) Len() int {
	n := 0
	for _, c := range s.counters {
		if !c.Empty() {
			n++
		}
	}
	return n
}

// Range returns the members with ranks from the first to before the second, in ascending order of
// (score, member). Ranks start at 0; those that do not exist are left out.
func (s CounterZSet) Range(from, to int) []CountedMember {
	ranked := s.RangeByScore(math.MinInt64, math.MaxInt64)
	to = min(max(to, 0), len(ranked))
	return ranked[min(max(from, 0), to):to]
}

// RangeByScore returns the members with scores from low to high, both included, in ascending order of
// (score, member).
func (s CounterZSet) RangeByScore(low, high int64) []CountedMember {
	var ranked []CountedMember
	for member, c := range s.counters {
		if score := c.Value(); !c.Empty() && low <= score && score <= high {
			ranked = append(ranked, CountedMember{member, score})
		}
	}
	slices.SortFunc(ranked, compareCounted)
	return ranked
}

// Equal reports whether two sets have the same rows.
func (s CounterZSet) Equal(o CounterZSet) bool {
	return s.unknown == o.unknown && maps.EqualFunc(s.counters, o.counters, Counter.Equal)
}

// Clone returns a copy that shares no memory.
func (s CounterZSet) Clone() CounterZSet {
	clone := maps.Clone(s.counters)
	for member, c := range clone {
		clone[member] = c.Clone()
	}
	return CounterZSet{clone, s.unknown}
}

// Append appends the set's encoding: the version, then the members, to the end.
//
//	member (length varint, bytes) | rows varint | that many rows
//
// Members ascend by their bytes. A row, and the order of rows, is that of Counter.Append.
func (s CounterZSet) Append(b []byte) []byte {
	b = appendVersion(b, s.unknown)
	for _, member := range slices.Sorted(maps.Keys(s.counters)) {
		b = appendCountedRows(codec.AppendBytes(b, member), s.counters[member].rows)
	}
	return b
}

// DecodeCounterZSet reads what Append wrote.
func DecodeCounterZSet(data []byte) (CounterZSet, error) {
	r, unknown := newReader("counter zset", data)
	s := CounterZSet{counters: map[string]Counter{}, unknown: unknown}
	last := ""
	for r.Len() > 0 {
		member := string(r.Bytes(MaxElementBytes))
		if member <= last {
			r.Fail("member empty or out of order")
		}
		last = member
		s.counters[member] = NewCounter(readCountedRows(r))
	}
	if err := r.Done(); err != nil {
		return CounterZSet{}, err
	}
	return s, nil
}
