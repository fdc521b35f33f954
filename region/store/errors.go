package store

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked means that another process holds the file.
	ErrLocked = errors.New("the store's file is locked by another process")
	// ErrFailed wraps the cause of a failed commit: the store refuses everything after it.
	ErrFailed = errors.New("the store stopped after a failed commit")
	// ErrTooLarge means that a key or value is over the store's bounds.
	ErrTooLarge = errors.New("key or value too large for the store")
)

// CorruptError says that a file is damaged. Nothing of the damaged part was served.
type CorruptError struct {
	// Path is the damaged file.
	Path string
	// Detail says what is wrong, without any user data.
	Detail string
}

// Error describes the damage.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt store file %s: %s", e.Path, e.Detail)
}
