package region

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// rounds has one kind of proof serve many reads: a round serves all reads that were waiting when it
// began, and reads that come later wait for the next.
//
// What proves is up to the group. The library's VerifyLeader is not among it: it counts replies to
// messages sent before the read began, and so lets a deposed leader serve a stale read.
type rounds struct {
	prove func(context.Context) error
	work  chan struct{}
	mu    struct {
		sync.Mutex
		next *round // the round that gathers readers
	}
}

type round struct {
	readers int // guarded by rounds.mu
	done    chan struct{}
	err     error // set before done is closed
}

func newRounds(prove func(context.Context) error) *rounds {
	r := &rounds{prove: prove, work: make(chan struct{}, 1)}
	r.mu.next = &round{done: make(chan struct{})}
	return r
}

// wait returns nil once a round that began after the call has succeeded.
func (r *rounds) wait(ctx context.Context) error {
	r.mu.Lock()
	mine := r.mu.next
	mine.readers++
	r.mu.Unlock()
	select {
	case r.work <- struct{}{}:
	default:
	}
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run runs rounds until ctx ends.
func (r *rounds) Run(ctx context.Context) error {
	defer func() {
		if last := r.begin(); last != nil {
			last.finish(ErrShuttingDown)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.work:
			if now := r.begin(); now != nil {
				now.finish(r.prove(ctx))
			}
		}
	}
}

// begin takes the round that has gathered readers, or nil if none has.
func (r *rounds) begin() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.mu.next
	if now.readers == 0 {
		return nil
	}
	r.mu.next = &round{done: make(chan struct{})}
	return now
}

func (r *round) finish(err error) {
	r.err = err
	close(r.done)
}

// confirmer proves that this replica's state is recent enough to be read, in one of three ways, and
// remembers when it last was.
type confirmer struct {
	group                      Group
	wall                       func() time.Time
	leader, follower, majority *rounds
	// asOf is an instant at which nothing had been acknowledged that this replica lacks; nil if none
	// is known.
	asOf atomic.Pointer[time.Time]
}

func newConfirmer(group Group, wall func() time.Time) *confirmer {
	c := &confirmer{group: group, wall: wall}
	c.leader = newRounds(c.timed(group.ConfirmLeader))
	c.follower = newRounds(c.timed(group.ConfirmFollower))
	c.majority = newRounds(c.timed(group.ConfirmMajority))
	return c
}

// timed notes what a proof says of the replica's age: it holds for the instant it began.
func (c *confirmer) timed(prove func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		began := c.wall()
		err := prove(ctx)
		if err == nil {
			c.confirmed(began)
		}
		if errors.Is(err, ErrNotLeader) {
			leader, _, _ := c.group.Leader()
			return &NotLeaderError{Leader: leader}
		}
		return err
	}
}

func (c *confirmer) confirmed(at time.Time) {
	for {
		old := c.asOf.Load()
		if old != nil && !at.After(*old) || c.asOf.CompareAndSwap(old, &at) {
			return
		}
	}
}

// age returns how old the replica's state may be, and whether that is known.
func (c *confirmer) age() (time.Duration, bool) {
	at := c.asOf.Load()
	if at == nil {
		return 0, false
	}
	return max(0, c.wall().Sub(*at)), true
}

// now returns nil once a proof that began after the call has succeeded. Automatic is the leader's.
func (c *confirmer) now(ctx context.Context, s Strategy) error {
	switch s {
	case StrategyFollower:
		return c.follower.wait(ctx)
	case StrategyMajority:
		return c.majority.wait(ctx)
	default:
		if leading, _ := c.group.Leadership(); !leading {
			leader, _, _ := c.group.Leader()
			return &NotLeaderError{Leader: leader}
		}
		return c.leader.wait(ctx)
	}
}
