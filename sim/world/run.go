package world

import (
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
)

// Counts say what happened in one run, or in several.
type Counts struct {
	Schedules, Steps                                     uint64
	Events, Merged, Operations                           uint64
	Digests, Compared, Applied                           uint64
	Faults                                               [kinds]uint64
	Lost, Duplicated, Reordered, Flipped                 uint64 // frames
	PublishFaults, Published, Damaged, Fetches, Rewinds  uint64
	Refused, Unknown, Unavailable, Conditions            uint64 // in regions
	Gaps, Duplicates, Evicted, RefusedMerges, BadBatches uint64 // by receivers
	Noticed, Quarantined                                 uint64
	Transfers, Evictions                                 uint64 // states taken over, regions evicted
	Relayed                                              uint64 // fetches that a third region answered
	Folds, RunsRead                                      uint64 // in outboxes, and of runs that were read there
	Fences, Drains, Closings, Releases, Rejoins, Joins   uint64 // of regions
	JoinTransfers, LateFrames, GivenUp                   uint64 // states taken over by regions that join, frames refused, events
	HomeWrites, HomeReads, HomeConditions, HomeRefused   uint64 // at homes, and refused by condition, and elsewhere
	HomeMoves, HomeUnmoved, HomeTakes                    uint64 // moves, those refused, takeovers
	HomeLate, HomeGivenUp                                uint64 // writes that homes refused as too late, and that were lost with a region
	Virtual, Converged                                   time.Duration
}

func (c *Counts) add(r *protocol.Receiver) {
	c.Gaps += r.Counts.Gaps
	c.Duplicates += r.Counts.Duplicates
	c.Evicted += r.Counts.Evicted
	c.BadBatches += r.Counts.Refused
}

// Add adds what happened in other runs.
func (c *Counts) Add(o *Counts) {
	for i, n := range o.numbers() {
		*c.numbers()[i] += *n
	}
	for i := range c.Faults {
		c.Faults[i] += o.Faults[i]
	}
	c.Virtual += o.Virtual
	c.Converged += o.Converged
}

func (c *Counts) numbers() []*uint64 {
	return []*uint64{
		&c.Schedules, &c.Steps, &c.Events, &c.Merged, &c.Operations, &c.Digests, &c.Compared, &c.Applied,
		&c.Lost, &c.Duplicated, &c.Reordered, &c.Flipped, &c.PublishFaults, &c.Published, &c.Damaged, &c.Fetches, &c.Rewinds,
		&c.Refused, &c.Unknown, &c.Unavailable, &c.Conditions, &c.Gaps, &c.Duplicates, &c.Evicted, &c.RefusedMerges,
		&c.BadBatches, &c.Noticed, &c.Quarantined, &c.Transfers, &c.Evictions,
		&c.Relayed, &c.Folds, &c.RunsRead,
		&c.Fences, &c.Drains, &c.Closings, &c.Releases, &c.Rejoins, &c.Joins, &c.JoinTransfers, &c.LateFrames, &c.GivenUp,
		&c.HomeWrites, &c.HomeReads, &c.HomeConditions, &c.HomeRefused, &c.HomeMoves, &c.HomeUnmoved, &c.HomeTakes, &c.HomeLate, &c.HomeGivenUp,
	}
}

// Result is what came of one run.
type Result struct {
	// Failure is nil if every invariant held.
	Failure *Failure
	// Trace is a hash of everything that happened: the same plan has the same.
	Trace  uint64
	Counts Counts
}

// Runner runs plans, one at a time.
type Runner struct {
	mouths *mouths
	lies   bool // see World
}

// NewRunner returns a runner.
func NewRunner() (*Runner, error) { return &Runner{mouths: newMouths()}, nil }

// Run runs a plan. tell may be nil.
func (r *Runner) Run(p *Plan, tell Listener) Result {
	w := newWorld(p, r.mouths, tell)
	w.lies = r.lies
	w.play()
	w.counts.Schedules, w.counts.Virtual = 1, w.now
	return Result{w.failure, w.trace, w.counts}
}
