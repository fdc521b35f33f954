package region

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/atolldb/atoll/topology"
)

// ErrNotHosted means that this node holds no replica of the partition.
var ErrNotHosted = errors.New("this node holds no replica of the partition")

// Node is the data plane of one node: the partitions that it holds. It is safe for concurrent use.
type Node struct {
	partitions map[topology.PartitionID]*Partition
}

// NewNode returns the data plane that serves partitions.
func NewNode(partitions []*Partition) *Node {
	n := &Node{partitions: make(map[topology.PartitionID]*Partition, len(partitions))}
	for _, p := range partitions {
		n.partitions[p.ID()] = p
	}
	return n
}

// Run serves all partitions until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	flushes := semaphore.NewWeighted(flushesAtOnce)
	for _, p := range n.partitions {
		g.Go(func() error { return p.Run(ctx, flushes) })
	}
	return g.Wait()
}

// Partition returns this node's replica of a partition. The error is ErrNotHosted.
func (n *Node) Partition(id topology.PartitionID) (*Partition, error) {
	p, ok := n.partitions[id]
	if !ok {
		return nil, fmt.Errorf("partition %d: %w", id, ErrNotHosted)
	}
	return p, nil
}
