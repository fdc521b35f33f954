// Package raftgroup runs partitions' state machines under hashicorp/raft, one group each. It is the
// only package that imports that library.
//
// The library's parts are replaced by ours where they would not do: the log of all groups is one
// (logstore.go over package raftlog), the connections of all groups share one listener (stream.go over
// package transport), and the state machine's own file is its snapshot (snapshots.go). The library's
// pipelining, log cache, replay of committed entries and leader verification are not used, because
// each of them stalls, deadlocks or lies in some case.
//
// Ref: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); pre-vote is
// §9.6 of Ongaro, "Consensus: Bridging Theory and Practice" (2014).
package raftgroup
