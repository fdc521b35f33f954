package membership

import (
	"errors"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// rejoined is a deployment whose region 3 was given up, and comes back while region 2 leaves, whose events 3 had had.
func rejoined(t *testing.T) *State {
	t.Helper()
	s := apply(t, founded(t, 4), DrainCommand(2, 0))
	round := s.Epoch
	for _, id := range []topology.RegionID{1, 2, 3, 4} {
		vector := []uint64{9, 9}
		if id == 4 {
			vector = []uint64{8, 9}
		}
		s = apply(t, s, ReportCommand(id, 2, 0, round, vector))
	}
	s = apply(t, s, CloseCommand(2, 0, round), FenceCommand(3, 0, ""))
	round = s.Epoch
	for _, id := range []topology.RegionID{1, 2, 4} {
		s = apply(t, s, ReportCommand(id, 3, 0, round, []uint64{1, 1}))
	}
	return apply(t, s, CloseCommand(3, 0, round), RejoinCommand(3, 1, ""))
}

// What a region had before it began anew with nothing, it has no longer: a region that leaves waits for it.
func TestARegionThatBeganAnewHasNothing(t *testing.T) {
	s := rejoined(t)
	leaving := s.Region(2)
	if leaving.Actor().Released || s.Lagging(2, leaving.Actor()) != SetOf(3, 4) {
		t.Fatalf("waiting for %v: %+v", s.Lagging(2, leaving.Actor()), leaving)
	}
	s = apply(t, s, DrainedCommand(4, 2, 0, leaving.Actor().Round))
	if s.Region(2).State != Draining {
		t.Errorf("region 2 is %v, and region 3 lacks what it wrote", s.Region(2).State)
	}
	s = apply(t, s, DrainedCommand(3, 2, 0, leaving.Actor().Round))
	if s.Region(2).State != Closed {
		t.Errorf("region 2 is %v", s.Region(2).State)
	}
}

// What a region said before it began anew, and is still on its way, is not what it says now.
func TestALateWordOfAFormerLifeDoesNotCount(t *testing.T) {
	s := rejoined(t)
	for round := uint64(1); round < s.Region(2).Actor().Round; round++ {
		var refused *RefusedError
		if _, err := s.Apply(DrainedCommand(3, 2, 0, round)); !errors.As(err, &refused) || refused.Code != StaleRound {
			t.Errorf("in round %d: %v", round, err)
		}
	}
	if s.Region(2).Actor().Round != s.Epoch {
		t.Errorf("the round is %d, at %d", s.Region(2).Actor().Round, s.Epoch)
	}
}

// A process of a region that was given up runs on, and hears that the region comes back: what it has is not what that will have.
func TestAnOldEpochOwesNothing(t *testing.T) {
	s := rejoined(t)
	all := Local{Taken: s.Epoch, Applied: func(crdt.Actor) []uint64 { return []uint64{9, 9} }}
	if owed := s.Duties(3, 0, all); owed != nil {
		t.Errorf("in its old epoch region 3 owes %+v", owed)
	}
	if owed := s.Duties(3, 1, all); len(owed) == 0 {
		t.Error("in its new epoch region 3 owes nothing")
	}
}
