package region_test

import (
	"errors"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// TestAHomeWithoutALeaseDecidesNothing: no write, whoever names it one of the home, and no read that shows what the home shows.
// Other namespaces notice nothing.
func TestAHomeWithoutALeaseDecidesNothing(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWriteHome(t, "", put("k", "v"))
	eu.leases.lost.Store(true)
	us.leases.lost.Store(true)
	ops := []replica.Op{put("k", "w")}
	if _, err := eu.WriteHome(t.Context(), "", ops, true); !errors.Is(err, region.ErrNoLease) {
		t.Errorf("a write at the home: %v", err)
	}
	if _, err := eu.Write(t.Context(), "", ops); !errors.Is(err, region.ErrNoLease) {
		t.Errorf("a write that does not say so: %v", err)
	}
	answered := make(chan error, 1)
	eu.WriteAsync(t.Context(), "", ops, func(_ region.WriteResult, err error) { answered <- err })
	if err := <-answered; !errors.Is(err, region.ErrNoLease) {
		t.Errorf("one that does not wait: %v", err)
	}
	_, err := eu.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, _ hlc.Time) error { return eu.AtHome(r, "default", true) })
	if !errors.Is(err, region.ErrNoLease) {
		t.Errorf("a read at the home: %v", err)
	}
	if home, err := eu.Home(t.Context(), "default", true); err != nil || home.Home != testEU || home.Serving {
		t.Errorf("it says that it is %+v, %v", home, err)
	}
	us.refusesHome(t, topology.RegionID(0)) // who is none is told that, lease or not
	if _, err := eu.Write(t.Context(), "", []replica.Op{{Kind: replica.OpPut, Namespace: "other", Key: "k"}}); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
	eu.leases.lost.Store(false)
	eu.mustWriteHome(t, "", replica.Op{
		Kind: replica.OpPut, Namespace: "default", Key: "k", Condition: replica.Condition{Kind: replica.CondValue, Value: []byte("v")},
	})
}

// TestALeaseIsJudgedAgainWhenAWriteIsAnswered: what was proposed under it may count or not once it has run out, and what failed may
// not have failed elsewhere.
func TestALeaseIsJudgedAgainWhenAWriteIsAnswered(t *testing.T) {
	absent := put("k", "w")
	absent.Condition = replica.Condition{Kind: replica.CondAbsent}
	for name, c := range map[string]struct {
		op      replica.Op
		unknown bool
	}{"done": {put("k", "w"), true}, "a condition that failed": {absent, false}} {
		for way, write := range map[string]func(*fixture, []replica.Op, func(error)){
			"at the home": func(f *fixture, ops []replica.Op, done func(error)) {
				_, err := f.WriteHome(t.Context(), "", ops, true)
				done(err)
			},
			"without saying so": func(f *fixture, ops []replica.Op, done func(error)) {
				_, err := f.Write(t.Context(), "", ops)
				done(err)
			},
			"without waiting": func(f *fixture, ops []replica.Op, done func(error)) {
				f.WriteAsync(t.Context(), "", ops, func(_ region.WriteResult, err error) { done(err) })
			},
		} {
			f := newFixture(t, testEU, testUS)
			f.mustWriteHome(t, "", put("k", "v"))
			hold := make(chan struct{})
			f.group.set(func() { f.group.hold = hold })
			answered := make(chan error, 1)
			go write(f, []replica.Op{c.op}, func(err error) { answered <- err })
			<-f.group.entered
			f.leases.lost.Store(true)
			close(hold)
			err := <-answered
			if !errors.Is(err, region.ErrNoLease) || errors.Is(err, region.ErrOutcomeUnknown) != c.unknown {
				t.Errorf("%s, %s: %v", name, way, err)
			}
		}
	}
}

// TestAHomeIsTakenOnceItsLeaseIsOver, and not before.
func TestAHomeIsTakenOnceItsLeaseIsOver(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWriteHome(t, "", put("k", "v"))
	us.mustMerge(t, eu, 1)
	us.leases.left.Store(int64(time.Second))
	var open *region.HomeNotClosedError
	if err := us.TakeHome(t.Context(), "default", testEU); !errors.As(err, &open) {
		t.Errorf("waits for what will not be closed: %v", err)
	}
	us.closes(t, testEU, func(*region.Fact) {})
	var leased *region.HomeLeasedError
	if err := us.TakeHome(t.Context(), "default", testEU); !errors.As(err, &leased) || leased.Home != testEU || leased.Left != time.Second {
		t.Errorf("taken over while it may hold a lease: %v", err)
	}
	us.leases.left.Store(0)
	if err := us.TakeHome(t.Context(), "default", testEU); err != nil {
		t.Fatal(err)
	}
	us.mustWriteHome(t, "", put("k", "us"))
}
