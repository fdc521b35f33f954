package raftgroup

import (
	"context"
	"errors"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
)

// Barrier returns nil once this node has proved, by committing an entry, that it led the group after
// the call began, and has applied all that was committed before.
func (g *Group) Barrier(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case g.stopped():
		return region.ErrShuttingDown
	case g.raft().State() != raft.Leader:
		return region.ErrNotLeader
	}
	err := g.await(ctx, func(r *raft.Raft) error { return r.Barrier(enqueueTimeout).Error() })
	switch {
	case err == nil && g.fsm.failed.Load():
		return region.ErrShuttingDown // Raft counts as applied what the state machine could not apply
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return region.ErrOverloaded
	case errors.Is(err, raft.ErrRaftShutdown):
		return region.ErrShuttingDown
	default:
		return region.ErrNotLeader
	}
}

func (g *Group) stopped() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// await waits for a future of the present instance, or for ctx.
func (g *Group) await(ctx context.Context, wait func(*raft.Raft) error) error {
	err := g.current.Load().await(ctx.Done(), wait)
	if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		g.dog.refused()
	}
	if errors.Is(err, errGivenUp) {
		return ctx.Err()
	}
	return err
}
