// Package protocol is what regions say to each other and when, as step functions without goroutines, clock,
// chance or I/O: whoever drives them tells what happened and asks what to do next. The loops of package
// crossregion drive them with real regions, simulations with made-up ones.
//
//   - Shipper moves a partition's outbox into its region's stream.
//   - Receiver takes another region's deltas from the stream, finds what is missing, and has it fetched.
//   - Reporter and Acker carry watermarks back.
//
// record.go has what they exchange with their region. frame.go, envelope.go, messages.go and packer.go are the
// wire format; tuning.go has all bounds and intervals.
//
// A step function belongs to one goroutine at a time. Times given to one must not go back.
package protocol
