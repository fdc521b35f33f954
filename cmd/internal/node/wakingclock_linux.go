package node

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/invariant"
)

// wakingClock returns a monotonic clock that counts the time during which the machine sleeps, which Go's does not: a node that
// wakes up must not believe in a lease from before. A virtual machine that is stopped from outside counts that time only if
// its hypervisor has it do so.
func wakingClock(fallback hlc.Source) func() time.Duration {
	if _, err := sinceBoot(); err != nil {
		return func() time.Duration { return fallback().Elapsed } // a kernel without it
	}
	return func() time.Duration {
		now, err := sinceBoot()
		invariant.Check(err == nil, "CLOCK_BOOTTIME could be read before: %v", err)
		return now
	}
}

func sinceBoot() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, err
	}
	return time.Duration(now.Nano()), nil
}
