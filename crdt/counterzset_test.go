package crdt

import (
	"encoding/hex"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// zsetEvent is a counter event of a member; of every member there is if the name is empty.
type zsetEvent struct {
	counterEvent
	member string
}

var zsetMembers = []string{"a", "b", "c"}

// counterZSetSpec says what members there are, and with what scores, from the history alone.
func counterZSetSpec(events []zsetEvent, seen map[Dot]bool) []CountedMember {
	var ranked []CountedMember
	for _, member := range zsetMembers {
		var own []counterEvent
		for _, e := range events {
			if e.member == member || e.member == "" {
				own = append(own, e.counterEvent)
			}
		}
		if score, present := counterSpec(own, seen); present {
			ranked = append(ranked, CountedMember{member, score})
		}
	}
	slices.SortFunc(ranked, compareCounted)
	return ranked
}

func drawZSetEvent(t *rapid.T, d Dot, before map[Dot]bool) zsetEvent {
	e := zsetEvent{counterEvent{dot: d, before: before}, rapid.SampledFrom(zsetMembers).Draw(t, "member")}
	kind := between(0, 9).Draw(t, "kind")
	e.adds, e.resets = kind < 7, kind >= 4
	if e.adds {
		e.amount = rapid.Int64Range(-3, 3).Draw(t, "x")
	}
	if kind == 9 {
		e.member = ""
	}
	return e
}

func applyZSet(t *rapid.T, s *CounterZSet, e zsetEvent) CounterZSet {
	switch {
	case e.member == "":
		return s.Clear(e.dot)
	case e.adds && e.resets:
		return s.Add(e.dot, e.member, e.amount)
	case e.resets:
		return s.Remove(e.dot, e.member)
	}
	delta, err := s.Incr(e.dot, e.member, e.amount)
	if err != nil {
		t.Fatal(err)
	}
	return delta
}

func joinCounterZSets(a, b CounterZSet) CounterZSet {
	a = a.Clone()
	a.Join(b)
	return a
}

// TestCounterZSet runs replicas that pull each other's whole state.
func TestCounterZSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []zsetEvent(nil)
		var replicas [3]CounterZSet
		states := []CounterZSet{{}}
		for range between(5, 40).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			s := &replicas[i]
			if from := between(-3, 2).Draw(t, "from"); from >= 0 {
				s.Join(replicas[from])
				r.pull(i, from)
			} else {
				old := s.Clone()
				e := drawZSetEvent(t, Dot{}, nil)
				e.dot, e.before = r.next(i)
				delta := applyZSet(t, s, e)
				events = append(events, e)
				roundTrip(t, delta, DecodeCounterZSet, CounterZSet.Equal)
				if old.Join(delta); !old.Equal(*s) {
					t.Fatalf("joining the change %+v gives %+v, not %+v", delta, old, *s)
				}
			}
			checkCounterZSet(t, *s, counterZSetSpec(events, r.seen[i]))
			roundTrip(t, *s, DecodeCounterZSet, CounterZSet.Equal)
			for j := range replicas {
				if maps.Equal(r.seen[i], r.seen[j]) && !replicas[j].Equal(*s) {
					t.Fatalf("the same events give %+v and %+v", *s, replicas[j])
				}
			}
			states = append(states, s.Clone())
		}
		checkLaws(t, states, joinCounterZSets, CounterZSet.Equal)
	})
}

func checkCounterZSet(t *rapid.T, s CounterZSet, want []CountedMember) {
	if got := s.Range(0, math.MaxInt); !slices.Equal(got, want) || s.Len() != len(want) {
		t.Fatalf("members %v, length %d, want %v: %+v", got, s.Len(), want, s)
	}
	scores := map[string]int64{}
	for _, m := range want {
		scores[m.Member] = m.Score
	}
	for _, member := range zsetMembers {
		want, present := scores[member]
		if score, ok := s.Score(member); ok != present || score != want {
			t.Fatalf("%s: %d, %v, want %d, %v", member, score, ok, want, present)
		}
	}
}

// TestCounterZSetCompact runs replicas that send each other changes, once each and in order, and that
// compact after every step: no score may change, and rows may stay only where a reset is not yet
// known to have been seen.
func TestCounterZSetCompact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events, deltas := newRun(), []zsetEvent(nil), []CounterZSet(nil)
		var replicas [3]CounterZSet
		var vectors [3]VersionVector
		for range between(5, 40).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			s := &replicas[i]
			if from := between(-3, 2).Draw(t, "from"); from >= 0 {
				for n, e := range events {
					if r.seen[from][e.dot] && !r.seen[i][e.dot] {
						s.Join(deltas[n])
					}
				}
				r.pull(i, from)
				vectors[i].Join(vectors[from])
			} else {
				e := drawZSetEvent(t, Dot{}, nil)
				e.dot, e.before = r.next(i)
				deltas = append(deltas, applyZSet(t, s, e))
				events = append(events, e)
				vectors[i].Set(e.dot.Actor, e.dot.Seq)
			}
			self := Actor(i + 1)
			s.Compact(self, vectors[i])
			checkCounterZSet(t, *s, counterZSetSpec(events, r.seen[i]))
			for member, c := range s.counters {
				if own := c.row(self); c.Len() == 0 || own.Entry.Seq != 0 && !own.Live() {
					t.Fatalf("%s keeps %+v", member, c)
				}
			}
		}
	})
}

// TestCounterZSetConcurrent is the table of the type's documentation.
func TestCounterZSetConcurrent(t *testing.T) {
	incr := func(x int64) func(*CounterZSet, Dot) {
		return func(s *CounterZSet, d Dot) { _, _ = s.Incr(d, "m", x) }
	}
	add := func(x int64) func(*CounterZSet, Dot) { return func(s *CounterZSet, d Dot) { s.Add(d, "m", x) } }
	remove := func(s *CounterZSet, d Dot) { s.Remove(d, "m") }
	clearAll := func(s *CounterZSet, d Dot) { s.Clear(d) }
	for name, c := range map[string]struct {
		left, right func(*CounterZSet, Dot)
		score       int64
		present     bool
	}{
		"incr, incr":     {incr(2), incr(3), 15, true},
		"remove, incr":   {remove, incr(2), 2, true},
		"clear, incr":    {clearAll, incr(2), 2, true},
		"add, incr":      {add(5), incr(2), 7, true},
		"add, add":       {add(5), add(6), 11, true},
		"add, remove":    {add(5), remove, 5, true},
		"remove, remove": {remove, remove, 0, false},
	} {
		var a CounterZSet
		a.Add(Dot{1, 1}, "m", 10)
		b := a.Clone()
		c.left(&a, Dot{1, 2})
		c.right(&b, Dot{2, 1})
		a.Join(b)
		if score, ok := a.Score("m"); score != c.score || ok != c.present {
			t.Errorf("%s: %d, %v", name, score, ok)
		}
	}
}

func TestCounterZSetRange(t *testing.T) {
	var s CounterZSet
	for i, m := range []CountedMember{{"d", 5}, {"b", 2}, {"c", 2}, {"a", math.MaxInt64}, {"e", math.MinInt64}} {
		s.Add(Dot{1, uint64(i + 1)}, m.Member, m.Score)
	}
	names := func(ms []CountedMember) (text string) {
		for _, m := range ms {
			text += m.Member
		}
		return text
	}
	for _, c := range []struct {
		from, to int
		want     string
	}{{0, 9, "ebcda"}, {1, 3, "bc"}, {-2, 1, "e"}, {4, 9, "a"}, {5, 9, ""}, {3, 2, ""}, {-3, -1, ""}} {
		if got := names(s.Range(c.from, c.to)); got != c.want {
			t.Errorf("ranks %d to %d: %q, want %q", c.from, c.to, got, c.want)
		}
	}
	for _, c := range []struct {
		low, high int64
		want      string
	}{{2, 5, "bcd"}, {3, 4, ""}, {math.MinInt64, 1, "e"}, {6, math.MaxInt64, "a"}, {5, 2, ""}} {
		if got := names(s.RangeByScore(c.low, c.high)); got != c.want {
			t.Errorf("scores %d to %d: %q, want %q", c.low, c.high, got, c.want)
		}
	}
	before := s.Clone()
	if delta, err := s.Incr(Dot{1, 9}, "a", 1); err != ErrCounterOverflow || delta.Len() != 0 || !s.Equal(before) {
		t.Fatalf("%v, %+v", err, delta)
	}
}

func TestCounterZSetDecoderRefuses(t *testing.T) {
	checkRefusals(t, DecodeCounterZSet, []refusal{
		{"01" + "00", "member empty"},
		{"01" + "0161" + "00", "without rows"},
		{"01" + "0161" + "02" + "0101010002", "cannot be in"},
		{"01" + "0161" + "01" + "0101010000" + "0161" + "01" + "0101010000", "out of order"},
		{"01" + "0161" + "02" + "0101010000" + "0101010000", "actors out of order"},
		{"01" + "8108", "over the limit"},
	})
}

// refusal is an encoding, in hexadecimal, that no encoder writes, and part of the reason to refuse it.
type refusal struct{ hex, reason string }

func checkRefusals[T any](t *testing.T, decode func([]byte) (T, error), refusals []refusal) {
	t.Helper()
	for _, c := range refusals {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(data); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %s", c.hex, err, c.reason)
		}
	}
}

func goldenCounterZSet() CounterZSet {
	var s CounterZSet
	s.Add(Dot{1, 7}, "pear", 40)
	s.Add(Dot{65, 300}, "apple", -5)
	s.Remove(Dot{2, 3}, "pear")
	_, _ = s.Incr(Dot{2, 4}, "pear", 1<<40)
	return s
}
