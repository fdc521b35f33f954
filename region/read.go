package region

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
)

// Level is what a read promises.
type Level uint8

const (
	// Linearizable reads reflect every write acknowledged in this region before they began.
	Linearizable Level = iota
	// Bounded reads reflect every write acknowledged in this region up to some time before they began.
	Bounded
	// Eventual reads reflect whatever this replica has applied.
	Eventual
	// Confirmed reads promise what Linearizable ones do, and left to themselves are proved by any replica in
	// whichever way it can.
	Confirmed
)

// Strategy is how a linearizable or bounded read is proved to keep its promise.
type Strategy uint8

const (
	// StrategyAuto is StrategyLeader for linearizable reads. Bounded reads ask whoever answers, the
	// leader first.
	StrategyAuto Strategy = iota
	// StrategyLeader has the leader prove that it still leads. Only the leader serves.
	StrategyLeader
	// StrategyFollower has any replica ask the leader how far it has to be, and wait until it is.
	StrategyFollower
	// StrategyMajority has any replica ask a majority how far it has to be, and wait until it is. It
	// needs no leader, but waits for one if an entry is in doubt.
	StrategyMajority
)

// ReadOptions say what a read must promise. The zero value is a linearizable read at the leader.
type ReadOptions struct {
	Level    Level
	Strategy Strategy
	// MaxStaleness is the bound of Bounded.
	MaxStaleness time.Duration
}

// ReadInfo says what an answer promises.
type ReadInfo struct {
	Served   Level
	Strategy Strategy
	// Staleness is how old the answer may be, if Known. A linearizable one's is 0.
	Staleness time.Duration
	Known     bool
}

// Read calls fn with a read-only view that keeps the promise asked for, and with the hybrid logical
// clock by which expiry is judged. fn must not keep the replica.
//
// Errors: *NotLeaderError where the leader is asked for, ErrNoQuorum, ErrShuttingDown, *StaleError of
// bounded reads, ctx's own, and fn's.
func (p *Partition) Read(
	ctx context.Context, o ReadOptions, fn func(r *replica.Replica, now hlc.Time) error,
) (ReadInfo, error) {
	info, err := p.prepare(ctx, o)
	if err != nil {
		return ReadInfo{}, err
	}
	return info, p.machine.Read(func(r *replica.Replica) error {
		return fn(r, max(p.clock.Read(), r.LastHLC()))
	})
}

// prepare makes the promise.
func (p *Partition) prepare(ctx context.Context, o ReadOptions) (ReadInfo, error) {
	info := ReadInfo{Served: o.Level, Strategy: o.Strategy, Known: true}
	switch o.Level {
	case Linearizable:
		if o.Strategy == StrategyAuto {
			info.Strategy = StrategyLeader
		}
		return info, p.confirmer.now(ctx, o.Strategy)
	case Bounded:
		return p.bound(ctx, o)
	case Confirmed:
		var err error
		info.Strategy, _, err = p.confirm(ctx, o.Strategy)
		return info, err
	default:
		info.Strategy = StrategyAuto
		info.Staleness, info.Known = p.confirmer.age()
		return info, nil
	}
}

// bound serves from what is known of the replica's age, and asks if that is too old.
func (p *Partition) bound(ctx context.Context, o ReadOptions) (ReadInfo, error) {
	info := ReadInfo{Served: Bounded, Strategy: o.Strategy, Known: true}
	if age, known := p.confirmer.age(); known && age <= o.MaxStaleness {
		info.Staleness = age
		return info, nil
	}
	var err error
	if info.Strategy, info.Staleness, err = p.confirm(ctx, o.Strategy); err == nil {
		return info, nil
	}
	age, known := p.confirmer.age()
	return ReadInfo{}, &StaleError{Age: age, Known: known, Err: err}
}

// confirm has the replica proved to be recent enough, as asked for or in whichever way is possible. It
// returns how it was, and how long that took.
func (p *Partition) confirm(ctx context.Context, s Strategy) (Strategy, time.Duration, error) {
	order := []Strategy{s}
	if s == StrategyAuto {
		order = []Strategy{StrategyFollower, StrategyMajority}
		if leading, _ := p.group.Leadership(); leading {
			order[0] = StrategyLeader
		}
	}
	var err error
	for _, s = range order {
		began := p.wall()
		if err = p.confirmer.now(ctx, s); err == nil {
			return s, max(0, p.wall().Sub(began)), nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return s, 0, err
}
