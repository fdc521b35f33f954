// Package drift tells whether a node's clock can be trusted: it compares it with those of the region's other nodes, and
// with its own monotonic clock.
//
// Each node asks each other one for its time, once a second, and knows the offset to within half of the round trip. A
// node that disagrees with so many that it is not with a majority of those it could ask, itself included, is unsafe:
// it must not propose until it agrees again. Nor must one whose wall clock has jumped forward, until a majority
// confirms the new time or the clock has come back. Offsets are compared with a bound from above and a lower one from
// below, so that a verdict does not flap.
//
// judge.go decides, without I/O; monitor.go asks; wire.go has the messages.
//
// Ref: Mills, "Network Time Protocol Version 4", RFC 5905 (2010), section 8.
package drift
