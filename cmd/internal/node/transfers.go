package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
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
	return transferOf(partition), partition.View().Resyncing()
}

// Lacks implements crossregion.Transfers.
func (t transfers) Lacks(p topology.PartitionID) bool {
	partition, err := t.node.Partition(p)
	if err != nil {
		return false
	}
	view := partition.View()
	return view.Facts.Lacks(view.Vector)
}

func transferOf(p *region.Partition) protocol.Transfer {
	under := p.View().Resync
	if under == nil {
		return protocol.Transfer{}
	}
	donor, _ := topology.ActorRegion(under.Donor)
	return protocol.Transfer{ID: under.ID, Donor: donor, Cursor: replica.EncodePosition(under.Cursor), End: under.Cursor.End}
}

// Same implements crossregion.Transfers.
func (t transfers) Same(p topology.PartitionID, ranges []protocol.StateRange) ([]bool, error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return nil, err
	}
	theirs := make([]replica.RangeFingerprint, len(ranges))
	for i := range ranges {
		if theirs[i], err = fingerprintOf(&ranges[i]); err != nil {
			return nil, err
		}
	}
	differ, err := partition.Differing(theirs)
	same := make([]bool, len(ranges))
	for i := range theirs {
		same[i] = len(differ) == 0 || differ[0].From != theirs[i].From
		if !same[i] {
			differ = differ[1:]
		}
	}
	return same, err
}

func fingerprintOf(r *protocol.StateRange) (f replica.RangeFingerprint, err error) {
	if f.From, err = replica.DecodePosition(r.From); err != nil {
		return f, err
	}
	f.To, err = replica.DecodePosition(r.To)
	f.Digest = replica.Digest{Sum: r.Sum, Items: r.Items}
	return f, err
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
	return transferOf(partition), transferError(err)
}

// transferError sorts what a partition answers to a step.
func transferError(err error) error {
	var bad *replica.BadDeltaError
	var damaged *crdt.DecodeError
	var closed *region.ClosedError
	var ahead *region.ClockAheadError
	as := func(kind error) error { return fmt.Errorf("%w: %w", kind, err) }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, replica.ErrRangeDiffers):
		return as(protocol.ErrRangeDiffers)
	case errors.Is(err, replica.ErrNoResync):
		return as(protocol.ErrNoTransfer)
	case errors.Is(err, replica.ErrResyncNotNeeded):
		return as(protocol.ErrNothingNew)
	case errors.Is(err, replica.ErrTooManyResyncs), errors.Is(err, replica.ErrLostEvents), errors.Is(err, region.ErrBadCommand),
		errors.As(err, &ahead), errors.As(err, &bad), errors.As(err, &damaged), errors.As(err, &closed):
		return as(protocol.ErrTransferRefused)
	}
	return err
}

// OpenView implements crossregion.Transfers.
func (t transfers) OpenView(ctx context.Context, p topology.PartitionID, by topology.RegionID) (uint64, []byte, error) {
	partition, err := t.node.Partition(p)
	if err != nil {
		return 0, nil, err
	}
	evicted := func(e region.Eviction) bool { return e.Region == by }
	if slices.ContainsFunc(partition.View().Evictions, evicted) {
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
	if err = readView(partition, &want, &res); errors.Is(err, region.ErrNoExport) {
		err = protocol.ErrNoView
	}
	return res, err
}

func readView(p *region.Partition, want *protocol.ResyncRequest, res *protocol.ResyncResponse) (err error) {
	switch want.Want {
	case protocol.WantClose:
		return p.CloseExport(want.View)
	case protocol.WantWrites:
		res.Data, res.Next, err = p.ExportWrites(want.View, want.From, want.MaxBytes)
		return err
	}
	from, err := replica.DecodePosition(want.From)
	if err != nil {
		return err
	}
	if want.Want == protocol.WantRanges {
		ranges, err := p.ExportFingerprints(want.View, from, want.Items, want.Ranges)
		for i := range ranges {
			res.Ranges = append(res.Ranges, protocol.StateRange{
				To: replica.EncodePosition(ranges[i].To), Sum: ranges[i].Sum, Items: ranges[i].Items,
			})
		}
		return err
	}
	to, err := replica.DecodePosition(want.To)
	switch {
	case err != nil:
	case want.Want == protocol.WantHidden:
		res.Data, _, err = p.ExportHidden(want.View, from, to, want.MaxBytes)
	default:
		res.Data, _, err = p.ExportChunk(want.View, from, to, want.MaxBytes)
	}
	return err
}
