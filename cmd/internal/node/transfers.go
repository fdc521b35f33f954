package node

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// transfers gives cross-region replication the states that it moves.
type transfers struct{ node *region.Node }

// Transfer implements crossregion.Transfers.
func (t transfers) Transfer(p topology.PartitionID) (at protocol.Transfer, resyncing bool) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return protocol.Transfer{}, false
	}
	return partitions.Transfer(partition), partition.View().Resyncing()
}

// Lacks implements crossregion.Transfers.
func (t transfers) Lacks(p topology.PartitionID) bool {
	partition, err := t.node.Partition(p)
	if err != nil {
		return false
	}
	view := partition.View()
	return view.Facts.Lacks(view.Vector, view.Ahead)
}

// Same implements crossregion.Transfers.
func (t transfers) Same(p topology.PartitionID, ranges []protocol.StateRange) ([]bool, error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return nil, err
	}
	return partitions.Same(partition, ranges)
}

// Step implements crossregion.Transfers.
func (t transfers) Step(ctx context.Context, p topology.PartitionID, step protocol.TransferStep) (protocol.Transfer, error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return protocol.Transfer{}, err
	}
	switch step.Kind {
	case protocol.StepBegin:
		err = partition.BeginResync(ctx, step.ID, step.Data)
	case protocol.StepChunk:
		_, err = partition.ResyncChunk(ctx, step.ID, step.Data)
	case protocol.StepWrites:
		err = partition.ResyncWrites(ctx, step.ID, step.Data)
	case protocol.StepEnd:
		err = partition.EndResync(ctx, step.ID)
	case protocol.StepAbandon:
		err = partition.AbandonResync(ctx, step.ID)
	default:
		err = fmt.Errorf("step %d of a transfer", step.Kind)
	}
	return partitions.Transfer(partition), partitions.StepError(err)
}

// OpenView implements crossregion.Transfers.
func (t transfers) OpenView(ctx context.Context, p topology.PartitionID, by topology.RegionID) (uint64, []byte, error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return 0, nil, err
	}
	if partitions.Evicted(partition, by) {
		if _, err := partition.Readmit(ctx, by, 0); err != nil { // before the view, which then has all that is not kept
			return 0, nil, err
		}
	}
	return partition.OpenExport()
}

// ReadView implements crossregion.Transfers.
func (t transfers) ReadView(p topology.PartitionID, want protocol.ResyncRequest) (res protocol.ResyncResponse, err error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return res, protocol.ErrNoView
	}
	return partitions.ReadView(partition, want)
}

// PinView implements crossregion.Audits.
func (t transfers) PinView(p topology.PartitionID, by topology.RegionID) (view uint64, at crdt.VersionVector, err error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return 0, at, err
	}
	return partition.OpenAudit(by)
}

// CompareRanges implements crossregion.Audits.
func (t transfers) CompareRanges(p topology.PartitionID, view uint64, ranges []protocol.StateRange) (same []bool, atEnd bool, err error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return nil, false, protocol.ErrNoView
	}
	return partitions.CompareRanges(partition, view, ranges)
}

// CompareItems implements crossregion.Audits.
func (t transfers) CompareItems(p topology.PartitionID, view uint64, w protocol.ItemWindow) ([]protocol.DifferingValue, []byte, error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return nil, nil, protocol.ErrNoView
	}
	return partitions.CompareItems(partition, view, w)
}
