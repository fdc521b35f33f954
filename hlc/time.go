package hlc

import (
	"fmt"
	"time"
)

const logicalBits = 16

// Time is an instant of the hybrid clock. The zero Time is before all others and means "none".
type Time uint64

// At returns the instant of a wall-clock millisecond since the Unix epoch and a logical count.
// Milliseconds outside of 0 to 1<<48-1 are moved to the nearest bound.
func At(ms int64, logical uint16) Time {
	const maxMillis = 1<<(64-logicalBits) - 1
	return Time(min(max(ms, 0), maxMillis))<<logicalBits | Time(logical)
}

// Millis returns the wall-clock part: milliseconds since the Unix epoch.
func (t Time) Millis() int64 { return int64(t >> logicalBits) }

// Logical returns the count within the millisecond.
func (t Time) Logical() uint16 { return uint16(t) }

// Next returns the instant right after t. The last instant, in the year 10889, is its own next.
func (t Time) Next() Time {
	if t == ^Time(0) {
		return t
	}
	return t + 1
}

// Wall returns the wall-clock part as a time.Time in UTC.
func (t Time) Wall() time.Time { return time.UnixMilli(t.Millis()).UTC() }

// String returns "2026-01-02T03:04:05.678Z/9", where 9 is the logical count.
func (t Time) String() string {
	return fmt.Sprintf("%s/%d", t.Wall().Format("2006-01-02T15:04:05.000Z07:00"), t.Logical())
}
