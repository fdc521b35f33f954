// Package crossregion carries each region's deltas to all others, once and in order.
//
// Truth is the partition's outbox at the origin, and how far the destination has applied it through
// its own Raft. What lies between is a hint that may lose, repeat, reorder or forget everything: a
// stream per region that other regions pull (interface Link). The destination finds gaps by the
// contiguous sequence numbers of the deltas and by ticks that name the outbox's end, and fetches
// what is missing from the origin's outbox. Only the watermark it sends back, which says what its own
// Raft has applied, trims the outbox.
//
// The mechanisms are step functions without goroutines, clock or chance, and with the wire format they are
// package protocol. session.go, receiving.go, tick.go and replicator.go are the thin loops around them.
// The rules and what each failure leads to are in DESIGN.md.
package crossregion
