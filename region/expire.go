package region

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt"
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
)

// expire runs the command that the leader proposes.
func (a *application) expire(now hlc.Time, c *logv1.ExpireCommand) (result, error) {
	limit := min(int(c.GetLimit()), expireAtOnce)
	names, err := a.replica.Expire(max(now, a.replica.LastHLC()), hlc.Time(c.GetCutHlc()), limit)
	if err != nil {
		return result{}, err
	}
	for _, n := range names {
		a.changed = append(a.changed, change{
			Change: Change{Namespace: n.Namespace, Key: n.Key, Type: crdt.TypeLWWRegister, Cause: CauseExpired}, index: a.index,
		})
	}
	return result{}, nil
}

// expireLoop proposes expiry while this node leads.
func (p *Partition) expireLoop(ctx context.Context) error {
	ticker := time.NewTicker(expireLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if leading, _ := p.group.Leadership(); !leading {
			continue
		}
		if err := p.expireDue(ctx); err != nil && ctx.Err() == nil {
			p.logger.Debug("not all was expired", "err", err)
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
	cut := p.cut()
	due := false
	err := p.machine.Read(func(r *replica.Replica) (err error) {
		due, err = r.Due(p.clock.Now(), cut)
		return err
	})
	if err != nil || !due {
		return true, err
	}
	command := &logv1.ExpireCommand{CutHlc: uint64(cut), Limit: expireAtOnce}
	_, err = p.batcher.do(ctx, &logv1.Command{Command: &logv1.Command_Expire{Expire: command}})
	return false, err
}

// cut returns an instant from before which no event can still arrive: every other region's last
// applied event is at least as late, and their clocks only rise.
func (p *Partition) cut() hlc.Time {
	view := p.machine.View()
	cut := max(p.clock.Now(), view.HLC)
	for _, d := range p.destinations {
		last := hlc.Time(0)
		for actor, at := range view.HLCs {
			if region, _ := topology.ActorRegion(actor); region == d {
				last = max(last, at)
			}
		}
		cut = min(cut, last)
	}
	return cut
}
