package partitions

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Transfer returns the state transfer that a partition's state says is under way, the zero value if none is.
func Transfer(p *region.Partition) protocol.Transfer {
	under := p.View().Resync
	if under == nil {
		return protocol.Transfer{}
	}
	donor, _ := topology.ActorRegion(under.Donor)
	return protocol.Transfer{ID: under.ID, Donor: donor, Cursor: replica.EncodePosition(under.Cursor), End: under.Cursor.End}
}

// Same reports which of another region's ranges, in their order, are the same here.
func Same(p *region.Partition, ranges []protocol.StateRange) ([]bool, error) {
	theirs, err := fingerprints(ranges)
	if err != nil {
		return nil, err
	}
	differ, err := p.Differing(theirs)
	return sameRanges(theirs, differ), err
}

// sameRanges reports which ranges are not among those that differ, which are in the same order.
func sameRanges(ranges, differ []replica.RangeFingerprint) []bool {
	same := make([]bool, len(ranges))
	for i := range ranges {
		same[i] = len(differ) == 0 || differ[0].From != ranges[i].From
		if !same[i] {
			differ = differ[1:]
		}
	}
	return same
}

func fingerprints(ranges []protocol.StateRange) ([]replica.RangeFingerprint, error) {
	all := make([]replica.RangeFingerprint, len(ranges))
	for i := range ranges {
		var err error
		if all[i], err = fingerprint(&ranges[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func fingerprint(r *protocol.StateRange) (f replica.RangeFingerprint, err error) {
	if f.From, err = position(r.From); err != nil {
		return f, err
	}
	f.To, err = replica.DecodePosition(r.To)
	f.Digest = replica.Digest{Sum: r.Sum, Items: r.Items}
	return f, err
}

// StepError returns what a partition answered to a step of a transfer as resyncers tell errors apart:
// protocol.ErrRangeDiffers, ErrNoTransfer, ErrNothingNew and ErrTransferRefused, each with its cause, and anything else as
// it is.
func StepError(err error) error {
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
