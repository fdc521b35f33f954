package region

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/topology"
)

// What a partition answers besides the errors of its Raft group and of its replica.
var (
	// ErrOverloaded means that the partition has as much work waiting as it may: nothing was done.
	ErrOverloaded = errors.New("the partition has too much work waiting")
	// ErrOpIDReused means that the op_id was used for a different write: nothing was done.
	ErrOpIDReused = errors.New("the op_id was already used for a different write")
	// ErrNoQuorum means that no majority of the partition's replicas confirmed in time that a read may
	// be served.
	ErrNoQuorum = errors.New("no majority of the partition's replicas answers")
	// ErrNotMergeable means that an operation cannot be acknowledged by one node alone, because its
	// outcome depends on what others do: nothing was done.
	ErrNotMergeable = errors.New("the operation needs a quorum")
	// ErrDiskFull means that this node's disk has too little free space for writes: nothing was done.
	ErrDiskFull = errors.New("the node's disk is nearly full")
	// ErrClockUnsafe means that this node's clock cannot be trusted, so that it proposes nothing: nothing was done.
	ErrClockUnsafe = errors.New("this node's clock cannot be trusted")
	// ErrTooManyWatchers means that the partition has as many watchers as it may.
	ErrTooManyWatchers = errors.New("the partition has too many watchers")
	// ErrFeedBehind means that a watcher reads more slowly than changes come.
	ErrFeedBehind = errors.New("the watcher is too far behind")
	// ErrBadCursor means that a cursor was not made by this partition's feed.
	ErrBadCursor = errors.New("the cursor is malformed")
	// ErrBadCommand means that a command is too large, or that a committed entry could not be read as
	// commands: nothing was done.
	ErrBadCommand = errors.New("the command is malformed or too large")
)

// NotLeaderError means that this node does not lead the partition: nothing was done. It matches
// ErrNotLeader.
type NotLeaderError struct {
	// Leader is who leads, as far as this node knows; empty if nobody does.
	Leader topology.NodeID
}

// Error names the leader if there is one.
func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return "the partition has no leader"
	}
	return fmt.Sprintf("node %s leads the partition", e.Leader)
}

// Unwrap makes it match ErrNotLeader.
func (e *NotLeaderError) Unwrap() error { return ErrNotLeader }

// ClockAheadError means that deltas are from too far in the future: nothing was done, and the same call
// succeeds when this node's clock has caught up.
type ClockAheadError struct {
	// Ahead is how far the latest of them is ahead of this node's clock.
	Ahead time.Duration
}

// Error says how far.
func (e *ClockAheadError) Error() string {
	return fmt.Sprintf("the deltas are %v ahead of this node's clock", e.Ahead)
}

// ClockUnsafeError means that this node's clock cannot be trusted: nothing was done. It matches ErrClockUnsafe.
type ClockUnsafeError struct {
	// Drift is how far the clock is ahead of where it should be, as far as that is known; negative if it is behind.
	Drift time.Duration
}

// Error says how far the clock is off.
func (e *ClockUnsafeError) Error() string {
	return fmt.Sprintf("%v: it is off by %v", ErrClockUnsafe, e.Drift.Round(time.Millisecond))
}

// Unwrap makes it match ErrClockUnsafe.
func (e *ClockUnsafeError) Unwrap() error { return ErrClockUnsafe }

// StaleError means that a bounded read cannot be served: this replica's state may be older than the
// bound, and could not be confirmed.
type StaleError struct {
	// Age is how old the state may be, if Known.
	Age   time.Duration
	Known bool
	// Err is why it could not be confirmed.
	Err error
}

// Error says how old the state may be.
func (e *StaleError) Error() string {
	if !e.Known {
		return fmt.Sprintf("the replica does not know how old its state is: %v", e.Err)
	}
	return fmt.Sprintf("the replica's state may be %v old: %v", e.Age.Round(time.Millisecond), e.Err)
}

// Unwrap returns why the state could not be confirmed.
func (e *StaleError) Unwrap() error { return e.Err }
