package crossregion

import (
	"time"

	"github.com/atolldb/atoll/topology"
)

// Flow says how far one region has applied another's events of one partition.
type Flow struct {
	Source, Destination topology.RegionID
	Partition           topology.PartitionID
	// Applied is the last event the destination is known to have durably applied, Head the last the
	// source is known to have issued.
	Applied, Head uint64
	// Heard is when the other side last said how far it is: its heartbeat if it is the source, its
	// watermark if it is the destination. Zero means never.
	Heard time.Time
	// Unknown means that Head and Applied may be far from the truth: nothing was heard for long.
	Unknown bool
	// Behind is for how long the destination has been without an event that Head counts; 0 if it has
	// all of them. It counts from when the later of the two ends was first told, so no difference
	// between the clocks of two regions can distort it.
	Behind time.Duration
	// Stuck says why the flow cannot go on without help; empty if it can.
	Stuck string
}

// Lag returns how many events of Head the destination has not applied.
func (f Flow) Lag() uint64 {
	if f.Head <= f.Applied {
		return 0
	}
	return f.Head - f.Applied
}
