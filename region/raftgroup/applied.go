package raftgroup

import (
	"context"
	"time"

	"github.com/atolldb/atoll/region"
)

// appliedLook is how often a wait looks at what is told to nobody: that entries were committed which
// do not reach the state machine.
const appliedLook = 10 * time.Millisecond

// covered reports whether the state has everything up to an entry of the log: the machine is there, or
// the entries between, all committed, mean something to Raft alone.
func (g *Group) covered(index uint64) bool {
	if g.fsm.machine.Position().Index >= index {
		return true
	}
	if g.raft().CommitIndex() < index {
		return false
	}
	last, err := g.logs.lastEffective()
	at := g.fsm.machine.Position().Index
	if err != nil || at >= last {
		return err == nil
	}
	last, err = g.logs.effectiveIn(at+1, index)
	return err == nil && last == 0
}

// awaitApplied waits until covered.
func (g *Group) awaitApplied(ctx context.Context, index uint64) error {
	var look *time.Ticker
	for {
		applied := g.fsm.applied.wait()
		switch {
		case g.fsm.failed.Load(), g.stopped():
			return region.ErrShuttingDown
		case g.covered(index):
			return nil
		}
		if look == nil {
			look = time.NewTicker(appliedLook)
			defer look.Stop()
		}
		select {
		case <-applied:
		case <-look.C:
		case <-g.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
