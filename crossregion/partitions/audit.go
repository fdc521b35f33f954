package partitions

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
)

// errOrder means that what another region has sent does not go forward: to compare it might never end.
var errOrder = errors.New("positions are not in order")

// CompareRanges reports which of another region's ranges, in their order, are the same in a view that was opened to be
// compared, and whether the last one ends where the state does. Error: protocol.ErrNoView.
func CompareRanges(p *region.Partition, view uint64, ranges []protocol.StateRange) (equal []bool, atEnd bool, err error) {
	theirs, err := fingerprints(ranges)
	if err != nil {
		return nil, false, err
	}
	if atEnd, err = forward(theirs); err != nil {
		return nil, false, err
	}
	differ, err := p.ExportDiffering(view, theirs)
	if err != nil {
		return nil, false, viewError(err)
	}
	return sameRanges(theirs, differ), atEnd, nil
}

// forward reports whether the last of some ranges ends where states do, and refuses any that does not go forward.
func forward(ranges []replica.RangeFingerprint) (atEnd bool, err error) {
	for i := range ranges {
		if ranges[i].From.Compare(ranges[i].To) >= 0 {
			return false, fmt.Errorf("range %d: %w", i, errOrder)
		}
		atEnd = ranges[i].To.End
	}
	return atEnd, nil
}

// CompareItems returns the values of which a view, opened to be compared, has not the same items as another region, and
// up to where that is known. Error: protocol.ErrNoView.
func CompareItems(p *region.Partition, view uint64, w protocol.ItemWindow) (differ []protocol.DifferingValue, next []byte, err error) {
	from, err := position(w.From)
	if err != nil {
		return nil, nil, err
	}
	to, err := replica.DecodePosition(w.To)
	if err != nil {
		return nil, nil, err
	}
	theirs := make([]replica.Item, len(w.Items))
	for i := range w.Items {
		if theirs[i].Position, err = replica.DecodePosition(w.Items[i].Position); err != nil {
			return nil, nil, err
		}
		theirs[i].Hash = w.Items[i].Hash
		at := theirs[i].Position
		if at.Compare(from) < 0 || at.Compare(to) >= 0 || i > 0 && at.Compare(theirs[i-1].Position) <= 0 {
			return nil, nil, fmt.Errorf("item %d: %w", i, errOrder)
		}
	}
	found, end, err := p.ExportDifferences(view, from, to, theirs)
	if err != nil {
		return nil, nil, viewError(err)
	}
	for i := range found {
		f := &found[i]
		differ = append(differ, protocol.DifferingValue{
			Namespace: f.Namespace, Key: f.Key, Type: f.Type, OnlyHere: f.OnlyHere, OnlyThere: f.OnlyThere, Changed: f.Changed,
		})
	}
	return differ, replica.EncodePosition(end), nil
}

func readItems(p *region.Partition, want *protocol.ResyncRequest, from, to replica.Position, res *protocol.ResyncResponse) error {
	items, next, err := p.ExportItems(want.View, from, to, want.MaxBytes)
	for i := range items {
		res.Items = append(res.Items, protocol.StateItem{Position: replica.EncodePosition(items[i].Position), Hash: items[i].Hash})
	}
	if next != to && len(items) > 0 {
		res.Next = replica.EncodePosition(next)
	}
	return err
}

// viewError returns protocol.ErrNoView for a view that is gone, anything else as it is.
func viewError(err error) error {
	if errors.Is(err, region.ErrNoExport) {
		return protocol.ErrNoView
	}
	return err
}
