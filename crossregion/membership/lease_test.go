package membership

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/topology"
)

func TestALeaseRunsFromItsQuestion(t *testing.T) {
	const s = time.Second
	type answer struct {
		asked, now time.Duration
		open       bool
	}
	for name, c := range map[string]struct {
		answers []answer
		now     time.Duration
		held    bool
		d       time.Duration
	}{
		"nothing was ever asked":             {nil, 7 * s, false, 4 * s},
		"a yes":                              {[]answer{{5 * s, 8 * s, true}}, 8 * s, true, 7 * s},
		"a yes, at its last instant":         {[]answer{{5 * s, 8 * s, true}}, 5*s + LeaseTime - 1, true, 1},
		"a yes, run out":                     {[]answer{{5 * s, 8 * s, true}}, 6*s + LeaseTime, false, s},
		"a yes that comes too late":          {[]answer{{5 * s, 16 * s, true}}, 16 * s, false, s},
		"renewed":                            {[]answer{{5 * s, 6 * s, true}, {7 * s, 8 * s, true}}, 8 * s, true, 9 * s},
		"answers in the wrong order":         {[]answer{{7 * s, 8 * s, true}, {5 * s, 9 * s, true}}, 9 * s, true, 8 * s},
		"a no ends it at once":               {[]answer{{5 * s, 6 * s, true}, {7 * s, 8 * s, false}}, 9 * s, false, s},
		"a yes to an earlier question":       {[]answer{{7 * s, 8 * s, false}, {6 * s, 9 * s, true}}, 9 * s, false, 6 * s},
		"a no to an earlier question":        {[]answer{{7 * s, 8 * s, true}, {6 * s, 9 * s, false}}, 9 * s, false, 0},
		"a yes after a no":                   {[]answer{{5 * s, 6 * s, false}, {7 * s, 8 * s, true}}, 8 * s, true, 9 * s},
		"a no does not begin it anew":        {[]answer{{5 * s, 6 * s, true}, {7 * s, 8 * s, false}, {8 * s, 9 * s, false}}, 10 * s, false, 2 * s},
		"a no after it has run out, is late": {[]answer{{5 * s, 6 * s, true}, {7 * s, 18 * s, false}}, 18 * s, false, 3 * s},
	} {
		l := NewLease(3 * s)
		for _, a := range c.answers {
			l.Answered(a.asked, a.now, a.open)
		}
		if d, held := l.At(c.now); held != c.held || d != c.d {
			t.Errorf("%s: %v for %v, want %v for %v", name, held, d, c.held, c.d)
		}
	}
}

// Whatever the rates of two clocks within the bound, who waits for LeaseOver has waited for LeaseTime of the other's.
func TestAnOverLeaseIsOverByEveryClock(t *testing.T) {
	slow, fast := time.Duration(100-clockRatePercent), time.Duration(100+clockRatePercent)
	if waited, ran := LeaseOver*slow, LeaseTime*fast; waited < ran || waited-ran >= slow {
		t.Errorf("a wait of %v is %v off", LeaseOver, waited-ran)
	}
}

func TestOnlyWhoIsOpenAndActiveGetsALease(t *testing.T) {
	for state, want := range map[RegionState]bool{Joining: false, Active: true, Draining: false, Fenced: false, Closed: false, Removed: false} {
		s := &State{Epoch: 4, Regions: []Region{{ID: 2, State: state, Actors: []Actor{{Epoch: 1, State: ActorClosed}, {Epoch: 2, State: ActorOpen}}}}}
		if got := s.MayLease(2, 2); got != want {
			t.Errorf("%v: %v", state, got)
		}
		if s.MayLease(2, 1) || s.MayLease(3, 0) {
			t.Errorf("%v: under an earlier epoch, or unknown", state)
		}
	}
	if (&State{}).MayLease(2, 0) {
		t.Error("nothing is founded")
	}
}

func TestWhoIsGivenUpIsWaitedFor(t *testing.T) {
	const s = time.Second
	open := &State{Epoch: 3, Regions: []Region{{ID: 2, State: Active, Actors: []Actor{{State: ActorOpen}}}, {ID: 3, State: Active, Actors: []Actor{{State: ActorOpen}}}}}
	fenced := open.clone()
	fenced.Regions[0].State, fenced.Regions[0].Actors[0].State = Fenced, ActorFenced
	back := fenced.clone()
	back.Regions[0].Actors[0].State = ActorClosed
	back.Regions[0].Actors = append(back.Regions[0].Actors, Actor{Epoch: 1, State: ActorOpen})
	var r RunOut
	r.See(open, s)
	if left, known := r.Left(2, 2*s); known {
		t.Errorf("an open actor is waited for: %v", left)
	}
	r.See(fenced, 5*s)
	r.See(back, 8*s)
	for now, want := range map[time.Duration]time.Duration{5 * s: LeaseOver, 6 * s: LeaseOver - s, 5*s + LeaseOver: 0, 60 * s: 0} {
		if left, known := r.Left(2, now); left != want || !known {
			t.Errorf("at %v: %v, %v, want %v", now, left, known, want)
		}
	}
	if _, known := r.Left(topology.RegionID(3), 60*s); known {
		t.Error("an open one is")
	}
	again := RunOut{} // another process
	again.See(back, 60*s)
	if left, _ := again.Left(2, 60*s); left != LeaseOver {
		t.Errorf("a new process waits for %v", left)
	}
}
