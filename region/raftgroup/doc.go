// Package raftgroup runs partitions' state machines under hashicorp/raft, one group each. It is the
// only package that imports that library.
//
// The library's parts are replaced by ours where they would not do: the log of all groups is one
// (logstore.go over package raftlog), the messages of all groups share a few connections between two
// nodes (network.go and codec.go over package transport), requests go in a pipeline that cannot wedge
// (pipeline.go), and the state machine's own file is its snapshot (snapshots.go). The library's own
// pipelining, log cache, replay of committed entries and leader verification are not used, because
// each of them stalls, deadlocks or lies in some case.
//
// Linearizable reads are proved by asking (confirm.go, confirmserve.go): a majority's terms, asked for
// after the read came, say that a leader was still one. A leader is ready when a barrier of its term is
// applied (leadership.go), hands over when it ends, and the library is started anew where it stays stuck
// (watchdog.go, instance.go). A member with a damaged state fetches another's before it opens (fetch.go);
// one with a damaged log comes back as another member (incarnation.go, join.go).
//
// Ref: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014); pre-vote is
// §9.6 of Ongaro, "Consensus: Bridging Theory and Practice" (2014).
package raftgroup
