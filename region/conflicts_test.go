package region_test

import (
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

// TestLoserIsRestored has two regions write at once, and one of them write what lost again.
func TestLoserIsRestored(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWrite(t, "", put("k", "first"))
	us.mustWrite(t, "", put("k", "second"))
	merge := func(to, from *fixture, seq uint64) {
		t.Helper()
		if _, err := to.Merge(t.Context(), from.View().Outbox.Actor, deltas(t, from, seq)); err != nil {
			t.Fatal(err)
		}
	}
	feed := watch(t, eu, nil)
	merge(eu, us, 1)
	merge(us, eu, 1)
	losers := func(f *fixture) (all []replica.Loser) {
		t.Helper()
		_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, _ hlc.Time) (err error) {
			all, _, err = r.Losers(replica.LoserQuery{Limit: 9, Bytes: 1 << 20})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	here, there := losers(eu), losers(us)
	if len(here) != 1 || len(there) != 1 || here[0].Lost != there[0].Lost || here[0].Won != there[0].Won {
		t.Fatalf("losers %+v and %+v", here, there)
	}
	op, err := here[0].Restore()
	if err != nil {
		t.Fatal(err)
	}
	eu.mustWrite(t, "", op)
	if got := next(t, feed, 2); !slices.Equal(got, []string{"k/2", "k/4"}) { // remote, restored
		t.Errorf("changes %v", got)
	}
	merge(us, eu, 2)
	if len(losers(us)) != 1 { // the new write has seen both
		t.Errorf("losers %+v", losers(us))
	}
	_, err = us.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		o, found, err := r.Lookup(op.Namespace, "k", now)
		if !found || string(o.Value) != string(here[0].Value) {
			t.Errorf("the other region reads %q, %v", o.Value, found)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
