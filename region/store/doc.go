// Package store keeps one partition's state durably: an ordered key-value space in one bbolt file.
//
// A file holds one bucket of keys. Every value is stored as
//
//	crc32c(key || value) (4 bytes, big endian) || value
//
// because bbolt itself does not notice bit rot. The checksum is tested on every read, and the whole
// file, its page structure included, is checked before it is mapped: bbolt trusts the pages it reads,
// so that a damaged or truncated file would otherwise crash the process (SIGBUS, or a panic in a
// goroutine of the library) or answer "absent" for a key that is there.
//
// Invariants: damage is reported as *CorruptError and never served; after the first failed commit
// nothing is served or written any more (what the page cache holds is unknown then); a file at the
// store's path is always a whole one, because files are made and installed by rename.
//
// The free list is not kept on disk but rebuilt at open, which makes commits cheaper and leaves no
// unchecked page to trust.
package store
