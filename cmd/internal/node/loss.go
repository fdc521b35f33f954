package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/cmd/internal/members"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

const (
	lossTime  = 5 * time.Second
	lossRetry = time.Second
)

// loss is what a node knows of events that its region issued and has not any more: it was set back to an old copy of its
// disks. The numbers of such events name other ones from now on, so the region must write nothing more under its epoch.
type loss struct {
	suspicions chan suspicion
	why        atomic.Pointer[region.FencedError]
}

// suspicion is that another region knows of an event that this node's replica does not.
type suspicion struct {
	partition topology.PartitionID
	by        topology.RegionID
	seq       uint64
}

// suspect is crossregion.Config.Lost. One suspicion is looked into at a time: what is true is said again.
func (l *loss) suspect(p topology.PartitionID, by topology.RegionID, seq uint64) {
	select {
	case l.suspicions <- suspicion{p, by, seq}:
	default:
	}
}

// watchLoss looks into suspicions, and fences the region when one is true.
func (n *Node) watchLoss(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-n.loss.suspicions:
			if n.loss.why.Load() == nil && n.isLost(ctx, s) {
				n.fenceSelf(ctx, s)
			}
		}
	}
}

// isLost reports whether the partition does not have an event of this region that another knows of. Whoever led the
// partition until lately may lack what its successor made; so a majority is asked first: what was shipped was
// committed before.
func (n *Node) isLost(ctx context.Context, s suspicion) bool {
	ctx, cancel := context.WithTimeout(ctx, lossTime)
	defer cancel()
	p, err := n.data.Partition(s.partition)
	if err != nil {
		return false
	}
	var have uint64
	_, err = p.Read(ctx, region.ReadOptions{Level: region.Linearizable}, func(rep *replica.Replica, _ hlc.Time) error {
		have = rep.Vector().Get(n.region.Actor())
		return nil
	})
	if err != nil {
		n.cfg.Logger.Debug("not known whether events were lost", "partition", s.partition, "err", err)
	}
	return err == nil && have < s.seq
}

// fenceSelf stops the region's writes, and has the others close it. It goes on until they have.
func (n *Node) fenceSelf(ctx context.Context, s suspicion) {
	l := members.Loss{By: s.by, Why: fmt.Sprintf("this region has lost some of what it wrote: region %d has event %d of it in partition %d, "+
		"and it has not; it writes nothing more under epoch %d; write in another region, and have this one rejoin with empty data directories: "+
		"atoll region rejoin", s.by, s.seq, s.partition, n.region.Epoch)}
	n.lost(l)
	if n.share == nil {
		return
	}
	retry := time.NewTicker(lossRetry)
	defer retry.Stop()
	for {
		err := n.share.Lose(ctx, l)
		state, _ := n.membershipNow()
		if err == nil || state.Founded() && !state.Living().Has(n.region.ID) {
			return
		}
		n.cfg.Logger.Warn("not every node of the region knows yet that it has lost something", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
	}
}

// lost stops this node's writes.
func (n *Node) lost(l members.Loss) {
	if n.loss.why.CompareAndSwap(nil, &region.FencedError{Why: l.Why}) {
		n.cfg.Logger.Error("this region has lost some of what it wrote, and stops writing", "peer", l.By, "err", l.Why)
	}
}
