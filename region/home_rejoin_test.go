package region_test

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// TestAHomeServesOnceItHasWhatItsFormerLifeWrote: a region that comes back under another actor joins once it has what one other
// region had, and that may be less than what the others have of the home's writes before.
func TestAHomeServesOnceItHasWhatItsFormerLifeWrote(t *testing.T) {
	former := topology.Actor(testEU, 1)
	r, err := replica.Open(replica.NewMemory(), former)
	if err != nil {
		t.Fatal(err)
	}
	deltas, err := r.SetHome(hlc.At(1_700_000_000_000, 0), replica.Home{Namespace: "default", Epoch: 1 << 32, Region: uint32(testEU)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"held", "freed"} {
		op := put("lock", v)
		op.Home = 1 << 32
		_, more, err := r.Execute(hlc.At(1_700_000_000_001, 0), []replica.Op{op})
		if err != nil {
			t.Fatal(err)
		}
		deltas = append(deltas, more...)
	}
	eu := newFixture(t, testEU, testUS)
	merge := func(d *replica.Delta) {
		t.Helper()
		if _, err := eu.Merge(t.Context(), former, [][]byte{replica.EncodeDelta(*d)}); err != nil {
			t.Fatal(err)
		}
	}
	merge(&deltas[0])
	merge(&deltas[1])
	epoch := uint64(0)
	closes := func(state region.ActorState, cut uint64) {
		t.Helper()
		epoch++
		eu.take(t, region.Facts{Epoch: epoch, Facts: []region.Fact{
			{Region: testEU, Actor: actorOf(testEU), State: region.ActorOpen, Destination: true},
			{Region: testEU, Actor: former, State: state, Cut: cut},
			{Region: testUS, Actor: actorOf(testUS), State: region.ActorOpen, Destination: true},
		}})
	}
	closes(region.ActorClosed, 3)
	eu.refusesHome(t, testEU)
	eu.knowsHome(t, region.HomeState{Home: testEU, Epoch: 1 << 32, Waiting: []topology.RegionID{testUS}})
	closes(region.ActorFenced, 0) // the closing begins anew
	eu.refusesHome(t, testEU)
	closes(region.ActorClosed, 3)
	merge(&deltas[2])
	if have := eu.View().Vector; !have.Covers(crdt.Dot{Actor: former, Seq: 3}) {
		t.Fatalf("%v", have)
	}
	eu.mustWriteHome(t, "", put("lock", "held again"))
}
