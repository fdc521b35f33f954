package crossregion

import (
	"log/slog"
	"sync/atomic"

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
	// Refused are frames that are damaged or not for us, BadBatches events the sink will not take,
	// Trimmed answers that the outbox does not go back far enough.
	Refused, BadBatches, Trimmed uint64
}

type counters struct {
	published, folded, rewinds, received, served, refused atomic.Uint64
}

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
	s.Refused = r.counts.refused.Load()
	return s
}

// refuse counts a frame that cannot be used, and logs ever fewer of them.
func (r *Replicator) refuse(what string, region topology.RegionID, p topology.PartitionID, err error) {
	if n := r.counts.refused.Add(1); isPowerOfTwo(n) {
		r.log.Warn(what, slog.Any("region", region), slog.Any("partition", p), slog.Uint64("refused", n), slog.Any("err", err))
	}
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
			out := protocol.Flow{Source: r.cfg.Self, Destination: region.ID, Partition: s.partition}
			s.acking.flow(&out, now)
			flows = append(flows, in, out)
		}
	}
	return flows
}
