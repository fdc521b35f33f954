package region

import (
	"context"
	"errors"
	"sync"
)

// barrier proves, for linearizable reads, that this node still leads its group and has applied
// everything that was acknowledged before the read began. One Raft barrier serves all the reads
// that were waiting when it started; reads that come later wait for the next.
//
// It is a log write per round and not the library's VerifyLeader, which counts replies to messages
// sent before the read began, and so can let a deposed leader serve a stale read.
type barrier struct {
	group Group
	work  chan struct{}
	mu    struct {
		sync.Mutex
		next *round // the round that gathers readers
	}
}

type round struct {
	readers int // guarded by barrier.mu
	done    chan struct{}
	err     error // set before done is closed
}

func newBarrier(group Group) *barrier {
	b := &barrier{group: group, work: make(chan struct{}, 1)}
	b.mu.next = &round{done: make(chan struct{})}
	return b
}

// wait returns nil once a round that began after the call has succeeded.
func (b *barrier) wait(ctx context.Context) error {
	b.mu.Lock()
	r := b.mu.next
	r.readers++
	b.mu.Unlock()
	select {
	case b.work <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run runs rounds until ctx ends.
func (b *barrier) Run(ctx context.Context) error {
	defer func() {
		if r := b.begin(); r != nil {
			b.finish(r, ErrShuttingDown)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.work:
			if r := b.begin(); r != nil {
				b.finish(r, b.confirm(ctx))
			}
		}
	}
}

// begin takes the round that has gathered readers, or nil if none has.
func (b *barrier) begin() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.mu.next
	if r.readers == 0 {
		return nil
	}
	b.mu.next = &round{done: make(chan struct{})}
	return r
}

func (b *barrier) finish(r *round, err error) {
	r.err = err
	close(r.done)
}

func (b *barrier) confirm(ctx context.Context) error {
	err := b.group.Barrier(ctx)
	if errors.Is(err, ErrNotLeader) {
		leader, _, _ := b.group.Leader()
		return &NotLeaderError{Leader: leader}
	}
	return err
}
