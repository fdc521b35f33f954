package node

import (
	"context"
	"errors"

	"github.com/atolldb/atoll/cmd/internal/members"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// DeclaredDead are regions that an operator knows to be dead, where no majority can say so.
type DeclaredDead struct {
	Regions membership.RegionSet
	Note    string
}

// errNoVote means that this node has no vote, so that nothing can be declared with it.
var errNoVote = errors.New("only a region's first node, with an address in membership, can declare other regions dead")

// errNotJoined means that this node does not know yet that its region was taken in.
var errNotJoined = errors.New("this region has not heard from the others that it may join; add it there (atoll region add, or " +
	"atoll region rejoin), and see that its nodes reach theirs")

// openMembership opens the region's vote on which regions there are, on its first node, and what spreads
// the membership over the region. A deployment without addresses for that has the regions of its
// configuration.
func (n *Node) openMembership(context.Context) error {
	votes := n.region.Membership != "" && n.region.Nodes[0].ID == n.cfg.Node
	if n.cfg.Dead.Regions != 0 && !votes {
		return errNoVote
	}
	if n.region.Membership == "" {
		return nil
	}
	if votes {
		addresses := map[topology.RegionID]string{}
		for _, r := range n.cfg.Cluster.Regions {
			addresses[r.ID] = r.Membership
		}
		var err error
		n.voter, err = members.Open(members.Config{
			Cluster: n.cfg.Cluster, Self: n.region, Addresses: addresses, Log: n.log, Incarnation: n.incarnation,
			Dir: n.dir.path, Temp: n.dir.file("tmp"), Logger: n.cfg.Logger, OnFailure: n.fail,
			Alone: n.cfg.Dead.Regions, Note: n.cfg.Dead.Note,
		})
		if err != nil {
			return err
		}
	}
	var err error
	n.share, err = members.OpenShare(members.ShareConfig{
		Cluster: n.cfg.Cluster, Region: n.region, Self: n.cfg.Node, Host: n.voter, Layer: n.mux.Group(members.Group),
		Partitions: members.Of(n.data, n.cfg.Cluster.Partitions), Dir: n.dir.path, Logger: n.cfg.Logger,
		OnLoss: n.lost,
	})
	if err != nil {
		return err
	}
	n.judge()
	n.openLeases()
	return nil
}

// membershipPlane takes part in deciding which regions there are until ctx ends.
func (n *Node) membershipPlane() []func(context.Context) error {
	var loops []func(context.Context) error
	if n.voter != nil {
		loops = append(loops, n.voter.Run)
	}
	if n.share != nil {
		loops = append(loops, n.share.Run, n.leases.Run, n.followMembership)
	}
	return loops
}

// followMembership keeps up with whether this region may write.
func (n *Node) followMembership(ctx context.Context) error {
	for {
		_, changed := n.membershipNow()
		n.judge()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// judge finds out whether this region may write. What partitions know of the membership stops them, too, but a region that
// has not heard of any membership must not write before it has, if it was not there from the beginning.
func (n *Node) judge() {
	if n.loss.why.Load() != nil {
		return // for good
	}
	state, _ := n.membershipNow()
	err := state.MayWrite(n.region.ID, n.region.Epoch)
	if !state.Founded() && n.region.Joins {
		err = errNotJoined
	}
	if err == nil {
		n.muted.Store(nil)
		return
	}
	before := n.muted.Swap(&region.FencedError{Why: err.Error()})
	if before == nil || before.Why != err.Error() {
		n.cfg.Logger.Warn("this region takes no writes", "err", err)
	}
}

// mayWrite is region.PartitionConfig.Fenced.
func (n *Node) mayWrite() error {
	if why := n.loss.why.Load(); why != nil {
		return why
	}
	if why := n.muted.Load(); why != nil {
		return why
	}
	return nil
}

// Membership returns which regions there are, as far as this node knows: a view for whoever follows it.
// Without a vote in the configuration it is nil.
func (n *Node) Membership() membership.View {
	if n.share == nil {
		return nil
	}
	return n.share
}

func (n *Node) closeMembership() error {
	if n.voter == nil {
		return nil
	}
	return n.voter.Close()
}
