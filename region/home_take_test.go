package region_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// closes has a region know that another one is closed, at what it has of it.
func (f *fixture) closes(t *testing.T, other topology.RegionID, change func(*region.Fact)) {
	t.Helper()
	known := region.Facts{Epoch: f.View().Facts.Epoch + 2, Facts: []region.Fact{
		{Region: testEU, Actor: actorOf(testEU), State: region.ActorOpen, Destination: true},
		{Region: testUS, Actor: actorOf(testUS), State: region.ActorOpen, Destination: true},
	}}
	for i := range known.Facts {
		if fact := &known.Facts[i]; fact.Region == other {
			fact.State, fact.Released, fact.Cut = region.ActorClosed, true, f.View().Vector.Get(fact.Actor)
			fact.Destination = false
			change(fact)
		}
	}
	f.take(t, known)
}

// TestOnlyWhatIsClosedIsTaken: a home that may be there, or whose last events are not all here, is not replaced.
func TestOnlyWhatIsClosedIsTaken(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWriteHome(t, "", put("k", "v"))
	us.mustMerge(t, eu, 1)
	refused := func(why string) {
		t.Helper()
		var open *region.HomeNotClosedError
		if err := us.TakeHome(t.Context(), "default", testEU); !errors.As(err, &open) || open.Home != testEU {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("nothing is known of the membership")
	us.closes(t, 0, nil)
	refused("both take part")
	us.closes(t, testEU, func(f *region.Fact) { f.State, f.Released, f.Cut = region.ActorFenced, false, 0 })
	refused("fenced, but not closed")
	us.closes(t, testEU, func(f *region.Fact) { f.Released = false })
	refused("closed, but not everywhere")
	us.closes(t, testEU, func(f *region.Fact) { f.Cut++ })
	refused("closed beyond what is here")
	us.closes(t, testEU, func(*region.Fact) {})
	for range 2 { // as often as one likes
		if err := us.TakeHome(t.Context(), "default", testEU); err != nil {
			t.Fatal(err)
		}
	}
	us.knowsHome(t, region.HomeState{Home: testUS, Epoch: 2 << 32, Serving: true})
	us.mustWriteHome(t, "", put("k", "us"))
}

// TestATakenHomeBehavesAsOneCopy: what was at the survivor when the home was closed, and nothing that the closed one goes on
// to do without knowing of it, or that arrives late.
func TestATakenHomeBehavesAsOneCopy(t *testing.T) {
	taken, beyond := 0, 0
	for seed := range *homeRuns {
		w := newHomeWorld(t, uint64(seed), testEU, testUS)
		for range 60 + w.rng.IntN(100) {
			w.step()
		}
		if w.takes > 0 { // those of the model know nothing of the membership
			continue
		}
		lost, left := w.all[0], w.all[1]
		if home, _, _ := left.View().Home("default"); home == testUS {
			lost, left = left, lost
		}
		left.closes(t, regionOf(lost), func(*region.Fact) {})
		if err := left.TakeHome(t.Context(), "default", testEU); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		_, epoch, serving := left.View().Home("default")
		if !serving {
			t.Fatalf("seed %d: taken over, and does not serve", seed)
		}
		taken++
		w.term = epoch >> 32
		w.survives(left)
		for i := range 60 {
			if _, err := lost.WriteHome(t.Context(), "", []replica.Op{put(fmt.Sprint("k", i%3), "lost")}, lost == w.all[0]); err == nil {
				beyond++
			}
			box, _ := lost.Outbox()
			if have := left.View().Vector.Get(box.Actor); have < box.Head {
				var closed *region.ClosedError
				if _, err := left.Merge(t.Context(), box.Actor, deltas(t, lost, have+1)); !errors.As(err, &closed) {
					t.Fatalf("seed %d: what is beyond the cut is merged: %v", seed, err)
				}
			}
			w.write(left)
			w.read(left)
		}
	}
	t.Logf("%d taken over, %d writes of homes that did not know", taken, beyond)
	if taken == 0 || beyond == 0 {
		t.Error("something never happened")
	}
}
