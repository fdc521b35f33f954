package topology

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
)

const actorRegionBits = 6 // MaxRegionID fits

// Actor returns the name under which a region issues events during one epoch. Distinct pairs have
// distinct actors, and those of early epochs encode in one or two bytes.
func Actor(region RegionID, epoch Epoch) crdt.Actor {
	return crdt.Actor(uint32(epoch)<<actorRegionBits | uint32(region))
}

// ActorRegion returns the pair that Actor was given.
func ActorRegion(a crdt.Actor) (RegionID, Epoch) {
	return RegionID(a & MaxRegionID), Epoch(a >> actorRegionBits)
}

// Actor returns the actor of the region's present epoch.
func (r *Region) Actor() crdt.Actor { return Actor(r.ID, r.Epoch) }

// ActorName returns "eu/0": the region's name and the actor's epoch, for people to read.
func (c *Cluster) ActorName(a crdt.Actor) string {
	id, epoch := ActorRegion(a)
	if r, ok := c.Region(id); ok {
		return fmt.Sprintf("%s/%d", r.Name, epoch)
	}
	return fmt.Sprintf("region-%d/%d", id, epoch)
}
