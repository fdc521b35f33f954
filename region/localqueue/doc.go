// Package localqueue keeps the LOCAL writes of one node to one partition: acknowledged once they are
// on this node's disk, and brought to the partition's leader afterwards, in order, until it has
// applied them.
//
// A queue is a group of the node's shared log, next to the Raft groups: every entry is one write, its
// term the generation, which rises each time the queue is opened. A write's sequence number is
//
//	generation(24 bits) | index(40 bits)
//
// so numbers rise in the order of the queue, and none is used twice even if damage cost the log its
// last entry. The group's stable state has "queue", a random number that names the queue, and
// "generation".
//
// Invariants: nil from Append promises that the write is synced. Writes are submitted from the head on,
// one submission at a time, and leave the queue only after one that succeeded. So a write may be
// submitted again, always with the same position, and never before the ones ahead of it: whoever applies
// them drops what is at or below the last applied position of the queue.
package localqueue
