package crossregion

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// fresh reports whether a tick is a sign of life.
func (r *Replicator) fresh(region topology.RegionID, t protocol.Tick) bool {
	r.heard.Lock()
	defer r.heard.Unlock()
	return r.heard.from[region].Fresh(t)
}

// head returns what this node says about a partition that it leads.
func (s *session) head(now time.Time) protocol.Head {
	state, _ := s.r.cfg.Source.Outbox(s.partition)
	h := protocol.Head{
		Position: protocol.Position{Partition: s.partition, Actor: state.Actor, Seq: state.Head},
		First:    state.First, Bytes: state.Bytes, Appended: state.Appended,
		Behind: s.acking.outboxIs(state, now),
	}
	if s.r.cfg.State != nil {
		s.audit.detail(&h, now)
	}
	return h
}

// onTick takes what the leader in another region says about this partition: how far its outbox reaches, and, which
// is as good as a watermark, how far it has applied ours.
func (s *session) onTick(region topology.RegionID, h *protocol.Head, fresh bool) {
	s.receivers[region].onHead(h, fresh)
	if fresh {
		s.acking.heard(region)
	}
	if h.Vector.Len() > 0 {
		if err := s.acking.report(region, h.Vector.Get(s.r.cfg.Actor)); err != nil {
			s.r.refuse("watermark refused", region, s.partition, err)
		}
		s.elsewhere(region, h)
	}
	if h.Digest.Vector.Len() > 0 {
		s.audit.of(region, h.Digest)
	}
}

// elsewhere tells receivers what a region has applied of third regions' events.
func (s *session) elsewhere(region topology.RegionID, h *protocol.Head) {
	for origin, rcv := range s.receivers {
		if origin == region {
			continue
		}
		if err := rcv.elsewhere(region, h.Vector.Get(rcv.stream.Actor)); err != nil {
			s.r.refuse("tick refused", region, s.partition, err)
		}
	}
}

// auditing compares a partition's digest with other regions'.
type auditing struct {
	r         *Replicator
	partition topology.PartitionID
	// alarm is told which regions' states differ from now on, or do not any more.
	alarm func(region topology.RegionID, on bool)
	mu    struct {
		sync.Mutex
		core protocol.Comparison
		own  protocol.Digest
		// said is what the last ticks had, at when all of it was said.
		said protocol.Head
		at   time.Time
	}
}

// detail adds to a head what was not said yet, and everything now and then.
func (a *auditing) detail(h *protocol.Head, now time.Time) {
	vector, clock := a.r.cfg.State.State(a.partition)
	h.HLC = clock
	a.mu.Lock()
	defer a.mu.Unlock()
	said := &a.mu.said
	all := now.Sub(a.mu.at) >= a.r.tuning.DetailEvery
	if all {
		a.mu.at = now
	}
	if all || !said.Vector.Equal(vector) {
		h.Vector, said.Vector = vector, vector
	}
	if a.r.resyncing(a.partition) {
		return // a digest says nothing then
	}
	if own := a.mu.own; all || own.Sum != said.Digest.Sum || !own.Vector.Equal(said.Digest.Vector) {
		h.Digest, said.Digest = own, own
	}
}

// of takes another region's digest.
func (a *auditing) of(region topology.RegionID, d protocol.Digest) {
	if a.r.resyncing(a.partition) {
		return
	}
	a.mu.Lock()
	changed := a.mu.core.Of(region, d)
	a.mu.Unlock()
	if changed {
		a.changed(region)
	}
}

// computed takes this region's.
func (a *auditing) computed(d protocol.Digest) {
	a.mu.Lock()
	a.mu.own = d
	changed := a.mu.core.Own(d)
	a.mu.Unlock()
	for _, region := range changed {
		a.changed(region)
	}
}

func (a *auditing) diverged(region topology.RegionID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.core.Diverged(region)
}

// changed logs that a region's state differs, or does not any more, and has it found out in what.
func (a *auditing) changed(region topology.RegionID) {
	attrs := []any{slog.Any("partition", a.partition), slog.Any("region", a.r.regions[region].Name)}
	why := a.diverged(region)
	a.alarm(region, why != "")
	if why == "" {
		a.r.log.Info("the state is that of another region again", attrs...)
		return
	}
	a.r.counts.diverged.Add(1)
	a.r.log.Error("the state differs from another region's, although both have applied the same events", append(attrs, slog.String("err", why))...)
}

// digest computes digests of the led partitions, one at a time, as planned.
func (r *Replicator) digest(ctx context.Context) {
	if r.cfg.State == nil {
		return
	}
	plan := protocol.NewDigestPlan(r.tuning)
	ticker := time.NewTicker(r.tuning.TickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := r.cfg.Clock()
		for p := range topology.PartitionID(r.cfg.Partitions) {
			if r.session(p) == nil || r.resyncing(p) {
				plan.Forget(p)
				continue
			}
			vector, _ := r.cfg.State.State(p)
			plan.Note(p, vector, now)
		}
		if p, due := plan.Due(now); due {
			r.digestOf(ctx, plan, p)
		}
	}
}

func (r *Replicator) digestOf(ctx context.Context, plan *protocol.DigestPlan, p topology.PartitionID) {
	began := r.cfg.Clock()
	d, err := r.cfg.State.Digest(ctx, p)
	now := r.cfg.Clock()
	plan.Computed(p, d.Vector, now.Sub(began), now)
	if err != nil {
		r.log.Warn("digest not computed", slog.Any("partition", p), slog.Any("err", err))
		return
	}
	if d.Vector.Len() == 0 {
		return
	}
	r.counts.digests.Add(1)
	if s := r.session(p); s != nil {
		s.audit.computed(d)
	}
}
