package members

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// What a voter says of leases is what a majority has decided before it was asked, and without a majority it says nothing.
func TestAMajorityKnowsWhoMayLease(t *testing.T) {
	voters := founders(t, 3)
	says := func(v *voter, id topology.RegionID, want bool) {
		t.Helper()
		if open, err := v.host.MayLease(t.Context(), id, 0); err != nil || open != want {
			t.Errorf("region %d says of region %d: %v, %v", v.cfg.Self.ID, id, open, err)
		}
	}
	for _, v := range voters[:3] {
		v.await("it is founded", founded)
		says(v, 1, true)
		says(v, 3, true)
	}
	if err := voters[0].propose(membership.FenceCommand(3, 0, "lost")); err != nil {
		t.Fatal(err)
	}
	says(voters[1], 3, false) // though nobody but the leader may have told it
	says(voters[0], 3, false)
	says(voters[0], 1, true)
	if open, err := voters[2].host.MayLease(t.Context(), 3, 0); open {
		t.Errorf("it may still act as a home: %v", err)
	}
	voters[0].votes(2)
	voters[1].stop()
	if _, err := voters[0].host.MayLease(t.Context(), 1, 0); !errors.Is(err, region.ErrNoQuorum) {
		t.Errorf("one of two says it alone: %v", err)
	}
}

// leaser is a keeper whose clock and questions are the test's.
type leaser struct {
	*Leases
	now    time.Duration
	takes  time.Duration // how long a question takes
	open   bool
	err    error
	asked  int
	wanted bool
	view   membership.Published
}

func newLeaser(e topology.Epoch, s *membership.State) *leaser {
	l := &leaser{open: true, wanted: true}
	l.view.Publish(s)
	l.Leases = NewLeases(LeaseConfig{
		Region: 2, Epoch: e, View: &l.view, Wanted: func() bool { return l.wanted },
		MayLease: func(context.Context) (bool, error) {
			l.asked++
			l.now += l.takes
			return l.open, l.err
		},
		Clock: func() time.Duration { return l.now }, Logger: slog.New(slog.DiscardHandler),
	})
	return l
}

func active(actors ...membership.Actor) *membership.State {
	return &membership.State{Epoch: 7, Regions: []membership.Region{{ID: 2, State: membership.Active, Actors: actors}}}
}

func (l *leaser) holds(t *testing.T, want bool) {
	t.Helper()
	if err := l.Held(); (err == nil) != want || err != nil && !errors.Is(err, region.ErrNoLease) {
		t.Errorf("at %v: %v", l.now, err)
	}
}

func TestALeaseIsKeptByAsking(t *testing.T) {
	l := newLeaser(0, active(membership.Actor{State: membership.ActorOpen}))
	l.holds(t, false)
	l.wanted = false
	if l.ask(t.Context()); l.asked > 0 {
		t.Error("asked without need")
	}
	l.wanted, l.takes = true, 3*time.Second
	if again := l.ask(t.Context()); again != leaseEvery {
		t.Errorf("asks again after %v", again)
	}
	l.holds(t, true)
	l.now += membership.LeaseTime - l.takes // since it was asked
	l.holds(t, false)
	if again := l.ask(t.Context()); again != leaseEvery {
		t.Errorf("asks again after %v", again)
	}
	l.holds(t, true)
	l.err = region.ErrNoQuorum
	if again := l.ask(t.Context()); again != leaseAgain {
		t.Errorf("without an answer it asks again after %v", again)
	}
	l.holds(t, true)
	l.err, l.open = nil, false
	l.ask(t.Context())
	l.holds(t, false)
	if d, held, wanted := l.State(); held || !wanted || d != 0 {
		t.Errorf("the state is %v, %v, %v", d, held, wanted)
	}
}

// A region that has come back waits until its lease from before is over, and believes nobody until it knows of that.
func TestARegionThatIsBackWaitsForItself(t *testing.T) {
	before := active(membership.Actor{State: membership.ActorOpen})
	l := newLeaser(1, before)
	l.ask(t.Context())
	l.holds(t, false)
	back := active(membership.Actor{State: membership.ActorClosed}, membership.Actor{Epoch: 1, State: membership.ActorOpen})
	back.Epoch++
	l.view.Publish(back)
	for range 3 {
		l.now += 4 * time.Second // one after the other, as what it was runs out
		l.ask(t.Context())
	}
	l.holds(t, false)
	l.now += membership.LeaseOver - 8*time.Second
	l.ask(t.Context())
	l.holds(t, true)
	if left := l.Left(2); left != 0 {
		t.Errorf("it waits for %v still", left)
	}
	if left := l.Left(3); left != membership.LeaseOver {
		t.Errorf("of a region that it does not know to be given up: %v", left)
	}
}
