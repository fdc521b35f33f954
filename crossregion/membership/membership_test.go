package membership

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// founded returns a membership of so many regions with 2 partitions.
func founded(t testing.TB, regions int) *State {
	t.Helper()
	c := &topology.Cluster{Name: "t", Partitions: 2}
	addresses := map[topology.RegionID]string{}
	for id := range topology.RegionID(regions) {
		c.Regions = append(c.Regions, topology.Region{ID: id + 1, Name: string(rune('a' + id))})
		addresses[id+1] = "host:1"
	}
	return apply(t, &State{}, FoundCommand(c, addresses))
}

func apply(t testing.TB, s *State, commands ...Command) *State {
	t.Helper()
	for i, c := range commands {
		next, err := s.Apply(c)
		if err != nil {
			t.Fatalf("command %d, %v: %v", i, c.Kind, err)
		}
		s = next
	}
	return s
}

// refused applies a command that must be refused with a code, and change nothing.
func refused(t testing.TB, s *State, c Command, code Code) *RefusedError {
	t.Helper()
	next, err := s.Apply(c)
	var r *RefusedError
	if !errors.As(err, &r) || r.Code != code || next != s {
		t.Fatalf("%v: %v, want %v", c.Kind, err, code)
	}
	return r
}

func TestForcedRemovalClosesAtTheMostAnybodyHas(t *testing.T) {
	s := apply(t, founded(t, 3), FenceCommand(3, 0, "burnt down"))
	round := s.Region(3).Actor().Round
	r := refused(t, s, CloseCommand(3, 0, round), Waiting)
	if r.Waiting != SetOf(1, 2) || !strings.Contains(r.Error(), "fence those that are lost") {
		t.Errorf("the refusal says %v", r)
	}
	refused(t, s, ReportCommand(3, 3, 0, round, []uint64{99, 99}), NotMember) // its voice does not count
	refused(t, s, RejoinCommand(3, 1, ""), Waiting)
	s = apply(t, s, ReportCommand(1, 3, 0, round, []uint64{5, 1}), ReportCommand(2, 3, 0, round, []uint64{4, 7}))
	refused(t, s, ReportCommand(2, 3, 0, round, []uint64{4, 8}), ReportChanged)
	s = apply(t, s, CloseCommand(3, 0, round))
	if a := s.Region(3).Actor(); !slices.Equal(a.Cut, []uint64{5, 7}) || a.Released {
		t.Fatalf("closed as %+v", a)
	}
	if !slices.Contains(s.Stability(), topology.Actor(3, 0)) || !s.Destinations(1).Has(3) {
		t.Error("nobody waits for an actor that is not released")
	}
	s = apply(t, s, DrainedCommand(1, 3, 0, round), DrainedCommand(2, 3, 0, round))
	if s.Region(3).State != Closed || slices.Contains(s.Stability(), topology.Actor(3, 0)) || s.Destinations(1) != SetOf(2) {
		t.Errorf("after everybody is at the cut: %+v", s.Region(3))
	}
	refused(t, s, RejoinCommand(3, 0, ""), EpochUsed)
	s = apply(t, s, RejoinCommand(3, 1, ""), RejoinCommand(3, 1, ""))
	if err := s.CheckStart(3, 0); err == nil || !strings.Contains(err.Error(), "higher epoch") {
		t.Errorf("start under the closed epoch: %v", err)
	}
	if s.CheckStart(3, 1) != nil || s.MayWrite(3, 1) == nil || s.CheckStart(3, 2) == nil {
		t.Error("a joining region starts, and does not write")
	}
}

func TestAClosingBeginsAgainWithoutTheOnlyHolder(t *testing.T) {
	s := apply(t, founded(t, 4), FenceCommand(4, 0, ""))
	first := s.Region(4).Actor().Round
	for m, v := range map[topology.RegionID][]uint64{1: {1, 1}, 2: {2, 2}, 3: {9, 9}} {
		s = apply(t, s, ReportCommand(m, 4, 0, first, v))
	}
	s = apply(t, s, CloseCommand(4, 0, first), FenceCommand(3, 0, ""))
	a := s.Region(4).Actor()
	if a.State != ActorFenced || a.Round == first || s.Reporters(a) != SetOf(1, 2) {
		t.Fatalf("the closing goes on as %+v", a)
	}
	refused(t, s, DrainedCommand(1, 4, 0, first), StaleRound)
	refused(t, s, ReportCommand(1, 4, 0, first, []uint64{9, 9}), StaleRound)
	s = apply(t, s, ReportCommand(1, 4, 0, a.Round, []uint64{1, 1}), ReportCommand(2, 4, 0, a.Round, []uint64{2, 2}), CloseCommand(4, 0, a.Round))
	if cut := s.Region(4).Actor().Cut; !slices.Equal(cut, []uint64{2, 2}) {
		t.Errorf("the cut is %v", cut)
	}
}

func TestDrainingInOrder(t *testing.T) {
	s := apply(t, founded(t, 2), DrainCommand(2, 0))
	refused(t, s, DrainCommand(1, 0), LastRegion)
	refused(t, s, FenceCommand(1, 0, ""), LastRegion)
	if err := s.MayWrite(2, 0); err == nil || s.CheckStart(2, 0) != nil {
		t.Errorf("a draining region starts and writes not: %v", err)
	}
	round := s.Region(2).Actor().Round
	s = apply(t, s, ReportCommand(2, 2, 0, round, []uint64{3, 3}), ReportCommand(1, 2, 0, round, []uint64{3, 1}), CloseCommand(2, 0, round))
	if r := refused(t, s, RemoveCommand(2, 0), Waiting); r.Waiting != SetOf(1) {
		t.Errorf("removal waits for %v", r.Waiting)
	}
	s = apply(t, s, DrainedCommand(1, 2, 0, round), RemoveCommand(2, 0), RemoveCommand(2, 0))
	if s.Region(2).State != Removed || s.Destinations(1) != 0 {
		t.Errorf("after the drain: %+v", s.Region(2))
	}
}

func TestADrainDoesNotRelyOnARegionThatLostSomething(t *testing.T) {
	s := apply(t, founded(t, 3), DrainCommand(3, 0))
	round := s.Region(3).Actor().Round
	s = apply(t, s, ReportCommand(3, 3, 0, round, []uint64{3, 3}), ReportCommand(1, 3, 0, round, []uint64{4, 3}),
		ReportCommand(2, 3, 0, round, []uint64{3, 3}), CloseCommand(3, 0, round))
	if r := s.Region(3); r.State != Fenced || r.Actor().State != ActorFenced || s.Reporters(r.Actor()) != SetOf(1, 2) {
		t.Errorf("it is %+v", r)
	}
}

func TestJoining(t *testing.T) {
	s := apply(t, founded(t, 2), AddCommand(7, 0, "g", "g:1"), AddCommand(7, 0, "g", "g:1"))
	refused(t, s, AddCommand(7, 0, "h", ""), IDUsed)
	refused(t, s, AddCommand(8, 0, "g", ""), IDUsed)
	refused(t, s, DrainCommand(7, 0), WrongState)
	if r := refused(t, s, JoinCommand(7, 0, 1, s.Epoch), Waiting); r.Waiting != SetOf(1, 2) {
		t.Errorf("it waits for %v", r.Waiting)
	}
	early := s.Epoch
	s = apply(t, s, AckCommand(1, 7, 0), AckCommand(2, 7, 0))
	refused(t, s, JoinCommand(7, 0, 1, early), Waiting) // copied too early
	s = apply(t, s, JoinCommand(7, 0, 1, s.Epoch), JoinCommand(7, 0, 1, early))
	if s.Writing() != SetOf(1, 2, 7) {
		t.Errorf("regions %v write", s.Writing())
	}
	refused(t, s, FenceCommand(9, 0, ""), UnknownRegion)
	refused(t, s, FenceCommand(7, 3, ""), StaleEpoch)
}

func TestDutiesOfAMember(t *testing.T) {
	s := apply(t, founded(t, 3), FenceCommand(3, 0, ""))
	local := Local{Taken: s.Epoch - 1, Applied: func(_ crdt.Actor) []uint64 { return []uint64{1, 2} }}
	if owed := s.Duties(1, 0, local); len(owed) != 0 {
		t.Errorf("owes %v before its partitions know of the fence", owed)
	}
	local.Taken = s.Epoch
	owed := s.Duties(1, 0, local)
	if len(owed) != 1 || owed[0].Kind != ReportVector || !slices.Equal(owed[0].Vector, []uint64{1, 2}) {
		t.Fatalf("owes %+v", owed)
	}
	if owed := s.Duties(3, 0, local); owed != nil {
		t.Errorf("a fenced region owes %v", owed)
	}
}

func TestDeclaringDead(t *testing.T) {
	s := founded(t, 2)
	refused(t, s, DeclareCommand(SetOf(1, 2), 5, ""), LastRegion)
	refused(t, s, DeclareCommand(SetOf(9), 5, ""), UnknownRegion)
	one := apply(t, s, DeclareCommand(SetOf(2), 5, "burnt"), DeclareCommand(SetOf(2), 5, "burnt"))
	if len(one.Overrides) != 1 || one.Region(2).State != Fenced || one.Voters() != SetOf(1) {
		t.Errorf("after the declaration: %+v", one)
	}
	other := apply(t, s, DeclareCommand(SetOf(1), 6, ""))
	if one.Lineage == other.Lineage || one.Lineage == s.Lineage {
		t.Error("the two ways that were gone cannot be told apart")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := founded(t, 2)
	for e := topology.Epoch(1); e <= 3*maxHistory; e++ {
		s = apply(t, s, FenceCommand(2, e-1, ""))
		round := s.Region(2).Actor().Round
		s = apply(t, s, ReportCommand(1, 2, e-1, round, []uint64{0, 0}), CloseCommand(2, e-1, round))
		s = apply(t, s, RejoinCommand(2, e, ""), AckCommand(1, 2, e))
		s = apply(t, s, JoinCommand(2, e, 1, s.Epoch))
	}
	if n := len(s.Region(2).Actors); n > maxHistory {
		t.Errorf("%d actors are remembered", n)
	}
	if s.CheckStart(2, 1) == nil {
		t.Error("an epoch that is forgotten may start")
	}
	if next, err := s.Apply(DrainedCommand(1, 2, 1, 9)); err != nil || next != s {
		t.Errorf("a late word on a forgotten epoch: %v", err)
	}
}

func TestFactsOfAPartition(t *testing.T) {
	s := apply(t, founded(t, 3), FenceCommand(3, 0, ""))
	f := s.FactsOf(1)
	a := topology.Actor(3, 0)
	if f.Admits(a, 1) || !f.Admits(topology.Actor(1, 0), 9) || f.Admits(topology.Actor(9, 0), 1) {
		t.Error("wrong events are admitted after a fence")
	}
	round := s.Region(3).Actor().Round
	s = apply(t, s, ReportCommand(1, 3, 0, round, []uint64{5, 6}), ReportCommand(2, 3, 0, round, []uint64{5, 5}), CloseCommand(3, 0, round))
	f = s.FactsOf(1)
	if !f.Admits(a, 6) || f.Admits(a, 7) {
		t.Error("wrong events are admitted after the closing")
	}
	var none Facts
	if !none.Admits(a, 1) {
		t.Error("founders must not wait for facts")
	}
}
