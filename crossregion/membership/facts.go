package membership

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// Fact is what one partition must know of one actor.
type Fact struct {
	Region topology.RegionID
	Epoch  topology.Epoch
	State  ActorState
	// Cut is the last event of the actor that counts, once it is closed.
	Cut      uint64
	Released bool
	// Destination says that outboxes wait for the region, under this epoch.
	Destination bool
	// Joining says that the region has not joined yet: it issues no events.
	Joining bool
}

// Facts are what one partition must know as of one membership epoch. They replace all facts of earlier
// epochs.
type Facts struct {
	Epoch uint64
	// Facts are in ascending order of regions and then of epochs. Actors of a region's epochs before its
	// first one here are released.
	Facts []Fact
	// Heirs are in ascending order of the actors that they are heirs of: all that were ever named.
	Heirs []Heir
}

// FactsOf returns what a partition must know. Partitions take facts in through their own Raft groups, so
// that what is merged before them and what is not is the same on every replica.
func (s *State) FactsOf(p topology.PartitionID) Facts {
	f := Facts{Epoch: s.Epoch, Heirs: s.Heirs}
	for i := range s.Regions {
		r := &s.Regions[i]
		for j := range r.Actors {
			a := &r.Actors[j]
			fact := Fact{Region: r.ID, Epoch: a.Epoch, State: a.State, Released: a.Released}
			if a.State == ActorClosed {
				fact.Cut = a.Cut[p]
			}
			fact.Joining = r.State == Joining && a.State == ActorOpen
			fact.Destination = j == len(r.Actors)-1 && (r.living() || r.State == Fenced)
			f.Facts = append(f.Facts, fact)
		}
	}
	return f
}

// fact returns what is known of an actor.
func (f *Facts) fact(a crdt.Actor) (Fact, bool) {
	id, e := topology.ActorRegion(a)
	for _, fact := range f.Facts {
		if fact.Region == id && fact.Epoch == e {
			return fact, true
		}
	}
	return Fact{}, false
}

// Admits reports whether a partition may have an actor's events up to a sequence number, if it has not
// already: by merging them, or by taking over another's state. Of an actor that is not known nothing is
// admitted; without any facts, everything.
func (f *Facts) Admits(a crdt.Actor, seq uint64) bool {
	fact, known := f.fact(a)
	switch {
	case f.Epoch == 0:
		return true
	case !known || fact.State == ActorFenced:
		return false
	case fact.State == ActorClosed:
		return seq <= fact.Cut
	default:
		return true
	}
}

// HoldsBack reports whether an actor, of which a partition has applied so much, holds back its garbage
// collection: an event of it may still arrive, here or, by way of this partition, elsewhere. A region that
// was given up meanwhile can lack events of an actor that all others have.
func (f *Fact) HoldsBack(applied uint64) bool { return !f.Released || applied < f.Cut }
