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
	return f
}

// Led returns what a leader tells of its partition; false if that is not known now: it takes over a state that has more of an
// actor that is being closed than the partition has. What is joined of that state is here, and counts once the transfer
// ends; a cut from before would leave it behind, here and nowhere else.
func Led(p topology.PartitionID, view *region.MachineView) (membership.Led, bool) {
	for _, f := range view.Facts.Facts {
		if f.State == region.ActorFenced && view.Ahead.Get(f.Actor) > view.Vector.Get(f.Actor) {
			return membership.Led{}, false
		}
	}
	return membership.Led{Partition: p, Taken: view.Facts.Epoch, Applied: view.Vector.Entries()}, true
}
