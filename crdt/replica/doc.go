// Package replica is one region's CRDT replica of one partition.
package replica
