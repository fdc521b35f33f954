// Package raftlog is the node's shared log: the Raft entries and the stable state (terms, votes) of
// every group, in one Pebble instance, so that one fsync serves all groups that write at once.
//
// Keys, numbers big endian, and values:
//
//	'l' group(4) index(8)   crc32c(4) | version(1) | kind(1) | term uvarint | appended varint |
//	                        extensions length uvarint | extensions | data
//	's' group(4) name       crc32c(4) | value
//
// The checksum covers the key and what follows it in the value; appended is in Unix nanoseconds, 0
// for none. A group's entries have no gaps.
//
// Invariants: nil from Append, Set and SetUint64 promises that the write is synced; entries that the
// state machine's file does not hold yet, or holds already, are never deleted from the wrong end
// (see Group.SetDurable); after the first failed write or sync, or a sync that takes longer than
// the stall limit, every call fails, because what the disk holds is unknown then.
//
// The latest entries of all groups stay in memory, see Options.CacheBytes. The witness file beside
// Pebble's vouches for its manifest, see witness.go.
//
// What is not detected: a flipped bit in the last synced record, and now and then in the one before,
// reads as a write torn by a crash. In every earlier record it is damage, because later records commit
// to what was synced: each carries the offset up to which the log was, as of the sync before its own or
// the one before that.
package raftlog
