package crossregion

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// RemoteRegion is a region to exchange deltas with.
type RemoteRegion struct {
	ID   topology.RegionID
	Name string
	// Actor is the actor of the region's present epoch.
	Actor crdt.Actor
}

// Config is what a Replicator needs; every field but Regions, State, Transfers, Audits, Fold, Instant, ClockAhead, ClockSource,
// WantEvent, GivenUp and Lost is required.
type Config struct {
	// Cluster is the deployment's name; what comes from another one is refused.
	Cluster string
	Self    topology.RegionID
	Node    topology.NodeID
	// Actor is the actor of this region's present epoch.
	Actor      crdt.Actor
	Partitions uint32
	// Regions are all other regions of the deployment.
	Regions []RemoteRegion
	Source  Source
	Sink    Sink
	// State tells of what is applied: without it no digests are compared, and who takes over as a leader does not know
	// how old what waits is.
	State State
	// Transfers moves whole states. Without it a partition that lacks deltas which are gone stays stuck.
	Transfers Transfers
	// Audits compares states. Without it, or Transfers, nobody says in what regions differ.
	Audits Audits
	// Fold makes what is sent smaller. Without it all deltas are sent as they are.
	Fold protocol.Folder
	// Instant returns the latest instant of the events that a record's data stands for. Without it Sink.Merge alone
	// judges what is from the future.
	Instant func(data []byte) (hlc.Time, error)
	// ClockAhead is how far in the future an event may be to be merged; 0 means 10 s.
	ClockAhead time.Duration
	// ClockSource reads the clocks that other regions' are compared with; nil means Clock.
	ClockSource hlc.Source
	// Derive gives the keys that authenticate what regions say to each other: the same in all of them.
	Derive protocol.Derive
	// WantEvent has this region make an event of a partition at or after an instant, if there is none yet: another
	// region waits for one. It must not wait. Without it nothing is done.
	WantEvent func(p topology.PartitionID, past hlc.Time) error
	// GivenUp reports whether a region of Regions was given up: what it sends is refused, what it asks is not answered,
	// and it is asked nothing. What others have received of it is still fetched from them. Without it none is.
	GivenUp func(topology.RegionID) bool
	// Lost is told, each time, that another region knows of an event of this one that the outbox never had, as far as
	// this node knows: a node that led until lately may know less than the one that leads. It must not block.
	Lost   func(p topology.PartitionID, by topology.RegionID, seq uint64)
	Link   Link
	Clock  func() time.Time
	Logger *slog.Logger
}

// Validate returns every fault of the configuration, joined.
func (c *Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Cluster == "" || c.Self == 0 || c.Node == "" {
		fault("cluster, region and node must be named")
	}
	if c.Partitions == 0 || c.Partitions > topology.MaxPartitions {
		fault("partitions is %d: must be 1 to %d", c.Partitions, topology.MaxPartitions)
	}
	if c.ClockAhead < 0 {
		fault("clock ahead is %v: must not be negative", c.ClockAhead)
	}
	if !c.complete() {
		fault("source, sink, keys, link, clock and logger are required")
	}
	return errors.Join(append(faults, c.regionFaults()...)...)
}

func (c *Config) regionFaults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	regions, actors := map[topology.RegionID]bool{c.Self: true}, map[crdt.Actor]bool{c.Actor: true}
	for _, r := range c.Regions {
		if r.ID == 0 || regions[r.ID] {
			fault("region id %d of %q is zero or used twice", r.ID, r.Name)
		}
		if actors[r.Actor] {
			fault("actor %d of region %q is used twice", r.Actor, r.Name)
		}
		regions[r.ID], actors[r.Actor] = true, true
	}
	return faults
}

func (c *Config) complete() bool {
	return c.Source != nil && c.Sink != nil && c.Derive != nil && c.Link != nil && c.Clock != nil && c.Logger != nil
}
