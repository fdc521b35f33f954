// Package restart holds a test: one partition of three replicas in one process, over real logs, state
// files, Raft and connections, whose nodes are stopped and crashed again and again under writes. In the
// end all replicas must have the same bytes, and counters that add up to what was acknowledged.
//
// A crash leaves on disk what was flushed by then: the state file is copied, the connections end, and
// nothing flushes any more. The log needs no such care, as all that it acknowledged is synced. What a
// crash leaves in the middle of a write to the disk is for the tests of region/raftlog and region/store.
//
// The number of restarts is the flag -restarts.
package restart
