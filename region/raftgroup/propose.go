package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
)

// Propose has data committed and applied by this node's state machine; nil says that it is.
// region.ErrNotLeader, region.ErrOverloaded and region.ErrShuttingDown mean that nothing was done;
// region.ErrOutcomeUnknown that it may be, or may yet be. It returns soon after ctx ends, or Run.
func (g *Group) Propose(ctx context.Context, data []byte) error {
	if ctx.Err() != nil {
		return region.ErrShuttingDown
	}
	answered := make(chan error, 1)
	g.ProposeAsync(data, func(err error) { answered <- err })
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, ctx.Err())
	}
}

// ProposeAsync is Propose without the waiting: done gets what Propose would return, once, perhaps
// before ProposeAsync returns. It must not block. Calls that follow each other are committed in their
// order, if they are.
func (g *Group) ProposeAsync(data []byte, done func(error)) {
	i := g.current.Load()
	switch {
	case g.stopped():
		done(region.ErrShuttingDown)
		return
	case i.raft.State() != raft.Leader:
		done(region.ErrNotLeader)
		return
	}
	p := &proposal{done: done}
	if !i.flying.add(p) {
		done(region.ErrShuttingDown)
		return
	}
	future := i.raft.Apply(data, enqueueTimeout)
	go func() {
		err := future.Error()
		if err == nil {
			err, _ = future.Response().(error)
		}
		if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			g.dog.refused()
		}
		i.flying.remove(p)
		p.finish(err)
	}()
}

// proposal is one entry on its way.
type proposal struct {
	once sync.Once
	done func(error)
}

// finish answers, unless that was done.
func (p *proposal) finish(err error) {
	p.once.Do(func() { p.done(outcome(err)) })
}

// outcome says what the library's answer means to who proposed.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return region.ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return region.ErrOverloaded
	default: // leadership lost, shut down, storage failed: the entry may be in the log
		return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, err)
	}
}

// proposals are an instance's proposals that are on their way. The library never answers those that
// were enqueued when it shut down; the goroutines that wait for these are left behind then.
type proposals struct {
	mu     sync.Mutex
	set    map[*proposal]struct{}
	closed bool
}

func (f *proposals) add(p *proposal) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	if f.set == nil {
		f.set = map[*proposal]struct{}{}
	}
	f.set[p] = struct{}{}
	return true
}

func (f *proposals) remove(p *proposal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.set, p)
}

// end answers all that the library has not.
func (f *proposals) end() {
	f.mu.Lock()
	f.closed = true
	left := f.set
	f.set = nil
	f.mu.Unlock()
	for p := range left {
		p.finish(raft.ErrRaftShutdown)
	}
}
