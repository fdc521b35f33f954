// Package store keeps one partition's state: an ordered key-value space in one bbolt file, with what
// is not yet in the file in memory.
//
// Updates go into a table in memory (memtable.go) and answer from there; a flush writes the newest
// version of each key into the file, in one synced transaction. So a crash loses the updates since
// the last flush, and only whole ones from the end: whoever needs them brings them back from a log.
// A view reads the table that takes writes, the one that is being flushed, and the file, in this
// order, each as of the instant at which the view began.
//
// A file holds two buckets. One has every key, with a record
//
//	crc32c(key || kind || rest) u32 | kind 0 | value
//	crc32c(key || kind || rest) u32 | kind 1 | length u32 | crc32c u32
//
// where kind 1 refers to a record of kind 0, of that length and checksum, under the same key in the
// other bucket, which has the records from 1 KiB on. Numbers are big endian.
//
// bbolt itself does not notice bit rot. The checksums are tested on every read, and the whole
// file, its page structure included, is checked before it is mapped: bbolt trusts the pages it reads,
// so that a damaged or truncated file would otherwise crash the process (SIGBUS, or a panic in a
// goroutine of the library) or answer "absent" for a key that is there.
//
// Invariants: damage is reported as *CorruptError and never served; after the first failed commit
// nothing is served or written any more (what the page cache holds is unknown then); a view never
// mixes memory with a file that is newer than the view; a file at the store's path is always a whole
// one, because files are made and installed by rename.
//
// The free list is not kept on disk but rebuilt at open, which makes commits cheaper and leaves no
// unchecked page to trust.
package store
