// Package partitions says what a region's partitions answer in the terms of replication between regions, and back: it turns
// outboxes, merges and state transfers of package region into those of crossregion/protocol, and errors of the one into
// those of the other.
//
// It decides nothing and keeps nothing, so that the program, whose partitions propose through Raft, and the simulated world,
// which commits commands itself, run the same code. It is the one package that knows both sides.
//
//   - outbox.go: what is read, folded and acknowledged of outboxes, and why a merge is refused
//   - transfer.go: how far a transfer is, which ranges are the same, and why a step is refused
//   - view.go: what is read of a view of the state
//   - audit.go: what a view of the state has not the same as another region's
//   - facts.go: what a partition must know of the membership of regions
package partitions
