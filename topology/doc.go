// Package topology describes a deployment: its regions, their nodes, how the key space is cut into
// partitions, and which nodes hold each of them. It is pure: it opens no file and no socket.
//
// A key belongs to one partition for good: the 64-bit hash space is cut into equal ranges, and their
// number is fixed when a deployment is created (partition.go). Within a region, a partition's
// replicas are chosen by consistent hashing over the region's nodes (placement.go). A region's events
// are named by its actor, the pair of region and epoch (actor.go).
package topology
