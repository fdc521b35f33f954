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
