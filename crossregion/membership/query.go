package membership

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// Founded reports whether there is a membership at all.
func (s *State) Founded() bool { return s.Epoch > 0 }

// Region returns a region, nil if there was never one with this id.
func (s *State) Region(id topology.RegionID) *Region {
	for i := range s.Regions {
		if s.Regions[i].ID == id {
			return &s.Regions[i]
		}
	}
	return nil
}

// RegionNamed returns a region, nil if there was never one of this name.
func (s *State) RegionNamed(name string) *Region {
	for i := range s.Regions {
		if s.Regions[i].Name == name {
			return &s.Regions[i]
		}
	}
	return nil
}

// Living returns the regions that take part: joining, active and draining ones.
func (s *State) Living() RegionSet {
	return s.where(func(r *Region) bool { return r.living() })
}

// Writing returns the regions that take writes.
func (s *State) Writing() RegionSet {
	return s.where(func(r *Region) bool { return r.State == Active })
}

func (s *State) where(is func(*Region) bool) RegionSet {
	var set RegionSet
	for i := range s.Regions {
		if is(&s.Regions[i]) {
			set |= bit(s.Regions[i].ID)
		}
	}
	return set
}

// Voters returns the regions whose voters decide; the witness, if there is one, votes besides.
func (s *State) Voters() RegionSet { return s.Living() }

// Stability returns the actors whose events hold back garbage collection: every one of which an event
// may still arrive somewhere. In ascending order.
func (s *State) Stability() []crdt.Actor {
	var set []crdt.Actor
	for i := range s.Regions {
		for j := range s.Regions[i].Actors {
			if a := &s.Regions[i].Actors[j]; !a.Released {
				set = append(set, topology.Actor(s.Regions[i].ID, a.Epoch))
			}
		}
	}
	return set
}

// Destinations returns the regions that the outboxes of a region wait for. A region that is given up
// counts until its actor is released, in case it holds what others lack of it.
func (s *State) Destinations(of topology.RegionID) RegionSet {
	return s.where(func(r *Region) bool { return r.living() || r.State == Fenced }).Minus(bit(of))
}

// MayCopy returns nil once a joining region may copy a donor's state: everybody waits for it. The copy
// must be made of a state in which the donor has taken over the membership as of this state or later.
func (s *State) MayCopy(id topology.RegionID) error {
	r := s.Region(id)
	switch {
	case r == nil || r.State != Joining:
		return &RefusedError{Code: NotJoining, Region: id, Why: "the region is not joining", Do: "add it, or have it rejoin"}
	case r.AckedAt == 0:
		return &RefusedError{Code: Waiting, Region: id, Epoch: r.Actor().Epoch, Waiting: r.Awaiting,
			Why: "not every member waits for the new actor yet", Do: "wait for them, or fence those that are lost"}
	}
	return nil
}

// Reporters returns the members whose reports the closing of an actor waits for.
func (s *State) Reporters(a *Actor) RegionSet {
	if a.State != ActorFenced {
		return 0
	}
	want := s.Living()
	for i := range a.Reports {
		want = want.Minus(bit(a.Reports[i].Member))
	}
	return want
}

// Lagging returns the members that an actor's release waits for, once it is closed.
func (s *State) Lagging(id topology.RegionID, a *Actor) RegionSet {
	if a.State != ActorClosed || a.Released {
		return 0
	}
	want := s.Living().Minus(a.Drained)
	if a.Graceful {
		want = want.Minus(bit(id))
	}
	return want
}

// Holders returns the members that are known to have all of a closed actor's events up to the cut. There
// may be none, where one member has most of one partition, and another of another.
func (s *State) Holders(id topology.RegionID, a *Actor) RegionSet {
	if a.State != ActorClosed {
		return 0
	}
	holders := a.Drained & s.Living()
	if a.Graceful {
		holders |= bit(id) & s.Living()
	}
	return holders
}

// Knows reports whether a newer state can have come of an older one: whatever was declared without a
// majority there is on record here. Two states of which neither knows the other have gone different ways.
func (s *State) Knows(older *State) bool {
	if s.Lineage == older.Lineage {
		return true
	}
	if len(older.Overrides) == 0 {
		return older.Lineage == 0
	}
	last := older.Overrides[len(older.Overrides)-1].Nonce
	for i := range s.Overrides {
		if s.Overrides[i].Nonce == last {
			return true
		}
	}
	return false
}

// Awaited reports whether a region joins, and somebody does not wait for it yet: it may not have anything of the others'.
func (s *State) Awaited(id topology.RegionID) bool {
	r := s.Region(id)
	return r != nil && r.State == Joining && r.AckedAt == 0
}
