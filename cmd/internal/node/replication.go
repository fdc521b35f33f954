package node

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// replication gives cross-region replication its two ends: the outboxes it ships from, and the
// partitions it merges into. Partitions that this node does not hold are led by others.
type replication struct {
	node  *region.Node
	never chan struct{} // never closed: the leadership of those partitions does not change here
}

func newReplication(node *region.Node) *replication {
	return &replication{node: node, never: make(chan struct{})}
}

// Leadership implements crossregion.Source and crossregion.Sink.
func (r *replication) Leadership(p topology.PartitionID) (bool, <-chan struct{}) {
	partition, err := r.node.Partition(p)
	if err != nil {
		return false, r.never
	}
	return partition.Leadership()
}

// Outbox implements crossregion.Source.
func (r *replication) Outbox(p topology.PartitionID) (protocol.OutboxState, <-chan struct{}) {
	partition, err := r.node.Partition(p)
	if err != nil {
		return protocol.OutboxState{First: 1}, r.never
	}
	state, changed := partition.Outbox()
	return protocol.OutboxState(state), changed
}

// ReadOutbox implements crossregion.Source.
func (r *replication) ReadOutbox(p topology.PartitionID, from uint64, maxBytes int) ([]protocol.Record, error) {
	partition, err := r.node.Partition(p)
	if err != nil {
		return nil, err
	}
	return partitions.ReadOutbox(partition, from, maxBytes)
}

// Acknowledge implements crossregion.Source.
func (r *replication) Acknowledge(ctx context.Context, p topology.PartitionID, marks []protocol.Watermark) error {
	partition, err := r.node.Partition(p)
	if err != nil {
		return err
	}
	return partition.Acknowledge(ctx, partitions.Watermarks(marks))
}

// State implements crossregion.State.
func (r *replication) State(p topology.PartitionID) (crdt.VersionVector, hlc.Time) {
	partition, err := r.node.Partition(p)
	if err != nil {
		return crdt.VersionVector{}, 0
	}
	view := partition.View()
	return view.Vector, view.HLC
}

// Digest implements crossregion.State. It reads whatever this replica has applied: equal vectors have equal digests.
func (r *replication) Digest(ctx context.Context, p topology.PartitionID) (d protocol.Digest, err error) {
	partition, err := r.node.Partition(p)
	if err != nil {
		return d, err
	}
	_, err = partition.Read(ctx, region.ReadOptions{Level: region.Eventual}, func(rep *replica.Replica, _ hlc.Time) error {
		if rep.Resyncing() {
			return nil // the values are not those of one vector
		}
		sum, err := rep.Digest()
		d = protocol.Digest{Vector: rep.Vector(), Sum: sum.Sum}
		return err
	})
	return d, err
}

// Made implements crossregion.State.
func (r *replication) Made(p topology.PartitionID, seq uint64) (time.Time, error) {
	records, err := r.ReadOutbox(p, seq, 1)
	if err != nil {
		return time.Time{}, err
	}
	if len(records) == 0 {
		return time.Time{}, protocol.ErrTrimmed
	}
	delta, err := replica.DecodeDelta(records[0].Data)
	return delta.Time.Wall(), err
}

// Applied implements crossregion.Sink.
func (r *replication) Applied(p topology.PartitionID, actor crdt.Actor) uint64 {
	partition, err := r.node.Partition(p)
	if err != nil {
		return 0
	}
	return partition.View().Vector.Get(actor)
}

// Merge implements crossregion.Sink.
func (r *replication) Merge(
	ctx context.Context, p topology.PartitionID, actor crdt.Actor, records []protocol.Record,
) (uint64, error) {
	partition, err := r.node.Partition(p)
	if err != nil {
		return 0, err
	}
	applied, err := partition.Merge(ctx, actor, partitions.Deltas(records))
	return applied, partitions.MergeError(err)
}
