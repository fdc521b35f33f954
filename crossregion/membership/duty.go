package membership

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// Local is what a member knows of its own partitions.
type Local struct {
	// Taken is the least membership epoch that all of them have taken over. What Applied tells was read
	// after that was known.
	Taken uint64
	// Applied returns how far each partition has applied an actor's events; nil if that is not known now.
	Applied func(crdt.Actor) []uint64
}

// Duties returns the commands that a member owes the others: confirmations, reports, closings that only
// wait to be concluded. It is to be asked after every change of the state or of the partitions; what is
// lost is owed again. A region that was given up owes nothing under its old epoch, also when it has been taken in again under
// another: what it has is not what that one will have.
func (s *State) Duties(self topology.RegionID, e topology.Epoch, l Local) []Command {
	if r := s.Region(self); r == nil || !r.living() || r.Actor().Epoch != e {
		return nil
	}
	var owed []Command
	for i := range s.Regions {
		r := &s.Regions[i]
		if a := r.Actor(); r.State == Joining && r.Awaiting.Has(self) && l.Taken >= a.Round {
			owed = append(owed, AckCommand(self, r.ID, a.Epoch))
		}
		for j := range r.Actors {
			if c, ok := s.owes(self, r, &r.Actors[j], l); ok {
				owed = append(owed, c)
			}
		}
	}
	return owed
}

// owes returns what a member owes to the closing of an actor.
func (s *State) owes(self topology.RegionID, r *Region, a *Actor, l Local) (Command, bool) {
	none := Command{}
	switch a.State {
	case ActorFenced:
		missing := s.Reporters(a)
		if missing == 0 {
			return CloseCommand(r.ID, a.Epoch, a.Round), true
		}
		if !missing.Has(self) || l.Taken < a.Round {
			return none, false
		}
		vector := l.Applied(topology.Actor(r.ID, a.Epoch))
		return ReportCommand(self, r.ID, a.Epoch, a.Round, vector), vector != nil
	case ActorClosed:
		if !s.Lagging(r.ID, a).Has(self) {
			return none, false
		}
		vector := l.Applied(topology.Actor(r.ID, a.Epoch))
		if len(vector) != len(a.Cut) {
			return none, false
		}
		for p, seq := range vector {
			if seq < a.Cut[p] {
				return none, false
			}
		}
		return DrainedCommand(self, r.ID, a.Epoch, a.Round), true
	case ActorOpen:
	}
	return none, false
}
