package crossregion

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// beat broadcasts, once per interval, how far the outboxes of the led partitions reach and their states are. A node
// that leads none still sends it, so that the link is known to work.
func (r *Replicator) beat(ctx context.Context) {
	ticker := time.NewTicker(r.tuning.TickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := r.cfg.Clock()
		var heads []protocol.Head
		for _, s := range r.sessions() {
			heads = append(heads, s.head(now))
		}
		if err := r.broadcast(heads, now); err != nil {
			r.log.Debug("tick not sent", slog.Any("err", err))
		}
	}
}

// broadcast sends a tick, in as many frames as it takes.
func (r *Replicator) broadcast(heads []protocol.Head, now time.Time) error {
	for clock := r.clocks.reading(); ; clock = nil {
		n := min(len(heads), protocol.TickHeads)
		frame, err := r.keys.EncodeTick(protocol.Tick{Node: r.cfg.Node, Sent: now, Heads: heads[:n], Clock: clock})
		if err == nil {
			err = r.cfg.Link.Outlet().Broadcast(frame)
		}
		if heads = heads[n:]; err != nil || len(heads) == 0 {
			return err
		}
		now = now.Add(time.Microsecond) // later than the one before
	}
}

// checkStream tells the shippers now and then what the stream is: one that was made anew after all
// was published gives no other sign.
func (r *Replicator) checkStream(ctx context.Context) {
	ticker := time.NewTicker(r.tuning.StreamCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		callCtx, cancel := context.WithTimeout(ctx, r.tuning.OpenTimeout)
		state, err := r.cfg.Link.Outlet().Stream(callCtx)
		cancel()
		if err != nil {
			r.log.Debug("stream not available", slog.Any("err", err))
			continue
		}
		for _, s := range r.sessions() {
			s.observe(state)
		}
	}
}

// reporting drives the reporter to one origin.
type reporting struct {
	r      *Replicator
	region RemoteRegion
	wake   signal
	mu     struct {
		sync.Mutex
		core *protocol.Reporter
	}
}

func newReporting(r *Replicator, region RemoteRegion) *reporting {
	rep := &reporting{r: r, region: region, wake: newSignal()}
	rep.mu.core = protocol.NewReporter(r.tuning, r.cfg.Clock())
	return rep
}

func (rep *reporting) note(p topology.PartitionID, seq uint64) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	rep.mu.core.Note(p, seq, rep.r.cfg.Clock())
	rep.wake.raise()
}

// urge tells that the origin waits for a watermark.
func (rep *reporting) urge(p topology.PartitionID, seq uint64) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	rep.mu.core.Urge(p, seq, rep.r.cfg.Clock())
	rep.wake.raise()
}

// noteAhead tells of when the event is that waits for the clock, 0 if none does.
func (rep *reporting) noteAhead(p topology.PartitionID, at hlc.Time) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	rep.mu.core.NoteAhead(p, at, rep.r.cfg.Clock())
	rep.wake.raise()
}

func (rep *reporting) forget(p topology.PartitionID) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	rep.mu.core.Forget(p)
}

func (rep *reporting) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := rep.r.cfg.Clock()
		rep.mu.Lock()
		send, until := rep.mu.core.Due(now)
		rep.mu.Unlock()
		if len(send) > 0 {
			rep.send(send)
			continue
		}
		timeout, stop := timer(until, now)
		select {
		case <-ctx.Done():
		case <-rep.wake:
		case <-timeout:
		}
		stop()
	}
}

func (rep *reporting) send(applied map[topology.PartitionID]uint64) {
	now := rep.r.cfg.Clock()
	watermarks := make([]protocol.Position, 0, len(applied))
	rep.mu.Lock()
	for _, p := range slices.Sorted(maps.Keys(applied)) {
		watermarks = append(watermarks, protocol.Position{Partition: p, Actor: rep.region.Actor, Seq: applied[p], Ahead: rep.mu.core.Ahead(p, now)})
	}
	rep.mu.Unlock()
	frame, err := rep.r.keys.EncodeWatermarks(rep.region.ID, watermarks)
	if err == nil {
		err = rep.r.cfg.Link.Inlet(rep.region.ID).Report(frame)
	}
	if err != nil { // all of them are sent again before long
		rep.r.log.Debug("watermarks not sent", slog.Any("region", rep.region.Name), slog.Any("err", err))
	}
}
