package partitions

import (
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Facts returns what a partition must know of a membership.
func Facts(s *membership.State, p topology.PartitionID) region.Facts {
	from := s.FactsOf(p)
	f := region.Facts{Epoch: from.Epoch}
	for _, fact := range from.Facts {
		f.Facts = append(f.Facts, region.Fact{
			Region: fact.Region, Actor: topology.Actor(fact.Region, fact.Epoch), State: region.ActorState(fact.State),
			Cut: fact.Cut, Released: fact.Released, Destination: fact.Destination, Joining: fact.Joining,
		})
	}
	for _, h := range from.Heirs {
		f.Heirs = append(f.Heirs, region.Heir{Of: h.Of, Heir: h.Heir})
	}
	return f
}

// Led returns what a leader tells of its partition; false if that is not known now, because it has a part of an actor's events
// that is being closed (region.Facts.InPart).
func Led(p topology.PartitionID, view *region.MachineView) (membership.Led, bool) {
	if view.Facts.InPart(view.Vector, view.Ahead) {
		return membership.Led{}, false
	}
	return membership.Led{Partition: p, Taken: view.Facts.Epoch, Applied: view.Vector.Entries()}, true
}
