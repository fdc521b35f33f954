//go:build !linux

package node

import (
	"time"

	"github.com/atolldb/atoll/hlc"
)

// wakingClock returns a monotonic clock. Elsewhere than on Linux it may not count the time during which the machine sleeps: a
// node that has slept may believe in a lease from before until it has asked again.
func wakingClock(source hlc.Source) func() time.Duration {
	return func() time.Duration { return source().Elapsed }
}
