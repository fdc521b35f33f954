// Package region is one region's data plane: the partitions that a node holds, each a replicated
// state machine behind a Raft group, with their writes, reads and outboxes.
package region
