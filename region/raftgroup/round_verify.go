//go:build verifyleader

package raftgroup

import (
	"context"

	"github.com/hashicorp/raft"
)

// proveLeadership asks the library, which counts answers to messages that were sent before the call: a
// leader that was paused and deposed gets a proof. Nothing is ever served with this; the tests are
// built with it to see that they notice.
func (g *Group) proveLeadership(ctx context.Context, _ uint64, _ []raft.Server) error {
	return g.await(ctx, func(r *raft.Raft) error { return r.VerifyLeader().Error() })
}
