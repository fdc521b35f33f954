package raftgroup

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/topology"
)

// readyRetry is how long a new leader waits after Raft was too busy to take its barrier.
const readyRetry = 50 * time.Millisecond

// watchLeadership notes when this node begins to lead and when it ends. Raft's word for the beginning
// is too early: entries that earlier leaders committed may not be applied yet. A barrier of the new
// term is behind all of them.
func (g *Group) watchLeadership(ctx context.Context) {
	stop := func() {}
	defer func() { stop(); g.setReady(0) }()
	var ready chan uint64
	for {
		select {
		case <-ctx.Done():
			return
		case leading := <-g.notify:
			stop()
			g.setReady(0)
			ready, stop = nil, func() {}
			if leading {
				ready, stop = g.prepare(ctx)
			}
		case term := <-ready:
			g.setReady(term)
		}
	}
}

// prepare commits a barrier in the background, and then sends its term. stop ends that, and waits.
func (g *Group) prepare(ctx context.Context) (ready chan uint64, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan uint64, 1), make(chan struct{})
	go func() {
		defer close(ended)
		if term, ok := g.commitBarrier(ctx); ok {
			ready <- term
		}
	}()
	return ready, func() { cancel(); <-ended }
}

// commitBarrier returns the term in which a barrier was committed and reached, unless this node ceases
// to lead.
func (g *Group) commitBarrier(ctx context.Context) (term uint64, ok bool) {
	for {
		term = g.raft().CurrentTerm()
		err := g.await(ctx, func(r *raft.Raft) error { return r.Barrier(enqueueTimeout).Error() })
		switch {
		case g.fsm.failed.Load():
			return 0, false // Raft counts as applied what the state machine could not apply
		case err == nil && g.leads(term):
			return term, true
		case err != nil && !errors.Is(err, raft.ErrEnqueueTimeout) && !errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return 0, false
		}
		if !pause(ctx, readyRetry) {
			return 0, false
		}
	}
}

// leads reports whether this node leads in the given term, as far as it knows.
func (g *Group) leads(term uint64) bool {
	return g.raft().State() == raft.Leader && g.raft().CurrentTerm() == term
}

// pause returns false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// setReady notes in which term this node leads; 0 if it does not.
func (g *Group) setReady(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.ready != term {
		g.mu.ready = term
		close(g.mu.changed)
		g.mu.changed = make(chan struct{})
	}
}

// ready returns the term in which this node leads, 0 if it does not, and a channel that is closed at
// the next change.
func (g *Group) ready() (term uint64, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.ready, g.mu.changed
}

// Leadership returns whether this node leads and has applied everything that earlier leaders
// committed, and a channel that is closed at the next change.
func (g *Group) Leadership() (leading bool, changed <-chan struct{}) {
	term, changed := g.ready()
	return term != 0, changed
}

// Leader returns who leads, in which term, as far as this node knows.
func (g *Group) Leader() (leader topology.NodeID, term uint64, known bool) {
	address, _ := g.raft().LeaderWithID()
	return topology.NodeID(address), g.raft().CurrentTerm(), address != ""
}
