package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/topology"
)

// membershipNow returns what this node knows of the membership, and what tells of a change. Without a vote in the
// configuration nothing is ever decided.
func (n *Node) membershipNow() (*membership.State, <-chan struct{}) {
	if n.share == nil {
		return &membership.State{}, nil
	}
	return n.share.Current()
}

// givenUp reports whether a region takes no part any more: what it sends is refused.
func (n *Node) givenUp(id topology.RegionID) bool {
	s, _ := n.membershipNow()
	return s.GivenUp(id)
}

// replicate exchanges deltas with the regions that there are, under the epochs that they have, until ctx ends. A
// replicator is made for a set of actors: it has no part in what is said under others. When the set changes, it ends, and
// another one begins; what partitions have merged by then says where.
func (n *Node) replicate(ctx context.Context) error {
	for ctx.Err() == nil {
		state, changed := n.membershipNow()
		if !n.takesPart(state) {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		if err := n.replicateAs(ctx, n.peers(state)); err != nil {
			return err
		}
	}
	return nil
}

// replicateAs replicates with peers as long as there are no others.
func (n *Node) replicateAs(ctx context.Context, peers []crossregion.RemoteRegion) error {
	cfg := *n.replication
	cfg.Regions = peers
	replicator, err := crossregion.New(cfg)
	if err != nil {
		return fmt.Errorf("replicate with other regions: %w", err)
	}
	n.cfg.Logger.Info("replicating with other regions", "regions", fmt.Sprint(peers))
	n.replicator.Store(replicator)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- replicator.Run(ctx) }()
	for {
		state, changed := n.membershipNow()
		if !n.takesPart(state) || !slices.Equal(n.peers(state), peers) {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		}
		break
	}
	cancel()
	n.replicator.Store(nil)
	return <-ended
}

// takesPart reports whether this region exchanges anything with others.
func (n *Node) takesPart(s *membership.State) bool {
	if !s.Founded() {
		return !n.region.Joins
	}
	return s.TakesPart(n.region.ID, n.region.Epoch)
}

// peers returns the regions to exchange deltas with, under their present epochs: those that take part, and those that
// were given up and that others may still lack something of.
func (n *Node) peers(s *membership.State) []crossregion.RemoteRegion {
	var peers []crossregion.RemoteRegion
	for _, r := range n.others() {
		epoch, known := s.Peer(r.ID)
		switch {
		case !s.Founded() && !r.Joins:
			epoch = r.Epoch
		case !known:
			continue
		}
		peers = append(peers, crossregion.RemoteRegion{ID: r.ID, Name: r.Name, Actor: topology.Actor(r.ID, epoch)})
	}
	return peers
}
