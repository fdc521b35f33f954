package region

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

const (
	// outboxLook is how often a leader looks after its outbox.
	outboxLook = time.Second
	// trimPairs bounds how many entries leave the outbox in one command.
	trimPairs = 16384
	// DefaultOutboxQuota bounds the outbox of one partition, in bytes.
	DefaultOutboxQuota = 256 << 20
	// quotaSlack: past the quota by this part of it, folding is not waited for.
	quotaSlack = 8
)

// outboxLoop folds, trims and bounds the outbox while this node leads.
func (p *Partition) outboxLoop(ctx context.Context) error {
	ticker := time.NewTicker(outboxLook)
	defer ticker.Stop()
	var folder *OutboxFolder
	var term uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if leading, _ := p.group.Leadership(); !leading || len(p.waitsFor(p.machine.View())) == 0 {
			folder = nil
			continue
		}
		if now := p.Term(); folder == nil || now != term {
			folder, term = NewOutboxFolder(p.machine, DefaultFoldBounds()), now
		}
		if err := p.keepOutbox(ctx, folder); err != nil && ctx.Err() == nil {
			p.logger.Debug("outbox not looked after", "err", err)
		}
	}
}

// keepOutbox trims what no region lacks, folds what is old, and evicts regions while it is too large.
func (p *Partition) keepOutbox(ctx context.Context, f *OutboxFolder) error {
	for more := true; more && ctx.Err() == nil; {
		var err error
		more, err = p.keepOutboxStep(f, func(c *logv1.Command) error {
			_, err := p.batcher.do(ctx, c)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// keepOutboxStep does the next of it, and reports whether there may be more to do at once.
func (p *Partition) keepOutboxStep(f *OutboxFolder, propose func(*logv1.Command) error) (more bool, err error) {
	trimming, err := p.trimDue(propose)
	if err != nil {
		return false, err
	}
	fold, more, err := f.Step(p.wall())
	if err == nil && fold != nil {
		if err = propose(fold); !errors.Is(err, errProposed) {
			f.Done(err)
		}
	}
	if err != nil {
		return false, err
	}
	evicted, err := p.evictDue(more, propose)
	return more || trimming || evicted, err
}

// waiter is a region that the outbox waits for, and the last event that need not be kept for it.
type waiter struct {
	region topology.RegionID
	seq    uint64
}

// waiters returns the regions that the outbox waits for, those that hold back most first, given what they are known
// to have applied.
func (p *Partition) waiters(view *MachineView, applied map[topology.RegionID]uint64) []waiter {
	// A region that gets no events any more, but did, is waited for until it is evicted.
	regions := slices.Concat(p.waitsFor(view), slices.Collect(maps.Keys(applied)))
	slices.Sort(regions)
	var all []waiter
	for _, r := range slices.Compact(regions) {
		w := waiter{r, applied[r]}
		if e := view.eviction(r); e != nil {
			if e.ServedFrom == 0 {
				continue
			}
			w.seq = max(w.seq, e.ServedFrom-1)
		}
		all = append(all, w)
	}
	slices.SortStableFunc(all, func(a, b waiter) int { return cmp.Compare(a.seq, b.seq) })
	return all
}

// eviction returns a region's eviction, nil if there is none.
func (v *MachineView) eviction(r topology.RegionID) *Eviction {
	for i := range v.Evictions {
		if v.Evictions[i].Region == r {
			return &v.Evictions[i]
		}
	}
	return nil
}

// applied returns what regions are known to have applied of this region's events.
func (v *MachineView) applied() map[topology.RegionID]uint64 {
	applied := map[topology.RegionID]uint64{}
	for _, w := range v.Watermarks {
		if w.Actor == v.Outbox.Actor {
			applied[w.Region] = w.Seq
		}
	}
	return applied
}

// trimTo returns an event up to which the outbox waits for nobody, at most as many entries behind its beginning as
// one command may remove.
func (p *Partition) trimTo(view *MachineView, waiters []waiter) (uint64, error) {
	to := view.Outbox.Head
	if len(waiters) > 0 {
		to = min(to, waiters[0].seq)
	}
	return p.machine.lastOfPairs(view.Outbox.First, to)
}

// lastOfPairs returns the last event of the pairs from first on that stand for nothing after to, or of the first
// trimPairs of them; first-1 if there is none.
func (m *Machine) lastOfPairs(first, to uint64) (uint64, error) {
	last, pairs := first-1, 0
	if to < first {
		return last, nil
	}
	err := m.store.View(func(kv replica.KV) error {
		return scanOutbox(kv, first, func(p *outboxPair) (bool, error) {
			if p.seq > to {
				return false, nil
			}
			last, pairs = p.seq, pairs+1
			return pairs < trimPairs, nil
		})
	})
	return last, err
}

// trimDue proposes to trim what can be trimmed without another watermark, and reports whether that did something.
func (p *Partition) trimDue(propose func(*logv1.Command) error) (bool, error) {
	view := p.machine.View()
	to, err := p.trimTo(view, p.waiters(view, view.applied()))
	if err != nil || to < view.Outbox.First {
		return false, err
	}
	err = propose(&logv1.Command{Command: &logv1.Command_Acknowledge{Acknowledge: &logv1.AcknowledgeCommand{TrimTo: to}}})
	return p.machine.View().Outbox.First > view.Outbox.First, err
}

// evictDue evicts the regions that hold back most while the outbox has too much for them, and reports whether there
// was one. busy says that folding may yet make it smaller.
func (p *Partition) evictDue(busy bool, propose func(*logv1.Command) error) (bool, error) {
	view := p.machine.View()
	if size := view.Outbox.Bytes; size <= p.quota || busy && size <= p.quota+p.quota/quotaSlack {
		return false, nil
	}
	waiters, n := p.waiters(view, view.applied()), 0
	for ; n < len(waiters) && p.machine.outbox.Load().after(waiters[n].seq) > p.quota; n++ {
		if err := p.evict(view, waiters[n:], propose); err != nil {
			return n > 0, err
		}
	}
	return n > 0, nil
}

// evict proposes that the outbox does not wait for the first of the regions that it waits for.
func (p *Partition) evict(view *MachineView, waiters []waiter, propose func(*logv1.Command) error) error {
	w := waiters[0]
	p.logger.Error("a region lacks more than the outbox may keep: it needs the partition's state",
		"region", w.region, "applied", w.seq, "head", view.Outbox.Head, "bytes", view.Outbox.Bytes, "quota", p.quota)
	to, err := p.trimTo(view, waiters[1:])
	if err != nil {
		return err
	}
	return propose(&logv1.Command{Command: &logv1.Command_Destination{Destination: &logv1.DestinationCommand{
		Region: uint32(w.region), Change: &logv1.DestinationCommand_Evict{Evict: &logv1.EvictDestination{TrimTo: to}},
	}}})
}
