package raftlog

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound means that the group has no such entry or key.
	ErrNotFound = errors.New("not in the log")
	// ErrClosed means that the log was closed.
	ErrClosed = errors.New("the log is closed")
	// ErrFailed wraps the first failure of the disk: the log refuses everything after it.
	ErrFailed = errors.New("the log stopped after a disk failure")
	// ErrStalled is the cause in ErrFailed when the disk did not answer in time.
	ErrStalled = errors.New("the disk does not answer")
	// ErrGap means that an append or a deletion would leave a hole in a group's log.
	ErrGap = errors.New("the operation would leave a gap in the log")
	// ErrNotDurable means that a deletion would remove entries that the state machine still needs,
	// or truncate entries that it has applied.
	ErrNotDurable = errors.New("the state machine's file does not allow deleting these entries")
	// ErrDropped means that the group was dropped; Log.Group begins a new one.
	ErrDropped = errors.New("the group was dropped")
	// ErrTooLarge means that an entry is over MaxEntryBytes.
	ErrTooLarge = errors.New("entry too large")
)

// CorruptError says that the log is damaged. Nothing of the damaged part was served.
type CorruptError struct {
	// Dir is the log's directory.
	Dir string
	// Detail says what is wrong.
	Detail string
	// Err is the cause, if there is one.
	Err error
}

// Error describes the damage.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt log %s: %s", e.Dir, e.Detail)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }
