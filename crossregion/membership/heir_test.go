package membership

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// closed closes what is fenced, at nothing, with the word of all others.
func closed(t testing.TB, s *State, id topology.RegionID) *State {
	t.Helper()
	a := s.Region(id).Actor()
	e, round := a.Epoch, a.Round
	for m := range s.Reporters(a).All() {
		s = apply(t, s, ReportCommand(m, id, e, round, []uint64{0, 0}))
	}
	return apply(t, s, CloseCommand(id, e, round))
}

func TestAnHeirIsNamedOnce(t *testing.T) {
	s := founded(t, 4)
	if r := refused(t, s, NameHeirCommand(3, 0, 1), WrongState); !strings.Contains(r.Do, "fence it first") {
		t.Errorf("of a region that is there: %v", r)
	}
	refused(t, s, NameHeirCommand(9, 0, 1), UnknownRegion)
	s = apply(t, s, FenceCommand(3, 0, ""))
	refused(t, s, NameHeirCommand(3, 1, 1), StaleEpoch)
	refused(t, s, NameHeirCommand(3, 0, 9), UnknownRegion)
	refused(t, s, NameHeirCommand(3, 0, 3), WrongState)
	draining := apply(t, s, DrainCommand(2, 0))
	refused(t, draining, NameHeirCommand(3, 0, 2), WrongState)
	refused(t, draining, NameHeirCommand(2, 0, 1), WrongState)

	s = apply(t, s, NameHeirCommand(3, 0, 1))
	if again := apply(t, s, NameHeirCommand(3, 0, 1)); again != s {
		t.Error("named twice")
	}
	if r := refused(t, s, NameHeirCommand(3, 0, 2), HeirNamed); !strings.Contains(r.Error(), "its heir is a") || !strings.Contains(r.Do, "take over") {
		t.Errorf("another heir: %v", r)
	}
	if s = closed(t, s, 3); s.Region(3).State != Closed {
		t.Fatalf("region 3 is %v", s.Region(3).State)
	}
	s = apply(t, s, RejoinCommand(3, 1, ""))
	if heir, e, named := s.HeirOf(3, 0); heir != 1 || e != 0 || !named {
		t.Errorf("after it came back, the heir is %d, %d, %v", heir, e, named)
	}
	if to, named := s.Successor(3, 0); to != 1 || !named {
		t.Errorf("its homes go to %d", to)
	}
	if _, named := s.Successor(3, 1); named {
		t.Error("its new epoch has an heir")
	}
	refused(t, s, NameHeirCommand(3, 0, 2), HeirNamed)
}

// Its homes came back with it.
func TestARegionThatCameBackGetsNoHeirForBefore(t *testing.T) {
	s := closed(t, apply(t, founded(t, 3), FenceCommand(3, 0, "")), 3)
	s = apply(t, s, RejoinCommand(3, 1, ""))
	if r := refused(t, s, NameHeirCommand(3, 0, 1), StaleEpoch); !strings.Contains(r.Do, "move-home") {
		t.Errorf("%v", r)
	}
}

// What was a home's stays its heir's, long after the membership has forgotten the actor.
func TestHeirsAreNotForgotten(t *testing.T) {
	s := founded(t, 3)
	for e := range topology.Epoch(2 * maxHistory) {
		s = apply(t, s, FenceCommand(3, e, ""))
		if e%2 == 0 {
			s = apply(t, s, NameHeirCommand(3, e, 1))
		}
		s = apply(t, closed(t, s, 3), RejoinCommand(3, e+1, ""))
	}
	if first := s.Region(3).Actors[0].Epoch; first == 0 {
		t.Fatal("nothing was forgotten")
	}
	f := s.FactsOf(1)
	if len(f.Heirs) != maxHistory || f.Heirs[0] != (Heir{topology.Actor(3, 0), topology.Actor(1, 0)}) {
		t.Errorf("partitions are told of %v", f.Heirs)
	}
	if again := apply(t, s, NameHeirCommand(3, 0, 1)); again != s {
		t.Error("a repetition that is late does something")
	}
}

func TestHeirsAreBounded(t *testing.T) {
	s := apply(t, founded(t, 3), FenceCommand(3, 0, ""))
	for e := range maxHeirs {
		s.Heirs = append(s.Heirs, Heir{topology.Actor(2, topology.Epoch(e+1)), topology.Actor(1, 0)})
	}
	if _, err := DecodeState(s.Encode()); err != nil {
		t.Error(err)
	}
	refused(t, s, NameHeirCommand(3, 0, 1), TooMany)
}

func TestStatesWithBrokenHeirsAreRefused(t *testing.T) {
	a, b := Heir{topology.Actor(3, 0), topology.Actor(1, 0)}, Heir{topology.Actor(3, 1), topology.Actor(1, 0)}
	for name, heirs := range map[string][]Heir{
		"out of order": {b, a}, "twice": {a, a}, "of nobody": {{0, b.Heir}}, "that are nobody": {{a.Of, 64}},
		"of an epoch that is too high": {{a.Of, crdt.Actor(1 << 30)}},
	} {
		s := founded(t, 3)
		s.Heirs = heirs
		if _, err := DecodeState(s.Encode()); err == nil {
			t.Errorf("heirs %s are read", name)
		}
	}
	none := newWriter(stateMagic, true)
	none.b = append(none.b, founded(t, 3).Encode()[3:]...)
	none.b = append(none.b[:len(none.b)-checksumBytes], 0)
	if _, err := DecodeState(none.seal()); err == nil {
		t.Error("a state of heirs without any is read")
	}
	fence := FenceCommand(3, 0, "")
	w := newWriter(commandMagic, true)
	plain := fence.Encode()
	w.b = append(w.b, plain[3:len(plain)-checksumBytes]...)
	if _, err := DecodeCommand(w.seal()); err == nil {
		t.Error("a command has two encodings")
	}
}

func TestPlansOfHeirs(t *testing.T) {
	s := apply(t, founded(t, 3), FenceCommand(3, 0, ""))
	p := s.Plan(NameHeirCommand(3, 0, 1), Knowledge{})
	if p.Done || !strings.Contains(p.text(), "a is the heir of c") || !strings.Contains(p.text(), "not closed yet") || !strings.Contains(p.text(), "--to a") {
		t.Errorf("%+v", p)
	}
	if len(s.Heirs) > 0 {
		t.Error("planning has named an heir")
	}
	s = closed(t, apply(t, s, NameHeirCommand(3, 0, 1)), 3)
	s = apply(t, s, FenceCommand(1, 0, ""), NameHeirCommand(1, 0, 2))
	if p := s.Plan(NameHeirCommand(3, 0, 1), Knowledge{}); !p.Done || !strings.Contains(p.text(), "a was given up meanwhile, and what it inherited goes to b") {
		t.Errorf("%+v", p)
	}
	if p := s.Plan(NameHeirCommand(3, 0, 2), Knowledge{}); fmt.Sprint(p.Refusal) == "" || p.Done {
		t.Errorf("another heir: %+v", p)
	}
}
