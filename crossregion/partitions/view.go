package partitions

import (
	"slices"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Evicted reports whether a partition's outbox keeps nothing for a region, which has to be readmitted before a view is
// opened for it: the view then has all that is not kept.
func Evicted(p *region.Partition, by topology.RegionID) bool {
	return slices.ContainsFunc(p.View().Evictions, func(e region.Eviction) bool { return e.Region == by })
}

// ReadView reads a part of a view of a partition's state, or closes it. Error: protocol.ErrNoView.
func ReadView(p *region.Partition, want protocol.ResyncRequest) (res protocol.ResyncResponse, err error) {
	err = readView(p, &want, &res)
	return res, viewError(err)
}

func readView(p *region.Partition, want *protocol.ResyncRequest, res *protocol.ResyncResponse) (err error) {
	switch want.Want {
	case protocol.WantClose:
		return p.CloseExport(want.View)
	case protocol.WantWrites:
		res.Data, res.Next, err = p.ExportWrites(want.View, want.From, want.MaxBytes)
		return err
	}
	from, err := position(want.From)
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
	case want.Want == protocol.WantItems:
		return readItems(p, want, from, to, res)
	case want.Want == protocol.WantHidden:
		res.Data, _, err = p.ExportHidden(want.View, from, to, want.MaxBytes)
	default:
		res.Data, _, err = p.ExportChunk(want.View, from, to, want.MaxBytes)
	}
	return err
}

// position decodes a position; nothing is the beginning.
func position(data []byte) (replica.Position, error) {
	if len(data) == 0 {
		return replica.Position{}, nil
	}
	return replica.DecodePosition(data)
}
