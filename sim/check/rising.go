package check

import (
	"fmt"
	"sync/atomic"
)

// Rising watches one key that one writer sets to 1, 2, 3 and so on, while others read it. It is safe
// for concurrent use.
type Rising struct{ begun, acked atomic.Uint64 }

// Begin returns the number to write next.
func (r *Rising) Begin() uint64 { return r.begun.Add(1) }

// Acknowledge says that the write of n was acknowledged.
func (r *Rising) Acknowledge(n uint64) { r.acked.Store(n) }

// Floor returns the last number acknowledged: a read that begins after this call returns must not
// find less.
func (r *Rising) Floor() uint64 { return r.acked.Load() }

// Judge returns what is wrong with a read that found a number and began after Floor returned floor:
// *StaleError, or *PhantomError. An absent key counts as 0.
func (r *Rising) Judge(floor, found uint64) error {
	if found < floor {
		return &StaleError{Floor: floor, Found: found}
	}
	if begun := r.begun.Load(); found > begun {
		return &PhantomError{What: fmt.Sprintf("read %d, and %d is the last that was written", found, begun)}
	}
	return nil
}

// StaleError is a read that is older than what was acknowledged before it began.
type StaleError struct{ Floor, Found uint64 }

func (e *StaleError) Error() string {
	return fmt.Sprintf("a read that began after write %d was acknowledged returned write %d", e.Floor, e.Found)
}

// PhantomError is something that nobody wrote.
type PhantomError struct{ What string }

func (e *PhantomError) Error() string { return e.What }
