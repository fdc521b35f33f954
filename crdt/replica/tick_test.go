package replica

import (
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

func needsTick(r *Replica) bool { return r.NeedsTick(r.LastHLC() + 1<<30) }

func mustTick(t *testing.T, r *Replica, now hlc.Time) Delta {
	t.Helper()
	d, ticked, err := r.Tick(now)
	if err != nil || !ticked {
		t.Fatalf("ticked: %v, %v", ticked, err)
	}
	return d
}

// TestTicksSayWhatOthersWaitFor: a tick is made once after what was merged, says all that was seen, and needs no
// answer.
func TestTicksSayWhatOthersWaitFor(t *testing.T) {
	a, b, c := open(t, NewMemory(), 1), open(t, NewMemory(), 2), open(t, NewMemory(), 3)
	_, put := do(t, a, Op{Kind: OpPut, Key: "k"})
	merge(t, b, put...)
	merge(t, c, put...)
	if !needsTick(b) || !needsTick(c) {
		t.Error("what was merged is not told")
	}
	tick := mustTick(t, b, 0) // of a clock that is behind
	if tick.Dot != (crdt.Dot{Actor: 2, Seq: 1}) || tick.Time <= put[0].Time || len(tick.Effects) > 0 {
		t.Errorf("tick %+v", tick)
	}
	wantSeen(t, tick, put[0].Dot)
	before := c.Owed()
	merge(t, a, tick)
	merge(t, c, tick)
	if needsTick(a) || needsTick(b) || c.Owed() != before {
		t.Error("a tick makes a tick necessary")
	}
}

// TestTicksAreNotMadeInVain: not by who has merged nothing, and not after an event that told it all.
func TestTicksAreNotMadeInVain(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	if needsTick(a) {
		t.Error("an empty replica ticks")
	}
	_, put := do(t, a, Op{Kind: OpPut, Key: "k"})
	if needsTick(a) {
		t.Error("a replica ticks after its own event")
	}
	if d, ticked, err := a.Tick(noon); ticked || err != nil || d.Dot.Seq != 0 || a.Seq() != 1 {
		t.Errorf("a tick that nobody needs: %+v, %v", d, err)
	}
	merge(t, b, put...)
	if do(t, b, Op{Kind: OpPut, Key: "l"}); needsTick(b) {
		t.Error("what an event has told is to be told again")
	}
}

// TestTicksAfterConcurrentEvents: that an own event is later than what was merged since does not tell of it.
func TestTicksAfterConcurrentEvents(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, put := do(t, a, Op{Kind: OpPut, Key: "k"})
	_, later, err := b.Execute(noon+1<<30, []Op{{Kind: OpPut, Key: "l"}})
	if err != nil {
		t.Fatal(err)
	}
	merge(t, b, put...)
	d := mustTick(t, b, 0)
	if d.Time <= later[0].Time {
		t.Errorf("tick %+v after %+v", d, later)
	}
	wantSeen(t, d, put[0].Dot)
}

func wantSeen(t *testing.T, d Delta, want ...crdt.Dot) {
	t.Helper()
	if !slices.Equal(d.Seen, want) {
		t.Errorf("%v has seen %v, want %v", d.Dot, d.Seen, want)
	}
}

// TestExpiryMakesATickNecessary: every region has to be past it, also where nothing was written since; not where
// something was.
func TestExpiryMakesATickNecessary(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, put := do(t, a, until(Op{Kind: OpPut, Key: "k"}, 1<<41))
	merge(t, b, put...)
	mustTick(t, b, noon)
	for _, r := range []*Replica{a, b} {
		if _, err := r.Expire(Expiry{Now: at(1<<41) - 1, Limit: 9}); err != nil || r.Owed() != 0 {
			t.Errorf("region %d owes an event at %v before the expiry, %v", r.Self(), r.Owed(), err)
		}
		if r == b {
			if _, _, err := r.Execute(at(1<<41+1), []Op{{Kind: OpPut, Key: "l"}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Expire(Expiry{Now: at(1<<41 + 2), Limit: 9}); err != nil {
			t.Fatal(err)
		}
	}
	if a.Owed() != at(1<<41) || b.Owed() != 0 {
		t.Errorf("a owes an event at %v, b at %v", a.Owed(), b.Owed())
	}
	if a.NeedsTick(at(1<<41) - 1) {
		t.Error("a tick is of use before its time")
	}
	if _, ticked, err := a.Tick(at(1<<41) - 1); ticked || err != nil {
		t.Errorf("a tick of a clock that is behind: %v, %v", ticked, err)
	}
	if d := mustTick(t, a, at(1<<41+3)); d.Time != at(1<<41+3) || a.Owed() != 0 {
		t.Errorf("tick %+v, and then an event at %v is owed", d, a.Owed())
	}
}

// goldenTicks are a tick after a merge and one after an expiry.
func goldenTicks(t testing.TB) ([]string, []Delta) {
	t.Helper()
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, put := do(t, a, until(Op{Kind: OpPut, Key: "k"}, 1<<41))
	merge(t, b, put...)
	first, _, err := b.Tick(noon + 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Expire(Expiry{Now: at(1 << 41), Limit: 9}); err != nil {
		t.Fatal(err)
	}
	second, ticked, err := b.Tick(at(1<<41 + 1))
	if err != nil || !ticked {
		t.Fatalf("ticked: %v, %v", ticked, err)
	}
	return []string{"tick", "tick after an expiry"}, []Delta{first, second}
}

// TestTicksInRuns: of ticks among other events only what their authors had seen is left, and they cause no tick there
// either.
func TestTicksInRuns(t *testing.T) {
	a, b, c := open(t, NewMemory(), 1), open(t, NewMemory(), 2), open(t, NewMemory(), 3)
	var ofA, ofB []Delta
	for range 3 {
		_, d := do(t, a, Op{Kind: OpPut, Key: "k"})
		ofA = append(ofA, d...)
		merge(t, b, d...)
		ofB = append(ofB, mustTick(t, b, noon))
	}
	merge(t, c, ofA...)
	mustTick(t, c, noon)
	ticks, err := Fold(ofB)
	if err != nil || len(ticks.Deltas) != 1 || ticks.Time() != ofB[2].Time {
		t.Fatalf("folded to %+v, %v", ticks, err)
	}
	wantSeen(t, ticks.Deltas[0], ofA[2].Dot)
	if ticks, err = DecodeRun(EncodeRun(ticks)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.MergeRun(ticks); err != nil || n != 3 || needsTick(c) || c.HLCOf(2) != ofB[2].Time {
		t.Errorf("merged %d of %+v, %v, and a tick is needed: %v", n, ticks, err, needsTick(c))
	}
	_, put := do(t, b, Op{Kind: OpPut, Key: "k"})
	mixed, err := Fold(append(ofB, put...))
	if err != nil || len(mixed.Deltas) != 1 || mixed.Deltas[0].Dot != put[0].Dot {
		t.Fatalf("folded to %+v, %v", mixed, err)
	}
	wantSeen(t, mixed.Deltas[0], ofA[2].Dot)
}

// TestExpireSettlesAndSweeps: what one event leaves over of many resets, or of a large set, goes without another.
func TestExpireSettlesAndSweeps(t *testing.T) {
	a, b := newNode(1), newNode(2)
	const counters = 3 * sweepBudget
	var added, reset []Delta
	for i := range counters {
		_, d := do(t, a.r, Op{Kind: OpCounterAdd, Key: fmt.Sprint(i), Delta: 1})
		added = append(added, d...)
	}
	merge(t, b.r, added...)
	for i := range counters {
		_, d := do(t, b.r, Op{Kind: OpCounterReset, Key: fmt.Sprint(i)})
		reset = append(reset, d...)
	}
	set := Op{Kind: OpSetAdd, Key: "s"}
	for i := range 4 * sweepBudget {
		set.Elements = append(set.Elements, fmt.Append(nil, i))
	}
	do(t, b.r, set)
	do(t, b.r, Op{Kind: OpSetClear, Key: "s"})
	merge(t, a.r, reset...)
	merge(t, b.r, mustTick(t, a.r, noon))
	if b.r.meta.unsettled == 0 || b.r.meta.garbage == 0 {
		t.Fatal("there is nothing left to do")
	}
	for calls := 0; ; calls++ {
		due, err := b.r.Due(Expiry{})
		if err != nil || calls > counters {
			t.Fatalf("after %d calls: %v", calls, err)
		}
		if !due {
			break
		}
		if found, err := b.r.Expire(Expiry{Limit: 50}); err != nil || len(found.Deltas)+len(found.Names) > 0 {
			t.Fatalf("%+v, %v", found, err)
		}
	}
	if err := emptyOf(b); err != nil {
		t.Error(err)
	}
}

// TestReleasedActorsSettle: a reset of what an actor added that will never be heard of again leaves nothing.
func TestReleasedActorsSettle(t *testing.T) {
	a, b := newNode(1), newNode(2)
	_, added := do(t, a.r, Op{Kind: OpCounterAdd, Key: "n", Delta: 1})
	_, more := do(t, a.r, Op{Kind: OpCounterAdd, Key: "other", Delta: 1})
	merge(t, b.r, append(added, more...)...)
	do(t, b.r, Op{Kind: OpCounterReset, Key: "n"})
	due := func(want bool) {
		t.Helper()
		if got, err := b.r.Due(Expiry{}); err != nil || got != want {
			t.Fatalf("something is due: %v, %v", got, err)
		}
	}
	due(false)
	b.r.UseReleased(map[crdt.Actor]uint64{1: 9}) // there are events of it that are not here
	due(false)
	b.r.UseReleased(map[crdt.Actor]uint64{1: 2})
	due(true)
	if _, err := b.r.Expire(Expiry{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	due(false)
	if b.r.meta.unsettled != 0 {
		t.Errorf("%d resets are not settled", b.r.meta.unsettled)
	}
	if _, ok, err := b.r.Lookup("", "n", noon); ok || err != nil {
		t.Errorf("the counter is there: %v", err)
	}
}

// TestGivenUpActorsSettle: so does a reset of what never arrived, because it was given up: only who made the reset had it.
func TestGivenUpActorsSettle(t *testing.T) {
	a, b, c := newNode(1), newNode(2), newNode(3)
	_, added := do(t, a.r, Op{Kind: OpCounterAdd, Key: "n", Delta: 1})
	merge(t, b.r, added...)
	_, reset := do(t, b.r, Op{Kind: OpCounterReset, Key: "n"})
	merge(t, c.r, reset...)
	if c.r.meta.unsettled == 0 {
		t.Fatal("the reset left nothing")
	}
	c.r.UseReleased(map[crdt.Actor]uint64{1: 0})
	if due, err := c.r.Due(Expiry{}); err != nil || !due {
		t.Errorf("something is due: %v, %v", due, err)
	}
	if _, err := c.r.Expire(Expiry{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	if c.r.meta.unsettled != 0 {
		t.Errorf("%d resets are not settled", c.r.meta.unsettled)
	}
}
