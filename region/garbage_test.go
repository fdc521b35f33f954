package region_test

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

// TestGarbageNamesWhoHoldsItBack: of two silent regions the one that was heard last the longest ago holds back what a
// delete leaves, until both have been heard.
func TestGarbageNamesWhoHoldsItBack(t *testing.T) {
	eu, us, ap := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP), newFixture(t, testAP, testEU, testUS)
	held := func() region.Garbage {
		t.Helper()
		if err := eu.ExpireDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		g, err := eu.Garbage()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	all := []*fixture{eu, us, ap}
	pass := func(d time.Duration) {
		for _, f := range all {
			f.clock.advance(d)
		}
	}
	us.mustWrite(t, "", put("other", "v"))
	eu.mustMerge(t, us, 1)
	usAt := eu.View().HLCs[actorOf(testUS)]
	pass(time.Second)
	eu.mustWrite(t, "", put("k", "v"))
	if g := held(); g != (region.Garbage{}) {
		t.Errorf("nothing was deleted, yet %+v", g)
	}
	eu.mustWrite(t, "", replica.Op{Kind: replica.OpDelete, Namespace: "default", Key: "k"})
	if g := held(); g.Region != testAP || g.Since != 0 || g.Count != 1 || g.Bytes < 20 || g.More {
		t.Errorf("ap was never heard of: %+v", g)
	}
	pass(time.Second)
	ap.mustWrite(t, "", put("other", "v"))
	eu.mustMerge(t, ap, 1)
	if g := held(); g.Region != testUS || g.Since != usAt || g.Count != 1 {
		t.Errorf("us was last heard of at %v: %+v", usAt, g)
	}
	us.mustWrite(t, "", put("other", "v"))
	eu.mustMerge(t, us, 2)
	if g := held(); g != (region.Garbage{}) || eu.View().HLC < hlc.Time(usAt) {
		t.Errorf("all were heard of, yet %+v", g)
	}
}
