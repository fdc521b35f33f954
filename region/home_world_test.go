package region_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

var homeRuns = flag.Int("home-runs", 60, "random runs of homes that move")

// homeWorld is regions whose home moves and is taken over, and what a single copy of the keys would hold.
type homeWorld struct {
	t      *testing.T
	rng    *rand.Rand
	all    []*fixture
	timers map[*fixture]*region.TickTimer
	term   uint64
	// value is the one copy: what was acknowledged, but for what a takeover gave up.
	value map[string]string
	// acked are values that were acknowledged under a term, by region: those that a takeover does not find are given up.
	acked map[string]bool
	next  int
	// Of the run: how often each thing happened.
	moves, takes, late, refused, unsettled int
}

func newHomeWorld(t *testing.T, seed uint64, regions ...topology.RegionID) *homeWorld {
	w := &homeWorld{t: t, rng: rand.New(rand.NewPCG(seed, 21)), term: 1, value: map[string]string{}, acked: map[string]bool{}, timers: map[*fixture]*region.TickTimer{}}
	for i, id := range regions {
		var others []topology.RegionID
		others = append(append(others, regions[:i]...), regions[i+1:]...)
		w.all = append(w.all, newFixture(t, id, others...))
		w.timers[w.all[i]] = &region.TickTimer{}
	}
	return w
}

// leased reports whether a region may act as home: what it takes for the home is of the present term. Its lease has run
// out if it is not.
func (w *homeWorld) leased(f *fixture) bool {
	_, epoch, serving := f.View().Home("default")
	return epoch == 0 && f == w.all[0] && w.term == 1 || serving && epoch>>32 == w.term
}

func (w *homeWorld) write(f *fixture) {
	key := fmt.Sprint("k", w.rng.IntN(3))
	op := put(key, fmt.Sprint("v", w.next))
	w.next++
	switch w.rng.IntN(4) {
	case 0:
		op = replica.Op{Kind: replica.OpDelete, Namespace: "default", Key: key, Type: 1}
	case 1:
		op.Condition = replica.Condition{Kind: replica.CondAbsent}
	case 2, 11:
		op.Condition = replica.Condition{Kind: replica.CondValue, Value: []byte(w.value[key])}
	}
	if !w.leased(f) && w.term > 1 {
		return
	}
	before, present := w.value[key]
	w.judge(f, &op, before, present)
}

// judge does a write, and checks the answer against what the one copy holds.
func (w *homeWorld) judge(f *fixture, op *replica.Op, before string, present bool) {
	_, err := f.WriteHome(w.t.Context(), "", []replica.Op{*op}, f == w.all[0])
	holds := true
	switch op.Condition.Kind {
	case replica.CondAbsent:
		holds = !present
	case replica.CondValue:
		holds = present && before == string(op.Condition.Value)
	}
	condition, elsewhere := (*replica.ConditionError)(nil), (*region.NotHomeError)(nil)
	switch {
	case errors.As(err, &elsewhere):
		if w.leased(f) {
			w.t.Fatalf("the home refuses: %v", err)
		}
		w.refused++
		return
	case err != nil && !errors.As(err, &condition):
		w.t.Fatal(err)
	case (err == nil) != holds:
		w.t.Fatalf("%v %q on %q (%v): condition %d answers %v", regionOf(f), op.Value, before, present, op.Condition.Kind, err)
	case err == nil && op.Kind == replica.OpDelete:
		delete(w.value, op.Key)
	case err == nil:
		w.value[op.Key] = string(op.Value)
		w.acked[string(op.Value)] = true
	}
}

// deliver has one region merge some of what another one has.
func (w *homeWorld) deliver(to, from *fixture, most int) {
	box, _ := from.Outbox()
	have := to.View().Vector.Get(box.Actor)
	if to == from || have == box.Head {
		return
	}
	data := deltas(w.t, from, have+1)
	data = data[:min(len(data), most)]
	if n := uint64(len(data)); n > 1 && w.rng.IntN(3) == 0 {
		data = [][]byte{folded(w.t, from, have+1, have+n)}
	}
	if _, err := to.Merge(w.t.Context(), box.Actor, data); err != nil {
		w.t.Fatal(err)
	}
}

// read checks that what a home reads is the one copy.
func (w *homeWorld) read(f *fixture) {
	if !w.leased(f) {
		return
	}
	for i := range 3 {
		key := fmt.Sprint("k", i)
		got, want := w.get(f, key, true), w.value[key]
		if got != want {
			w.t.Fatalf("home %d reads %q of %s, want %q (term %d)", regionOf(f), got, key, want, w.term)
		}
	}
}

func (w *homeWorld) get(f *fixture, key string, home bool) string {
	var value string
	_, err := f.Read(w.t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		if home {
			if err := f.AtHome(r, "default", f == w.all[0]); err != nil {
				return err
			}
		}
		o, _, err := r.Lookup("default", key, now)
		value = string(o.Value)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return value
}

// take is a takeover by force: what the new home does not have is given up.
func (w *homeWorld) take(f *fixture) {
	if _, epoch, _ := f.View().Home("default"); epoch == 0 {
		return
	}
	w.term++
	w.takes++
	if err := f.ForceHome(w.t.Context(), "default", w.term); err != nil {
		w.t.Fatal(err)
	}
	w.survives(f)
}

// survives makes the one copy what a region has.
func (w *homeWorld) survives(f *fixture) {
	for i := range 3 {
		key := fmt.Sprint("k", i)
		delete(w.value, key)
		if v := w.get(f, key, false); v != "" {
			w.value[key] = v
		}
	}
}

func (w *homeWorld) step() {
	f := w.all[w.rng.IntN(len(w.all))]
	switch w.rng.IntN(20) {
	case 0, 12:
		to := w.all[w.rng.IntN(len(w.all))]
		if _, epoch, _ := f.View().Home("default"); epoch != 0 && w.leased(f) && to != f {
			switch err := f.MoveHome(w.t.Context(), "default", regionOf(to), f == w.all[0]); {
			case errors.Is(err, region.ErrHomeUnsettled):
				w.unsettled++
			case err != nil:
				w.t.Fatal(err)
			default:
				w.moves++
			}
		}
	case 1:
		if w.rng.IntN(4) == 0 {
			w.take(f)
		}
	case 2, 11:
		for _, f := range w.all {
			f.clock.advance(2 * time.Second)
		}
		if err := errors.Join(f.ExpireDue(w.t.Context()), f.TickDue(w.t.Context(), w.timers[f])); err != nil {
			w.t.Fatal(err)
		}
	case 3, 4, 5, 6, 7, 8:
		w.deliver(f, w.all[w.rng.IntN(len(w.all))], 1+w.rng.IntN(6))
	case 9, 10:
		w.read(f)
	default:
		w.write(f)
	}
}

// settle has all regions get all, and compares them.
func (w *homeWorld) settle() {
	for range 8 {
		for _, to := range w.all {
			for _, from := range w.all {
				w.deliver(to, from, 1000)
			}
		}
	}
	kept := map[string]bool{}
	for _, f := range w.all {
		_, err := f.Read(w.t.Context(), region.ReadOptions{}, func(r *replica.Replica, _ hlc.Time) error {
			losers, _, err := r.Losers(replica.LoserQuery{Limit: replica.MaxLosers, Bytes: replica.MaxLoserBytes})
			for _, l := range losers {
				if l.Namespace == replica.HomeNamespace {
					w.t.Errorf("a home is told of as a client's value that lost")
				}
				kept[string(l.Value)] = true
			}
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
		if !f.View().Vector.Equal(w.all[0].View().Vector) {
			w.t.Fatalf("vectors %v and %v", f.View().Vector, w.all[0].View().Vector)
		}
		for i := range 3 {
			key := fmt.Sprint("k", i)
			if got := w.get(f, key, false); got != w.value[key] {
				w.t.Fatalf("region %d has %q of %s at the end, want %q", regionOf(f), got, key, w.value[key])
			}
		}
	}
	for v := range kept {
		w.late++
		if !w.acked[v] {
			w.t.Errorf("%q is kept as a loser, but was never acknowledged", v)
		}
	}
}

// TestHomesBehaveAsOneCopy: over moves and takeovers, whatever order deltas come in.
func TestHomesBehaveAsOneCopy(t *testing.T) {
	var moves, takes, late, refused, unsettled int
	for seed := range *homeRuns {
		regions := []topology.RegionID{testEU, testUS, testAP}[:2+seed%2]
		w := newHomeWorld(t, uint64(seed), regions...)
		for range 300 {
			w.step()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		w.settle()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		moves, takes, late, refused, unsettled = moves+w.moves, takes+w.takes, late+w.late, refused+w.refused, unsettled+w.unsettled
	}
	t.Logf("%d moves, %d takeovers, %d values lost to them, %d writes and %d moves refused", moves, takes, late, refused, unsettled)
	if unsettled == 0 || moves == 0 || takes == 0 || late == 0 || refused == 0 {
		t.Error("something never happened")
	}
}
