package crdt

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// extremum is what MaxRegister and MinRegister have in common, for tests of both.
type extremum[T encoder] struct {
	write    func(r *T, at hlc.Time, actor Actor, v int64) (T, bool)
	remove   func(r *T, at hlc.Time, actor Actor) T
	collapse func(r *T, cut hlc.Time)
	merge    func(r *T, o T)
	value    func(T) (int64, bool)
	size     func(T) int
	clone    func(T) T
	equal    func(a, b T) bool
	decode   func([]byte) (T, error)
	better   func(a, b int64) bool
}

var maxExtremum = extremum[MaxRegister]{
	(*MaxRegister).Raise, (*MaxRegister).Delete, (*MaxRegister).Collapse, (*MaxRegister).Join, MaxRegister.Value,
	MaxRegister.Len, MaxRegister.Clone, MaxRegister.Equal, DecodeMaxRegister, func(a, b int64) bool { return a > b },
}

var minExtremum = extremum[MinRegister]{
	(*MinRegister).Lower, (*MinRegister).Delete, (*MinRegister).Collapse, (*MinRegister).Join, MinRegister.Value,
	MinRegister.Len, MinRegister.Clone, MinRegister.Equal, DecodeMinRegister, func(a, b int64) bool { return a < b },
}

func (x extremum[T]) join(a, b T) T {
	a = x.clone(a)
	x.merge(&a, b)
	return a
}

type extremumEvent struct {
	dot     Dot
	at      moment
	deletes bool
	value   int64
}

// spec says what the value is: the best of the writes after the last delete.
func (x extremum[T]) spec(events []extremumEvent, seen map[Dot]bool) (best int64, ok bool) {
	var deleted moment
	for _, e := range events {
		if e.deletes && seen[e.dot] && e.at.compare(deleted) > 0 {
			deleted = e.at
		}
	}
	for _, e := range events {
		if !e.deletes && seen[e.dot] && e.at.compare(deleted) > 0 && (!ok || x.better(e.value, best)) {
			best, ok = e.value, true
		}
	}
	return best, ok
}

// extremumRun is a run of replicas, each with a twin that collapses at once what it may.
type extremumRun[T encoder] struct {
	*run
	extremum[T]
	replicas, twins [3]T
	// reached is up to when a replica has all events of another; its own is its clock.
	reached [3][3]hlc.Time
	events  []extremumEvent
	states  []T
}

func TestMaxRegister(t *testing.T) { rapid.Check(t, maxExtremum.check) }
func TestMinRegister(t *testing.T) { rapid.Check(t, minExtremum.check) }

func (x extremum[T]) check(t *rapid.T) {
	var zero T
	r := &extremumRun[T]{run: newRun(), extremum: x, states: []T{zero}}
	for range 1 + 5*between(0, 59).Draw(t, "steps") {
		i := between(0, 2).Draw(t, "replica")
		switch from := between(0, 6).Draw(t, "from"); {
		case from < 3:
			r.pull(i, from)
		case from < 4:
			r.delete(t, i)
		default:
			r.write(t, i)
		}
		r.collapse(t, i)
		r.compare(t, i)
	}
	checkLaws(t, r.states, x.join, x.equal)
}

func (r *extremumRun[T]) pull(to, from int) {
	r.run.pull(to, from)
	r.merge(&r.replicas[to], r.replicas[from])
	r.merge(&r.twins[to], r.twins[from])
	for k := range r.reached[to] {
		r.reached[to][k] = max(r.reached[to][k], r.reached[from][k])
	}
}

// now returns the instant of a replica's next event: after all that it has seen, and often the same
// as that of another replica's.
func (r *extremumRun[T]) now(t *rapid.T, i int) moment {
	at := slices.Max(r.reached[i][:]) + hlc.Time(1+between(0, 2).Draw(t, "step"))
	r.reached[i][i] = at
	return moment{at, Actor(i + 1)}
}

func (r *extremumRun[T]) write(t *rapid.T, i int) {
	v, at := int64(between(0, 19).Draw(t, "value"))-9, r.now(t, i)
	best, present := r.spec(r.events, r.seen[i])
	old := r.clone(r.replicas[i])
	delta, changed := r.extremum.write(&r.replicas[i], at.time, at.actor, v)
	_, twinChanged := r.extremum.write(&r.twins[i], at.time, at.actor, v)
	if want := !present || r.better(v, best); changed != want || twinChanged != want {
		t.Fatalf("a write of %d over %d, %v changes %v and %v", v, best, present, changed, twinChanged)
	}
	if changed {
		d, _ := r.next(i)
		r.events = append(r.events, extremumEvent{dot: d, at: at, value: v})
	}
	r.checkDelta(t, old, delta, i)
}

func (r *extremumRun[T]) delete(t *rapid.T, i int) {
	at := r.now(t, i)
	d, _ := r.next(i)
	r.events = append(r.events, extremumEvent{dot: d, at: at, deletes: true})
	old := r.clone(r.replicas[i])
	delta := r.remove(&r.replicas[i], at.time, at.actor)
	r.remove(&r.twins[i], at.time, at.actor)
	r.checkDelta(t, old, delta, i)
}

func (r *extremumRun[T]) checkDelta(t *rapid.T, old, delta T, i int) {
	if got := r.join(old, delta); !r.equal(got, r.replicas[i]) {
		t.Fatalf("joining the change %+v gives %+v, not %+v", delta, got, r.replicas[i])
	}
	roundTrip(t, delta, r.decode, r.equal)
	r.states = append(r.states, delta)
}

// collapse collapses a replica's twin up to where the replica has the events of all.
func (r *extremumRun[T]) collapse(t *rapid.T, i int) {
	cut := slices.Min(r.reached[i][:])
	r.extremum.collapse(&r.twins[i], cut)
	once := r.clone(r.twins[i])
	if r.extremum.collapse(&once, cut); !r.equal(once, r.twins[i]) {
		t.Fatalf("collapsing twice: %+v, not %+v", once, r.twins[i])
	}
}

func (r *extremumRun[T]) compare(t *rapid.T, i int) {
	best, present := r.spec(r.events, r.seen[i])
	for name, state := range map[string]T{"replica": r.replicas[i], "collapsing twin": r.twins[i]} {
		if v, ok := r.value(state); v != best || ok != present {
			t.Fatalf("%s: value %d, %v; want %d, %v: %+v", name, v, ok, best, present, state)
		}
		if r.size(state) > len(r.replicas) {
			t.Fatalf("%s: more writes than actors: %+v", name, state)
		}
		roundTrip(t, state, r.decode, r.equal)
	}
	r.states = append(r.states, r.clone(r.replicas[i]), r.clone(r.twins[i]))
}

// TestMaxRegisterChangesInAnyOrder: a late delete uncovers the largest of the writes after it, and an
// actor's change carries the delete that it had seen, so an actor never has two writes.
func TestMaxRegisterChangesInAnyOrder(t *testing.T) {
	var a, b, c MaxRegister
	ten, _ := a.Raise(10, 1, 10)
	five, _ := b.Raise(30, 2, 5)
	gone := b.Delete(20, 3)
	for _, delta := range []MaxRegister{five, ten} {
		c.Join(delta)
	}
	if v, _ := c.Value(); v != 10 || c.Len() != 2 {
		t.Fatalf("value %d, %+v", v, c)
	}
	collapsed := c.Clone()
	collapsed.Collapse(29)
	if !collapsed.Equal(c) {
		t.Fatalf("one write at or before the cut, and yet it collapses to %+v", collapsed)
	}
	if collapsed.Collapse(30); !collapsed.Equal(ten) {
		t.Fatalf("%+v, not the larger write alone", collapsed)
	}
	a.Join(gone)
	if _, ok := a.Value(); ok {
		t.Fatalf("%+v", a)
	}
	four, changed := a.Raise(25, 1, 4)
	if at, actor := four.DeletedAt(); !changed || at != 20 || actor != 3 {
		t.Fatalf("%v, %+v", changed, four)
	}
	c.Join(four) // before the delete itself
	if v, _ := c.Value(); v != 5 || c.Len() != 1 {
		t.Fatalf("value %d, %+v", v, c)
	}
	c.Join(gone)
	if delta, changed := c.Raise(15, 1, 100); changed || delta.Len() != 0 || c.Len() != 1 {
		t.Fatalf("a write before the delete counts: %+v", c)
	}
}

// TestMaxRegisterSameMoment: no two events share a moment, but whatever is decoded must join the same
// way round, to what can be decoded again.
func TestMaxRegisterSameMoment(t *testing.T) {
	at := moment{7, 1}
	five, six := MaxRegister{writes: []maxWrite{{at, 5}}}, MaxRegister{writes: []maxWrite{{at, 6}}}
	gone := MaxRegister{deletedAt: at}
	if !maxExtremum.join(five, six).Equal(six) || !maxExtremum.join(six, five).Equal(six) {
		t.Errorf("%+v", maxExtremum.join(five, six))
	}
	if !maxExtremum.join(five, gone).Equal(gone) || !maxExtremum.join(gone, five).Equal(gone) {
		t.Errorf("%+v", maxExtremum.join(five, gone))
	}
}

func TestExtremumOfExtremes(t *testing.T) {
	var hi MaxRegister
	var lo MinRegister
	for i, v := range []int64{0, math.MinInt64, math.MaxInt64} {
		at := hlc.Time(i + 1)
		hi.Delete(at, 1)
		lo.Delete(at, 1)
		if _, changed := hi.Raise(at, 2, v); !changed {
			t.Errorf("raise %d changes nothing", v)
		}
		if _, changed := lo.Lower(at, 2, v); !changed {
			t.Errorf("lower %d changes nothing", v)
		}
		largest, _ := hi.Value()
		smallest, _ := lo.Value()
		if largest != v || smallest != v {
			t.Errorf("%d is %d and %d", v, largest, smallest)
		}
		if when, actor := lo.DeletedAt(); when != at || actor != 1 {
			t.Errorf("deleted at %v by %d", when, actor)
		}
	}
}

func addMaxRegisterGolden(names *[]string, values map[string]encoder) {
	at := hlc.At(1_700_000_000_000, 5)
	var hi, late, gone MaxRegister
	hi.Delete(at, 65)
	hi.Raise(at+1, 1, 1<<40)
	late.Raise(at+1<<16, 300, -5)
	hi.Join(late)
	gone.Delete(at, 1)
	var lo, higher MinRegister
	lo.Lower(at, 1, -5)
	higher.Lower(at, 2, math.MaxInt64)
	lo.Join(higher)
	for _, v := range []struct {
		name  string
		value encoder
	}{
		{"max empty", MaxRegister{}},
		{"max deleted", gone},
		{"max with a smaller write", hi},
		{"min empty", MinRegister{}},
		{"min with a larger write", lo},
	} {
		*names = append(*names, v.name)
		values[v.name] = v.value
	}
}

func TestMaxRegisterDecoderRefuses(t *testing.T) {
	const one, two = "000000000000000101", "000000000000000201" // moments
	for _, c := range []struct{ kind, hex, reason string }{
		{"max", "", "ends early"},
		{"max", "02", "unknown version"},
		{"max", "0102", "unknown flags"},
		{"max", "0101" + "000000000000000000", "flagged but 0"},
		{"max", "0101" + "00000000", "ends early"},
		{"max", "0100" + "000000000000000000" + "02", "not after the delete"},
		{"max", "0101" + one + one + "02", "not after the delete"},
		{"max", "0100" + two + "04" + one + "02", "out of order"},
		{"max", "0100" + one + "04" + one + "02", "out of order"},
		{"max", "0100" + one + "02" + two + "04", "not larger"},
		{"max", "0100" + one + "02" + two + "02", "not larger"},
		{"max", "0100" + one, "bad varint"},
		{"max", "0100" + one + "8200", "longer than needed"},
		{"min", "0100" + two + "04" + one + "02", "decode min register"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeAny(c.kind, data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s %s: %v, want %s", c.kind, c.hex, err, c.reason)
		}
	}
}

func TestCollectDropsTheDeleteToo(t *testing.T) {
	var r MaxRegister
	r.Delete(3, 1)
	for i, v := range []int64{9, 7, 5} {
		r.Join(MaxRegister{writes: []maxWrite{{moment{hlc.Time(4 + i), 2}, v}}})
	}
	r.Collect(2)
	if at, by := r.DeletedAt(); at != 3 || by != 1 || r.Len() != 3 {
		t.Errorf("too early: %+v", r)
	}
	r.Collect(5)
	if at, by := r.DeletedAt(); at != 0 || by != 0 {
		t.Errorf("deleted at %v by %v", at, by)
	}
	if got, want := r.Writes(), []ExtremeWrite{{4, 2, 9}, {6, 2, 5}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var low MinRegister
	low.Lower(1, 1, -4)
	low.Delete(2, 1)
	low.Collect(2)
	low.Lower(3, 1, 7)
	if got, want := low.Writes(), []ExtremeWrite{{3, 1, 7}}; !slices.Equal(got, want) || !low.Equal(MinRegister{MaxRegister{writes: []maxWrite{{moment{3, 1}, ^7}}}}) {
		t.Errorf("%v, want %v", got, want)
	}
}
