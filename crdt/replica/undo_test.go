package replica

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// TestTakingBackLeavesTheRest: of every kind, here and where it is merged, in a leaf of a map, too.
func TestTakingBackLeavesTheRest(t *testing.T) {
	leaf, err := crdt.NewPath("leaf")
	line, err2 := crdt.NewPath("line")
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 65)
	var log []Delta
	run := func(ops ...Op) []Addition {
		_, deltas, additions := doWrite(t, a, writeID(1), ops...)
		log = append(log, deltas...)
		return additions
	}
	inMap := Op{Kind: OpCounterAdd, Key: "m", Path: leaf, Delta: 4}
	lineInMap := Op{Kind: OpTimelineAdd, Key: "m", Path: line, Value: []byte("leaf")}
	run(Op{Kind: OpCounterAdd, Key: "c", Delta: 1}, Op{Kind: OpBoundedInc, Key: "b", Delta: 10}, zsetCounted(OpZSetIncr, 3),
		Op{Kind: OpTimelineAdd, Key: "t", Value: []byte("stays")}, inMap)
	inMap.Delta = -9
	twice := run(Op{Kind: OpCounterAdd, Key: "c", Delta: 20}, Op{Kind: OpBoundedInc, Key: "b", Delta: 5}, Op{Kind: OpBoundedDec, Key: "b", Delta: 2},
		zsetCounted(OpZSetIncr, 30), Op{Kind: OpTimelineAdd, Key: "t", Value: []byte("goes")}, inMap, lineInMap)
	run(Op{Kind: OpCounterAdd, Key: "c", Delta: 300})
	for _, addition := range twice {
		log = append(log, undo(t, a, addition))
	}
	merge(t, b, log...)
	folded := open(t, NewMemory(), 65)
	if _, err := folded.MergeRun(foldAll(t, log)); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Replica{"author": a, "other": b, "folded": folded} {
		checkTheRest(t, name, r, leaf, line)
	}
	x, _ := a.Digest()
	y, _ := b.Digest()
	if z, _ := folded.Digest(); x != y || y != z {
		t.Error("digests differ")
	}
}

func checkTheRest(t *testing.T, name string, r *Replica, leaf, line crdt.Path) {
	t.Helper()
	c, _, _ := r.LookupType("", "c", crdt.TypeCounter, noon)
	bounded, _, _ := r.LookupType("", "b", crdt.TypeBoundedCounter, noon)
	score, _, _ := r.CounterZSetScore("", "z", []byte("m"))
	entries, _, err := r.Timeline("", "t", TimelineRange{Limit: 9, MaxBytes: 99})
	m, _, _ := r.Below(leaf).LookupType("", "m", crdt.TypeCounter, noon)
	_, lineLeft, _ := r.Below(line).LookupType("", "m", crdt.TypeTimeline, noon)
	got := [...]int64{c.Counter, bounded.Counter, bounded.Bounded.Rights(1), score, m.Counter}
	if want := [...]int64{301, 10, 10, 3, 4}; err != nil || got != want || lineLeft {
		t.Errorf("%s: sums %v, want %v, timeline leaf %v, %v", name, got, want, lineLeft, err)
	}
	if len(entries) != 1 || string(entries[0].Value) != "stays" {
		t.Errorf("%s: entries %+v", name, entries)
	}
	if err := audit(&node{kv: r.kv.(*Memory), r: r}); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// TestNothingIsTakenBackOfWhatIsGone: no event is made.
func TestNothingIsTakenBackOfWhatIsGone(t *testing.T) {
	r := open(t, NewMemory(), 1)
	_, _, additions := doWrite(t, r, writeID(1), Op{Kind: OpCounterAdd, Key: "c", Delta: 1}, zsetCounted(OpZSetAdd, 3), Op{Kind: OpTimelineAdd, Key: "t"},
		Op{Kind: OpCounterAdd, Key: "zero"})
	do(t, r, Op{Kind: OpDelete, Key: "c"})
	do(t, r, Op{Kind: OpDelete, Key: "z"})
	do(t, r, Op{Kind: OpDelete, Key: "t"})
	check := func() {
		t.Helper()
		for _, a := range additions {
			if d, left, err := r.Undo(noon, a); d != nil || left != 0 || err != nil {
				t.Errorf("%+v: %+v, %d, %v", a, d, left, err)
			}
		}
	}
	check()
	do(t, r, Op{Kind: OpCounterAdd, Key: "c", Delta: 7}) // a new generation
	do(t, r, zsetCounted(OpZSetAdd, 9))
	do(t, r, Op{Kind: OpTimelineAdd, Key: "t"})
	check()
	if o, _, err := r.LookupType("", "c", crdt.TypeCounter, noon); o.Counter != 7 || err != nil {
		t.Errorf("counter %d, %v", o.Counter, err)
	}
}

// TestAResetCoversWhatIsTakenBackBehindItsBack: a region resets an addition and what was to replace it, not knowing
// that the one is taken back at the same time. Nothing of it is left, and what came after the reset stays.
func TestAResetCoversWhatIsTakenBackBehindItsBack(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, added, additions := doWrite(t, b, writeID(1), Op{Kind: OpCounterAdd, Key: "c", Delta: 5})
	merge(t, a, added...)
	_, reset := do(t, a, Op{Kind: OpCounterReset, Key: "c"})
	taken := undo(t, b, additions[0])
	_, more := do(t, b, Op{Kind: OpCounterAdd, Key: "c", Delta: 3})
	merge(t, a, taken, more[0])
	merge(t, b, reset...)
	for _, r := range []*Replica{a, b} {
		if o, _, err := r.LookupType("", "c", crdt.TypeCounter, noon); o.Counter != 3 || err != nil {
			t.Errorf("region %d: counter %d, %v", r.Self(), o.Counter, err)
		}
	}
}

// TestManyAdditionsAreTakenBack: beyond what voids can say, by additions of the opposite sign.
func TestManyAdditionsAreTakenBack(t *testing.T) {
	r := open(t, NewMemory(), 1)
	var additions []Addition
	for range crdt.MaxVoids + 50 {
		_, _, a := doWrite(t, r, writeID(1), Op{Kind: OpCounterAdd, Key: "c", Delta: 2})
		additions = append(additions, a...)
	}
	do(t, r, Op{Kind: OpCounterAdd, Key: "c", Delta: 1})
	for _, a := range additions {
		undo(t, r, a)
	}
	o, _, err := r.LookupType("", "c", crdt.TypeCounter, noon)
	if o.Counter != 1 || err != nil {
		t.Errorf("counter %d, %v", o.Counter, err)
	}
	all, err := r.Explain("", "c")
	if err != nil || len(all[0].Counter.Voids()) != crdt.MaxVoids {
		t.Errorf("%v", err)
	}
}

// TestWhatWasSpentIsOwed: a bounded counter never falls below 0, and what was used of a duplicate is left.
func TestWhatWasSpentIsOwed(t *testing.T) {
	r := open(t, NewMemory(), 1)
	_, _, additions := doWrite(t, r, writeID(1), Op{Kind: OpBoundedInc, Key: "b", Delta: 10})
	do(t, r, Op{Kind: OpBoundedDec, Key: "b", Delta: 7})
	if d, left, err := r.Undo(noon, additions[0]); d == nil || left != 7 || err != nil {
		t.Fatalf("%+v, left %d, %v", d, left, err)
	}
	additions[0].Amount = 7
	if d, left, err := r.Undo(noon, additions[0]); d != nil || left != 7 || err != nil {
		t.Fatalf("%+v, left %d, %v", d, left, err)
	}
	do(t, r, Op{Kind: OpBoundedInc, Key: "b", Delta: 10})
	undo(t, r, additions[0])
	if o, _, err := r.LookupType("", "b", crdt.TypeBoundedCounter, noon); o.Counter != 3 || err != nil {
		t.Errorf("counter %d, %v", o.Counter, err)
	}
}
