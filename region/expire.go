package region

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

const (
	// expireLook is how often a leader looks whether something has expired: how late watchers may hear
	// of it. Readers judge for themselves.
	expireLook = time.Second
	// expireAtOnce bounds how much one command expires.
	expireAtOnce = 1000
	// expireGrace is how long after a value's expiry the region that set it is waited for to delete the value,
	// before every region does so. Readers do not see the value meanwhile. To be too early does little harm: a
	// region that made the value live longer, and whose word of that is still on its way, keeps what it wrote
	// since.
	expireGrace = time.Minute
)

// expire runs the command that the leader proposes.
func (a *application) expire(now hlc.Time, c *logv1.ExpireCommand) (result, error) {
	found, err := a.replica.Expire(replica.Expiry{
		Now: max(now, a.replica.LastHLC()), Cut: hlc.Time(c.GetCutHlc()), Others: hlc.Time(c.GetOthersHlc()),
		Limit: min(int(c.GetLimit()), expireAtOnce),
	})
	if err != nil {
		return result{}, err
	}
	for _, n := range found.Names {
		a.changed = append(a.changed, change{
			Change: Change{Namespace: n.Namespace, Key: n.Key, Type: n.Type, Cause: CauseExpired}, index: a.entryIndex,
		})
	}
	return result{}, a.ship(found.Deltas)
}

// expireLoop proposes expiry, and ticks, while this node leads.
func (p *Partition) expireLoop(ctx context.Context) error {
	ticker := time.NewTicker(expireLook)
	defer ticker.Stop()
	var ticks tickTimer
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := p.exports.closeOld(); err != nil {
			p.logger.Warn("a view for another region was not closed", "err", err)
		}
		if leading, _ := p.group.Leadership(); !leading {
			continue
		}
		if p.muted() != nil {
			continue
		}
		if err := p.expireDue(ctx); err != nil && ctx.Err() == nil {
			p.logger.Debug("not all was expired", "err", err)
		}
		if err := p.tickDue(ctx, &ticks); err != nil && ctx.Err() == nil {
			p.logger.Debug("others were not told how far this region is", "err", err)
		}
	}
}

// expireDue proposes expiry until nothing is due.
func (p *Partition) expireDue(ctx context.Context) error {
	for {
		if done, err := p.expireSome(ctx); done || err != nil {
			return err
		}
	}
}

// expireSome proposes expiry once if something is due, and reports whether nothing was.
func (p *Partition) expireSome(ctx context.Context) (bool, error) {
	command, err := p.expireCommand()
	if command == nil || err != nil {
		return true, err
	}
	_, err = p.batcher.do(ctx, command)
	return false, err
}

// expireCommand returns what expireSome proposes: nil if nothing is due.
func (p *Partition) expireCommand() (*logv1.Command, error) {
	now := p.clock.Read()
	x := replica.Expiry{Now: now, Cut: p.cut(), Others: hlc.At(max(0, now.Wall().Add(-expireGrace).UnixMilli()), 0)}
	due := false
	err := p.machine.Read(func(r *replica.Replica) (err error) {
		due, err = r.Due(x)
		return err
	})
	if err != nil || !due {
		return nil, err
	}
	command := &logv1.ExpireCommand{CutHlc: uint64(x.Cut), OthersHlc: uint64(x.Others), Limit: expireAtOnce}
	return &logv1.Command{Command: &logv1.Command_Expire{Expire: command}}, nil
}

// cut returns an instant from before which no event can still arrive: every other region's last
// applied event is at least as late, and their clocks only rise.
func (p *Partition) cut() hlc.Time {
	cut, _ := p.holder()
	return cut
}

// holder returns the cut, and the region that holds it back: 0 if none does. What a home has deleted goes once all regions have
// told that they know of the home, too: what others write before that comes later, and loses against it all the same.
func (p *Partition) holder() (cut hlc.Time, by topology.RegionID) {
	view := p.machine.View()
	cut, by = p.arrived(view)
	if len(view.Homes) == 0 {
		return cut, by
	}
	err := p.machine.Read(func(r *replica.Replica) error {
		homes, err := r.Homes()
		for i := range homes {
			if unaware := unheard(r, &homes[i], p.others()); len(unaware) > 0 && homes[i].Time < cut {
				cut, by = homes[i].Time, unaware[0]
			}
		}
		return err
	})
	if err != nil {
		return 0, 0 // nothing is known to be over
	}
	return cut, by
}

// arrived returns up to where everything has arrived, and the region that has told the least: 0 if none has.
func (p *Partition) arrived(view *MachineView) (cut hlc.Time, by topology.RegionID) {
	cut = max(p.clock.Read(), view.HLC)
	if view.Facts.Epoch > 0 {
		return view.Facts.cut(cut, view)
	}
	for _, d := range p.destinations {
		last := hlc.Time(0)
		for actor, at := range view.HLCs {
			if region, _ := topology.ActorRegion(actor); region == d {
				last = max(last, at)
			}
		}
		if last < cut {
			cut, by = last, d
		}
	}
	return cut, by
}

// Garbage is what a partition keeps of deleted values because a region may still send events from before.
type Garbage struct {
	// Region is the one whose last event applied here is the oldest, at Since; 0 if nothing waits. Since is 0 if
	// it has sent none.
	Region topology.RegionID
	Since  hlc.Time
	// Count is how many deletions wait, and Bytes an estimate of their size: that of their names, twice. At most
	// garbageCounted are counted; More says that there are more.
	Count, Bytes uint64
	More         bool
}

const garbageCounted = 10_000

// Garbage tells who holds back the removal of what deletions leave, and how much that is, in what this replica
// has applied.
func (p *Partition) Garbage() (Garbage, error) {
	cut, by := p.holder()
	g := Garbage{Region: by, Since: cut}
	err := p.machine.Read(func(r *replica.Replica) (err error) {
		g.Count, g.Bytes, g.More, err = r.Spent(cut, garbageCounted)
		return err
	})
	if err != nil || g.Count == 0 || by == 0 {
		return Garbage{}, err
	}
	g.Bytes *= 2
	return g, nil
}
