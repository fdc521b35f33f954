package crdt

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// checkLaws holds a join to its laws over states that a run of replicas has reached.
func checkLaws[T any](t *rapid.T, states []T, join func(a, b T) T, equal func(a, b T) bool) {
	pick := func(name string) T { return rapid.SampledFrom(states).Draw(t, name) }
	for range 3 {
		a, b, c := pick("a"), pick("b"), pick("c")
		var zero T
		if !equal(join(a, b), join(b, a)) {
			t.Fatalf("not commutative:\n%+v\n%+v", a, b)
		}
		if !equal(join(join(a, b), c), join(a, join(b, c))) {
			t.Fatalf("not associative:\n%+v\n%+v\n%+v", a, b, c)
		}
		if !equal(join(a, a), a) {
			t.Fatalf("not idempotent:\n%+v", a)
		}
		if !equal(join(a, zero), a) || !equal(join(zero, a), a) {
			t.Fatalf("zero is not neutral:\n%+v", a)
		}
		if ab := join(a, b); !equal(join(ab, a), ab) || !equal(join(ab, join(a, c)), join(ab, c)) {
			t.Fatalf("not monotone:\n%+v\n%+v\n%+v", a, b, c)
		}
	}
}

// between draws from low to high, all with about equal chances. Rapid's own ranges prefer small numbers,
// with which one replica does nearly all, and hardly any history has what matters here.
func between(low, high int) *rapid.Generator[int] {
	n := high - low + 1
	return rapid.Custom(func(t *rapid.T) int {
		x := 0
		for range bits.Len(uint(n)) + 2 {
			x *= 2
			if rapid.Bool().Draw(t, "bit") {
				x++
			}
		}
		return low + x%n
	})
}

// run is a run of replicas of one value that operate and pull each other's whole state. With whole
// states every delivery is causal, so values are compared with the history at every step.
type run struct {
	seq  [3]uint64
	seen [3]map[Dot]bool
}

func newRun() *run {
	r := &run{}
	for i := range r.seen {
		r.seen[i] = map[Dot]bool{}
	}
	return r
}

// next names the next event of a replica; before is what it had seen.
func (r *run) next(i int) (d Dot, before map[Dot]bool) {
	r.seq[i]++
	d = Dot{Actor(i + 1), r.seq[i]}
	before = maps.Clone(r.seen[i])
	r.seen[i][d] = true
	return d, before
}

func (r *run) pull(to, from int) { maps.Copy(r.seen[to], r.seen[from]) }

type counterEvent struct {
	dot          Dot
	adds, resets bool
	amount       int64
	before       map[Dot]bool
	voids        Dot // the addition that it takes back
}

func counterSpec(events []counterEvent, seen map[Dot]bool) (sum int64, present bool) {
	for _, add := range events {
		reset := func(e counterEvent) bool { return e.resets && seen[e.dot] && e.before[add.dot] }
		if add.adds && seen[add.dot] && !slices.ContainsFunc(events, reset) {
			present = true
			if !slices.ContainsFunc(events, func(e counterEvent) bool { return seen[e.dot] && e.voids == add.dot }) {
				sum += add.amount
			}
		}
	}
	return sum, present
}

func TestCounter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []counterEvent(nil)
		var replicas [3]Counter
		states := []Counter{{}}
		for range between(1, 25).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			c := &replicas[i]
			if from := between(-4, 2).Draw(t, "from"); from >= 0 {
				c.Join(replicas[from])
				r.pull(i, from)
			} else {
				old := c.Clone()
				d, before := r.next(i)
				e := counterEvent{dot: d, before: before, adds: from != -1 && from != -4, resets: from != -3 && from != -4, amount: rapid.Int64Range(-9, 9).Draw(t, "x")}
				if from == -4 {
					e.voids, e.amount = someAddition(t, events, i)
				}
				delta := operate(t, c, e)
				events = append(events, e)
				roundTrip(t, delta, DecodeCounter, Counter.Equal)
				if old.Join(delta); !old.Equal(*c) {
					t.Fatalf("joining the change %+v gives %+v, not %+v", delta, old, *c)
				}
			}
			sum, present := counterSpec(events, r.seen[i])
			if c.Value() != sum || c.Empty() == present {
				t.Fatalf("value %d, empty %v; want %d, present %v: %+v", c.Value(), c.Empty(), sum, present, *c)
			}
			roundTrip(t, *c, DecodeCounter, Counter.Equal)
			states = append(states, c.Clone())
		}
		checkLaws(t, states, func(a, b Counter) Counter {
			a = a.Clone()
			a.Join(b)
			return a
		}, Counter.Equal)
	})
}

// someAddition returns an addition of a replica that it has not taken back, and its amount; none if there is
// none.
func someAddition(t *rapid.T, events []counterEvent, replica int) (Dot, int64) {
	var own []counterEvent
	for _, e := range events {
		void := func(o counterEvent) bool { return o.voids == e.dot }
		if e.adds && e.dot.Actor == Actor(replica+1) && !slices.ContainsFunc(events, void) {
			own = append(own, e)
		}
	}
	if len(own) == 0 {
		return Dot{}, 0
	}
	e := rapid.SampledFrom(own).Draw(t, "void")
	return e.dot, e.amount
}

func operate(t *rapid.T, c *Counter, e counterEvent) Counter {
	switch {
	case !e.adds && !e.resets:
		delta, ok := c.Void(e.dot, e.voids.Seq, e.amount)
		if !ok {
			t.Fatal("void refused")
		}
		return delta
	case e.adds && e.resets:
		return c.Set(e.dot, e.amount)
	case e.resets:
		return c.Reset(e.dot)
	}
	delta, err := c.Add(e.dot, e.amount)
	if err != nil {
		t.Fatal(err)
	}
	return delta
}

type setEvent struct {
	dot     Dot
	added   string
	clears  bool
	removed string
	before  map[Dot]bool
}

func setSpec(events []setEvent, seen map[Dot]bool) []string {
	var elements []string
	for _, add := range events {
		gone := func(e setEvent) bool {
			return seen[e.dot] && e.before[add.dot] && (e.clears || e.added == add.added || e.removed == add.added)
		}
		if add.added != "" && seen[add.dot] && !slices.ContainsFunc(events, gone) {
			elements = append(elements, add.added)
		}
	}
	slices.Sort(elements)
	return slices.Compact(elements)
}

func TestAWSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []setEvent(nil)
		var replicas [3]AWSet
		states := []AWSet{{}}
		for range between(1, 25).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			s := &replicas[i]
			old := s.Clone()
			element := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "element")
			switch from := between(-5, 2).Draw(t, "from"); {
			case from >= 0:
				s.Join(replicas[from])
				r.pull(i, from)
			case from >= -3:
				d, before := r.next(i)
				s.Add(d, element)
				events = append(events, setEvent{dot: d, added: element, before: before})
			case from == -4:
				// A remove is an event without a dot in the set: only the history numbers it.
				events = append(events, setEvent{dot: removal(r, i, len(events)), removed: element, before: maps.Clone(r.seen[i])})
				s.Remove(element)
			default:
				events = append(events, setEvent{dot: removal(r, i, len(events)), clears: true, before: maps.Clone(r.seen[i])})
				s.Clear()
			}
			if !joinAWSets(old, *s).Equal(*s) || !joinAWSets(*s, old).Equal(*s) {
				t.Fatalf("joining %+v to %+v is not the operation", *s, old)
			}
			if want := setSpec(events, r.seen[i]); !slices.Equal(s.Elements(), want) || s.Len() != len(want) {
				t.Fatalf("elements %q, want %q", s.Elements(), want)
			}
			if s.Contains(element) != (len(s.Dots(element)) > 0) || !s.Context().Covers(Dot{1, s.Context().Get(1)}) {
				t.Fatalf("set contradicts itself: %+v", *s)
			}
			roundTrip(t, *s, DecodeAWSet, AWSet.Equal)
			states = append(states, s.Clone())
		}
		checkLaws(t, states, func(a, b AWSet) AWSet {
			a = a.Clone()
			a.Join(b)
			return a
		}, AWSet.Equal)
	})
}

// removal names a remove for the history alone, with an actor that no add has.
func removal(r *run, i, n int) Dot {
	d := Dot{Actor(100 + i), uint64(n + 1)}
	r.seen[i][d] = true
	return d
}

func TestLWWRegister(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var clock [3]hlc.Time
		states := []LWWRegister{{}}
		for n := range between(1, 12).Draw(t, "writes") {
			i := between(0, 2).Draw(t, "replica")
			clock[i] += hlc.Time(between(1, 3).Draw(t, "step")) // equal times across actors are common
			reg := LWWRegister{Time: clock[i], Actor: Actor(i + 1), Seq: uint64(n + 1), Deleted: rapid.Bool().Draw(t, "deleted")}
			reg.Home = uint64(between(0, 2).Draw(t, "home"))
			if !reg.Deleted {
				reg.Value = rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "value")
				reg.Expires = hlc.Time(rapid.Uint64Range(0, 9).Draw(t, "expires"))
			}
			roundTrip(t, reg, DecodeLWWRegister, LWWRegister.Equal)
			states = append(states, reg)
		}
		checkLaws(t, states, LWWRegister.Join, LWWRegister.Equal)
		var joined LWWRegister
		for _, s := range states {
			joined = joined.Join(s)
		}
		for _, s := range states {
			if s.Home > joined.Home || s.Home == joined.Home && (s.Time > joined.Time || s.Time == joined.Time && s.Actor > joined.Actor) {
				t.Fatalf("%+v wins over %+v", joined, s)
			}
		}
	})
}

func TestVersionVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (VersionVector, map[Actor]uint64) {
			m := rapid.MapOfN(rapid.Map(rapid.Uint32Range(0, 6), func(a uint32) Actor { return Actor(a) }), rapid.Uint64Range(0, 5), 0, 6).Draw(t, name)
			var v VersionVector
			for a, n := range m {
				v.Set(a, n+1)
				v.Set(a, n) // 0 removes
			}
			return v, m
		}
		a, ma := draw("a")
		b, mb := draw("b")
		descends := true
		for actor, n := range mb {
			descends = descends && ma[actor] >= n
		}
		if a.Descends(b) != descends {
			t.Fatalf("%v descends %v: %v", a, b, a.Descends(b))
		}
		joined := a.Clone()
		joined.Join(b)
		for actor := Actor(0); actor < 8; actor++ {
			if a.Get(actor) != ma[actor] || joined.Get(actor) != max(ma[actor], mb[actor]) {
				t.Fatalf("%v ⊔ %v = %v", a, b, joined)
			}
			if d := (Dot{actor, 3}); a.Covers(d) != (ma[actor] >= 3) {
				t.Fatalf("%v covers %v: %v", a, d, a.Covers(d))
			}
		}
		if !slices.IsSortedFunc(joined.Entries(), Dot.Compare) || joined.Len() != len(joined.Entries()) {
			t.Fatalf("entries %v", joined.Entries())
		}
		c, _ := draw("c")
		checkLaws(t, []VersionVector{a, b, c}, func(a, b VersionVector) VersionVector {
			a = a.Clone()
			a.Join(b)
			return a
		}, VersionVector.Equal)
		roundTrip(t, joined, DecodeVersionVector, VersionVector.Equal)
	})
}

func TestCounterOverflow(t *testing.T) {
	var c Counter
	if _, err := c.Add(Dot{1, 1}, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	for _, actor := range []Actor{1, 2} { // the actor's own sum, and the value over all actors
		before := c.Clone()
		if _, err := c.Add(Dot{actor, 2}, 1); err != ErrCounterOverflow || !c.Equal(before) {
			t.Fatalf("actor %d: %v, %+v", actor, err, c)
		}
	}
	if _, err := c.Add(Dot{2, 1}, -1); err != nil || c.Value() != math.MaxInt64-1 {
		t.Fatalf("%v, value %d", err, c.Value())
	}
	// Concurrent additions can exceed the range together; the value stops at its end.
	var other Counter
	if _, err := other.Add(Dot{3, 1}, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	c.Join(other)
	if c.Value() != math.MaxInt64 {
		t.Fatalf("value %d", c.Value())
	}
	// A wholly reset sum starts anew, so it does not overflow.
	c.Reset(Dot{1, 2})
	if _, err := c.Add(Dot{1, 3}, math.MinInt64); err != nil || c.Value() != math.MinInt64 || c.Rows()[0].Entry.Gen != 3 {
		t.Fatalf("%v, %+v", err, c)
	}
	c.Join(NewCounter([]Row{{Actor: 9, Entry: Entry{1, 1, math.MinInt64}}}))
	if c.Value() != math.MinInt64 {
		t.Fatalf("value %d", c.Value())
	}
}

// TestCounterGenerations: what a partial reset leaves stays in its generation, so that a concurrent
// reset that observed more of it still takes that away.
func TestCounterGenerations(t *testing.T) {
	var a, b, c Counter
	add := func(seq uint64, x int64) {
		if _, err := a.Add(Dot{1, seq}, x); err != nil {
			t.Fatal(err)
		}
	}
	add(1, 5)
	c.Join(a)
	add(2, 3)
	b.Join(a)
	c.Reset(Dot{3, 1}) // observed 5
	b.Reset(Dot{2, 1}) // observed 8
	a.Join(c)
	add(3, 1)
	if a.Value() != 4 {
		t.Fatalf("value %d after the smaller reset, want 4", a.Value())
	}
	a.Join(b)
	if a.Value() != 1 {
		t.Fatalf("value %d after the larger reset, want 1", a.Value())
	}
}

func TestCounterCompact(t *testing.T) {
	var c Counter
	for actor := Actor(1); actor <= 2; actor++ {
		if _, err := c.Add(Dot{actor, 1}, 5); err != nil {
			t.Fatal(err)
		}
	}
	c.Reset(Dot{3, 1})
	var seen VersionVector
	seen.Set(2, 1)
	c.Compact(1, seen)
	if rows := c.Rows(); len(rows) != 1 || rows[0].Actor != 2 || !c.Empty() {
		t.Fatalf("the owner's row alone may go: %+v", rows)
	}
	late := NewCounter([]Row{{Actor: 1, Base: Base{1, 1, 5, Dot{4, 1}}}})
	seen.Set(1, 1)
	if c.Join(late); c.Len() != 2 {
		t.Fatalf("%+v", c)
	}
	if c.Compact(1, seen); c.Len() != 1 {
		t.Fatalf("a reset of a row that is gone stays: %+v", c)
	}
}

// TestCounterSettle drops a row only once all that was reset is here and its owner knows of the reset.
func TestCounterSettle(t *testing.T) {
	reset := Dot{3, 1}
	for _, c := range []struct {
		name  string
		have  uint64
		knows bool
		row   Row
		kept  int
	}{
		{"known", 2, true, Row{Actor: 2, Entry: Entry{1, 2, 5}, Base: Base{1, 2, 5, reset}}, 0},
		{"not known", 2, false, Row{Actor: 2, Entry: Entry{1, 2, 5}, Base: Base{1, 2, 5, reset}}, 1},
		{"additions to come", 1, true, Row{Actor: 2, Entry: Entry{1, 1, 3}, Base: Base{1, 2, 5, reset}}, 1},
		{"additions since", 3, true, Row{Actor: 2, Entry: Entry{1, 3, 6}, Base: Base{1, 2, 5, reset}}, 1},
		{"no reset", 3, true, Row{Actor: 2, Entry: Entry{1, 3, 6}}, 1},
	} {
		counter := NewCounter([]Row{c.row})
		before := counter.Value()
		var seen VersionVector
		seen.Set(2, c.have)
		counter.Settle(seen, func(owner Actor, d Dot) bool { return c.knows && owner == 2 && d == reset })
		if counter.Len() != c.kept || counter.Value() != before {
			t.Errorf("%s: %d rows are left, value %d", c.name, counter.Len(), counter.Value())
		}
	}
	if c := NewCounter([]Row{{Actor: 2, Entry: Entry{1, 3, 6}}}); c.Resets() {
		t.Error("an addition resets")
	}
}

func TestTypeNames(t *testing.T) {
	for typ, name := range map[Type]string{0: "type(0)", TypeLWWRegister: "register", TypeCounter: "counter", TypeAWSet: "set", TypeTimeline: "timeline", 15: "type(15)"} {
		if typ.String() != name || typ.Valid() != (typ >= 1 && typ <= 14) {
			t.Errorf("%d: %q, valid %v", typ, typ, typ.Valid())
		}
	}
}

// TestResurrection is the history of riak_dt issue 82: two adds of one element, each removed where it
// was made, must not come back through a third replica that saw one of them.
func TestResurrection(t *testing.T) {
	var a, b, c AWSet
	a.Add(Dot{1, 1}, "x")
	b.Add(Dot{2, 1}, "x")
	c.Join(a)
	a.Remove("x")
	a.Join(b)
	b.Remove("x")
	a.Join(c)
	b.Join(a)
	if b.Len() != 0 {
		t.Fatalf("elements %q", b.Elements())
	}
}
