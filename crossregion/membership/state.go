package membership

import (
	"slices"

	"github.com/atolldb/atoll/topology"
)

// Bounds of the state.
const (
	// MaxLiving is how many regions can take part at once.
	MaxLiving = 16
	// maxHistory is how many actors of a region are remembered one by one. Those of all lower epochs are
	// released.
	maxHistory       = 8
	maxOverrides     = 16
	maxNameBytes     = 32
	maxAddressBytes  = 255
	maxNoteBytes     = 256
	maxClusterBytes  = 64
	maxSnapshotBytes = 16 << 20
	maxCommandBytes  = 128 << 10
)

// RegionState is where a region is in its life.
type RegionState uint8

// The states of a region. Their numbers are on disk.
const (
	// Joining: its actor is open, but it may not write before the join is complete.
	Joining RegionState = 1
	// Active: it takes writes.
	Active RegionState = 2
	// Draining: it writes no more, and stays until everybody has all that it wrote.
	Draining RegionState = 3
	// Fenced: it was given up, and its actor is being closed by the others.
	Fenced RegionState = 4
	// Closed: every living member is at its actor's cut; nothing waits for it.
	Closed RegionState = 5
	// Removed: it is not expected back.
	Removed RegionState = 6
)

// String returns the state's name.
func (s RegionState) String() string {
	names := [...]string{"NONE", "JOINING", "ACTIVE", "DRAINING", "FENCED", "CLOSED", "REMOVED"}
	if int(s) < len(names) {
		return names[s]
	}
	return "UNKNOWN"
}

// ActorState is where an actor is in its life. It only ever goes on, but that a closing can begin again.
type ActorState uint8

// The states of an actor. Their numbers are on disk.
const (
	// ActorOpen: its events are merged as they come.
	ActorOpen ActorState = 1
	// ActorFenced: none of its events are merged.
	ActorFenced ActorState = 2
	// ActorClosed: its events up to the cut are merged, and none beyond it.
	ActorClosed ActorState = 3
)

// String returns the state's name.
func (s ActorState) String() string {
	names := [...]string{"NONE", "OPEN", "FENCED", "CLOSED"}
	if int(s) < len(names) {
		return names[s]
	}
	return "UNKNOWN"
}

// Report is what a member has of an actor's events, per partition.
type Report struct {
	Member topology.RegionID
	Vector []uint64
}

// Actor is one epoch of a region.
type Actor struct {
	Epoch topology.Epoch
	State ActorState
	// Graceful means that the region drains, and itself has all that it wrote.
	Graceful bool
	// Round is the membership epoch at which an open actor was opened, or at which the closing of
	// another began, or began again.
	Round uint64
	// Reports are those of this round, in ascending order of members, until the actor is closed.
	Reports []Report
	// Cut is, per partition, the last event that counts, once the actor is closed.
	Cut []uint64
	// Drained are the members that are at the cut.
	Drained RegionSet
	// Released means that every living member is at the cut: nothing waits for this actor any more.
	Released bool
}

// closing reports whether the actor is on its way out by force, and somebody may lack what it wrote.
func (a *Actor) closing() bool { return a.State != ActorOpen && !a.Released && !a.Graceful }

// Region is one region that a deployment has or had.
type Region struct {
	ID   topology.RegionID
	Name string
	// Address is where its voter is reached, host:port.
	Address string
	State   RegionState
	// Actors are in ascending order of epochs; the last is the present one. Epochs below the first
	// are released.
	Actors []Actor
	// Of a joining region: Awaiting are the members that have not confirmed that they wait for it, and
	// AckedAt the membership epoch at which the last of them had; 0 before.
	Awaiting RegionSet
	AckedAt  uint64
}

// Actor returns the region's present actor.
func (r *Region) Actor() *Actor { return &r.Actors[len(r.Actors)-1] }

// actor returns the actor of an epoch, nil if there is none that is remembered.
func (r *Region) actor(e topology.Epoch) *Actor {
	for i := range r.Actors {
		if r.Actors[i].Epoch == e {
			return &r.Actors[i]
		}
	}
	return nil
}

// living reports whether a region takes part: it reports, is waited for, and may vote.
func (r *Region) living() bool {
	return r.State == Joining || r.State == Active || r.State == Draining
}

// Override is a decision that was not a majority's.
type Override struct {
	// Nonce names it, so that it is recorded once.
	Nonce uint64
	// Epoch is the membership epoch that it led to.
	Epoch uint64
	// Dead are the regions that were declared dead.
	Dead RegionSet
	Note string
}

// State is the membership as of one applied command. It is never changed once it is made, and so is
// safe for concurrent use.
type State struct {
	// Epoch rises by one with every command that changes something.
	Epoch      uint64
	Cluster    string
	Partitions uint32
	// Witness votes, too, and has no data; it has no name if there is none.
	Witness topology.Witness
	// Regions are in ascending order of ids, removed ones too: an id is never used for another region.
	Regions []Region
	// Overrides are the last decisions that were not a majority's, the oldest first, and Lineage a digest
	// of all there were: states of different lineages have gone different ways and must not meet.
	Overrides []Override
	Lineage   uint64
	// Heirs are in ascending order of the actors that they are heirs of, of which there may be no memory any more.
	Heirs []Heir
}

// clone returns a copy that shares nothing that is ever changed: vectors are only replaced.
func (s *State) clone() *State {
	c := *s
	c.Regions = slices.Clone(s.Regions)
	for i := range c.Regions {
		r := &c.Regions[i]
		r.Actors = slices.Clone(r.Actors)
		for j := range r.Actors {
			r.Actors[j].Reports = slices.Clone(r.Actors[j].Reports)
		}
	}
	c.Overrides = slices.Clone(s.Overrides)
	c.Heirs = slices.Clone(s.Heirs)
	return &c
}
