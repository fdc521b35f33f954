package raftgroup

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/topology"
)

// A leader whose process has ended need not be waited for: its connections end at once, and its
// address refuses new ones. The first of the members left then stands for election without a delay,
// and the next only if that comes to nothing. A machine that falls silent is left to the timeouts.
const (
	goneTimeout    = 200 * time.Millisecond
	goneLook       = 50 * time.Millisecond // a process that ends closes its sockets one by one
	goneLooks      = 10
	candidateDelay = 900 * time.Millisecond // an election takes half a second on a busy machine
)

// watchLeader stands for election when the leader's process has ended.
func (g *Group) watchLeader(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case node := <-g.layer.Lost():
			if g.gone(ctx, node) {
				g.standAgainst(ctx, node)
			}
		}
	}
}

// gone looks for a while whether the leader's process has ended.
func (g *Group) gone(ctx context.Context, node topology.NodeID) bool {
	ticker := time.NewTicker(goneLook)
	defer ticker.Stop()
	for range goneLooks {
		if !g.ledBy(node) {
			return false
		}
		if g.layer.Gone(node, goneTimeout) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return false
}

// ledBy reports whether this node follows the given one.
func (g *Group) ledBy(node topology.NodeID) bool {
	leader, _, known := g.Leader()
	return known && leader == node && g.raft().State() == raft.Follower
}

// standAgainst stands for election in the place of a leader that is gone, when it is this node's turn.
func (g *Group) standAgainst(ctx context.Context, gone topology.NodeID) {
	turn := 0
	for _, m := range g.members {
		if m == g.self {
			break
		}
		if m != gone {
			turn++
		}
	}
	timer := time.NewTimer(time.Duration(turn) * candidateDelay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		if leader, _, _ := g.Leader(); stands(g.raft().State(), leader, gone) {
			g.logger.Info("the leader's process has ended, standing for election", "leader", gone)
			g.trans().timeoutNow(ctx)
		}
	}
}

// stands reports whether a member whose turn has come stands for election: unless it does already, or
// another leader was found. If there is none at all, who stood first has lost, because its log was
// behind the others'.
func stands(state raft.RaftState, leader, gone topology.NodeID) bool {
	return state == raft.Follower && (leader == "" || leader == gone)
}
