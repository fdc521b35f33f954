package crossregion

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// Stats counts what a Replicator has done since it was made.
type Stats struct {
	// Published and Rewinds are envelopes given to the stream, and how often publishing began again
	// further back. Received counts envelopes for led partitions.
	Published, Rewinds, Received uint64
	// Folded are those of the envelopes given to the stream with one record in place of several.
	Folded uint64
	// Duplicates are envelopes with nothing new, Gaps those that came too early, Evicted those
	// dropped from a full buffer.
	Duplicates, Gaps, Evicted uint64
	// Fetches are requests to an origin's outbox, Served those answered here.
	Fetches, Served uint64
	// Relayed are envelopes of other regions that were passed on.
	Relayed uint64
	// Refused are frames and batches that were not taken, BadBatches events the sink will not take,
	// Trimmed answers that the outbox does not go back far enough.
	Refused, BadBatches, Trimmed uint64
	// Quarantined counts how often a flow began to wait for the clock, because its next event is in the future.
	Quarantined uint64
	// Refusals are those of Refused by who they say they are of, partition and reason, in this order.
	Refusals []Refusal
	// Digests are those computed here, Diverged how often another region's state turned out to differ from ours
	// although it has applied the same events.
	Digests, Diverged uint64
	// Audits are the comparisons that have ended, AuditsDiffer those that found differences, AuditsFailed those that came
	// to nothing, and AuditBytes what other regions sent for them.
	Audits, AuditsDiffer, AuditsFailed, AuditBytes uint64
	// Transfers are the states that were taken over, TransferBytes what was sent for them, and Donated the parts of
	// this region's that were sent to others.
	Transfers, TransferBytes, Donated uint64
}

// Refusal counts what was refused for one reason.
type Refusal struct {
	// Source is the region that it came from or says it is of; 0 if that is none that is known.
	Source topology.RegionID
	// Partition is what it was about, unless AllPartitions.
	Partition     topology.PartitionID
	AllPartitions bool
	Reason        protocol.Reason
	Count         uint64
}

type counters struct {
	published, folded, rewinds, received, served, digests, diverged, relayed atomic.Uint64
	transfers, transferBytes, donated                                        atomic.Uint64
	audits, auditDiffers, auditFailed, auditBytes                            atomic.Uint64
	// refused has one entry per known region, partition and reason at most.
	refused struct {
		sync.Mutex
		total uint64
		by    map[refusal]uint64
	}
}

type refusal struct {
	source    topology.RegionID
	partition topology.PartitionID
	reason    protocol.Reason
}

// allPartitions is where refusals are counted that are about no partition in particular.
const allPartitions topology.PartitionID = topology.MaxPartitions

// Stats returns the counts. Safe for concurrent use.
func (r *Replicator) Stats() Stats {
	r.mu.RLock()
	s := r.mu.ended
	r.mu.RUnlock()
	for _, session := range r.sessions() {
		for _, rcv := range session.receivers {
			rcv.addCounts(&s)
		}
	}
	s.Folded = r.counts.folded.Load()
	s.Published, s.Rewinds = r.counts.published.Load(), r.counts.rewinds.Load()
	s.Received, s.Served = r.counts.received.Load(), r.counts.served.Load()
	s.Relayed = r.counts.relayed.Load()
	s.Digests, s.Diverged = r.counts.digests.Load(), r.counts.diverged.Load()
	s.Audits, s.AuditsDiffer, s.AuditsFailed = r.counts.audits.Load(), r.counts.auditDiffers.Load(), r.counts.auditFailed.Load()
	s.AuditBytes = r.counts.auditBytes.Load()
	s.Transfers, s.TransferBytes, s.Donated = r.counts.transfers.Load(), r.counts.transferBytes.Load(), r.counts.donated.Load()
	s.Refused, s.Refusals = r.counts.refusals()
	return s
}

func (c *counters) refusals() (total uint64, by []Refusal) {
	c.refused.Lock()
	defer c.refused.Unlock()
	for k, n := range c.refused.by {
		by = append(by, Refusal{k.source, k.partition, k.partition == allPartitions, k.reason, n})
	}
	slices.SortFunc(by, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Reason, b.Reason))
	})
	return c.refused.total, by
}

// claimed returns the region that a frame says it is of; 0 if that is none we know.
func (r *Replicator) claimed(frame []byte) topology.RegionID {
	region, _ := topology.ActorRegion(protocol.ClaimedActor(frame))
	if r.keys.Actor(region) == 0 {
		return 0
	}
	return region
}

// refuse counts what cannot be taken, by who it says it is of and why, and logs ever fewer of each.
func (r *Replicator) refuse(what string, region topology.RegionID, p topology.PartitionID, err error) {
	reason := protocol.ReasonOf(err)
	c := &r.counts.refused
	c.Lock()
	if c.by == nil {
		c.by = map[refusal]uint64{}
	}
	c.total++
	k := refusal{region, min(p, allPartitions), reason}
	c.by[k]++
	n := c.by[k]
	c.Unlock()
	if isPowerOfTwo(n) {
		r.log.Warn(what, slog.Any("region", region), slog.Any("partition", p), slog.String("reason", string(reason)),
			slog.Uint64("refused", n), slog.Any("err", err))
	}
}

// logRefused tells that another region's clock is too far behind this region's events, or no more.
func (r *Replicator) logRefused(p topology.PartitionID, by topology.RegionID, ahead time.Duration) {
	attrs := []any{slog.Any("partition", p), slog.String("region", r.regions[by].Name)}
	if ahead == 0 {
		r.log.Info("another region applies this region's events again", attrs...)
		return
	}
	r.log.Error("another region refuses this region's events as from the future: check the clocks of both (docs/regions.md: a region's clock was ahead)",
		append(attrs, slog.Duration("ahead", ahead))...)
}

func isPowerOfTwo(n uint64) bool { return n&(n-1) == 0 }

// Flows returns the state of every flow this node takes part in: of every partition it leads, from
// each other region to here and from here to each other region. Safe for concurrent use.
func (r *Replicator) Flows() []protocol.Flow {
	var flows []protocol.Flow
	now := r.cfg.Clock()
	for _, s := range r.sessions() {
		for _, region := range r.cfg.Regions {
			in := protocol.Flow{Source: region.ID, Destination: r.cfg.Self, Partition: s.partition}
			s.receivers[region.ID].flow(&in)
			in.Diverged = s.audit.diverged(region.ID)
			s.compare.flow(&in)
			s.transfer.flow(&in)
			out := protocol.Flow{Source: r.cfg.Self, Destination: region.ID, Partition: s.partition}
			s.acking.flow(&out, now)
			flows = append(flows, in, out)
		}
	}
	return flows
}
