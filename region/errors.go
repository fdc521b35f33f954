package region

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/topology"
)

// What a partition answers besides the errors of its Raft group and of its replica.
var (
	// ErrOverloaded means that the partition has as much work waiting as it may: nothing was done.
	ErrOverloaded = errors.New("the partition has too much work waiting")
	// ErrOpIDReused means that the op_id was used for a different write: nothing was done.
	ErrOpIDReused = errors.New("the op_id was already used for a different write")
	// ErrClockAhead means that deltas carry a clock too far in the future: nothing was done, and the
	// same call succeeds when this node's clock has caught up.
	ErrClockAhead = errors.New("the deltas' clock is too far ahead of this node's")
	// ErrBadCommand means that a committed entry could not be read as commands: nothing was done.
	ErrBadCommand = errors.New("the command is malformed")
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
