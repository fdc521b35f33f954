//go:build !verifyleader

package raftgroup

import (
	"context"

	"github.com/hashicorp/raft"
)

// proveLeadership returns nil if this node led the group in term at an instant after the call began.
func (g *Group) proveLeadership(ctx context.Context, term uint64, servers []raft.Server) error {
	return g.askTerms(ctx, term, servers)
}
