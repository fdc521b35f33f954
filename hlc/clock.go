package hlc

import (
	"sync"
	"time"
)

// Clock issues instants. It is safe for concurrent use.
type Clock struct {
	wall func() time.Time
	mu   struct {
		sync.Mutex
		last Time
	}
}

// NewClock returns a clock over a wall clock, which may jump either way.
func NewClock(wall func() time.Time) *Clock {
	return &Clock{wall: wall}
}

// Now returns an instant after every one that the clock issued or observed, and at or after the
// wall clock's.
func (c *Clock) Now() Time {
	wall := At(c.wall().UnixMilli(), 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last = max(wall, c.mu.last.Next())
	return c.mu.last
}

// Read returns the latest instant, the wall clock's if that is later, without issuing it: who only judges what is over
// must not take the clock along when the wall clock is wrong.
func (c *Clock) Read() Time {
	wall := At(c.wall().UnixMilli(), 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(wall, c.mu.last)
}

// Wall returns the wall clock's reading.
func (c *Clock) Wall() time.Time { return c.wall() }

// Observe makes every later Now come after t. The caller decides first whether t can be believed:
// an instant far in the future drags the clock there for good.
func (c *Clock) Observe(t Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last = max(c.mu.last, t)
}

// Last returns the latest instant issued or observed.
func (c *Clock) Last() Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.last
}
