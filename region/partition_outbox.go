package region

import (
	"context"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// OutboxDestination says what one region lacks of a partition's outbox.
type OutboxDestination struct {
	Region topology.RegionID
	// Applied is the last event that the region is known to have durably applied, Events how many there are after it.
	Applied, Events uint64
	// Bytes is what these take in the outbox: never too few, and at most 64 KiB or one run too many. Of a region that
	// was evicted it is all there is.
	Bytes uint64
	// Oldest is the instant of the first event after Applied, 0 if there is none. It may be earlier if that event is
	// folded.
	Oldest hlc.Time
	// Eviction is set while the region needs the partition's state.
	Eviction *Eviction
}

// Readmit has the outbox wait again for a region that was evicted, from the event after seq on, or from now on if seq
// is 0. The region must be given everything up to there, or more, by other means. It returns the sequence number
// after which events are kept. Of a region that was not evicted it changes nothing.
//
// Errors after which nothing was done: ErrNotKept if the outbox begins later, *NotLeaderError, ErrOverloaded,
// ErrShuttingDown, ctx's own. After ErrOutcomeUnknown it may be repeated.
func (p *Partition) Readmit(ctx context.Context, r topology.RegionID, seq uint64) (uint64, error) {
	if err := p.leading(); err != nil {
		return 0, err
	}
	if seq == 0 {
		seq = p.machine.View().Outbox.Head
	}
	if _, err := p.batcher.do(ctx, readmitCommand(r, seq)); err != nil {
		return 0, err
	}
	p.logger.Info("a region that was evicted is served again", "region", r, "seq", seq)
	return seq, nil
}

func readmitCommand(r topology.RegionID, seq uint64) *logv1.Command {
	return &logv1.Command{Command: &logv1.Command_Destination{Destination: &logv1.DestinationCommand{
		Region: uint32(r), Change: &logv1.DestinationCommand_Readmit{Readmit: &logv1.ReadmitDestination{Seq: seq}},
	}}}
}

// Destinations returns what each region that gets this partition's events lacks. It costs one look-up per region.
func (p *Partition) Destinations() ([]OutboxDestination, error) {
	view := p.machine.View()
	applied := view.applied()
	destinations := p.waitsFor(view)
	all := make([]OutboxDestination, len(destinations))
	err := p.machine.store.View(func(kv replica.KV) (err error) {
		for i, r := range destinations {
			d := OutboxDestination{Region: r, Applied: applied[r], Eviction: view.eviction(r)}
			d.Events = view.Outbox.Head - min(d.Applied, view.Outbox.Head)
			switch {
			case d.Events == 0:
			case d.Eviction != nil && d.Applied+1 < view.Outbox.First:
				d.Bytes, d.Oldest = view.Outbox.Bytes, d.Eviction.Oldest
			default:
				d.Bytes = min(p.machine.outbox.Load().after(d.Applied), view.Outbox.Bytes)
				if d.Oldest, err = oldestAfter(kv, d.Applied); err != nil {
					return err
				}
			}
			all[i] = d
		}
		return nil
	})
	return all, err
}

// Acknowledge records how far other regions have applied this region's deltas, and lets those that
// every destination has applied leave the outbox. It proposes nothing if nothing would change.
func (p *Partition) Acknowledge(ctx context.Context, marks []Watermark) error {
	command, err := p.acknowledgeCommand(marks)
	if err == nil && command != nil {
		_, err = p.batcher.do(ctx, command)
	}
	return err
}

// acknowledgeCommand returns what Acknowledge proposes: nil if nothing would change.
func (p *Partition) acknowledgeCommand(marks []Watermark) (*logv1.Command, error) {
	if err := p.leading(); err != nil {
		return nil, err
	}
	view := p.machine.View()
	destinations := p.waitsFor(view)
	known := map[Watermark]uint64{}
	for _, w := range view.Watermarks {
		known[Watermark{Region: w.Region, Actor: w.Actor}] = w.Seq
	}
	command := &logv1.AcknowledgeCommand{}
	for _, w := range marks {
		k := Watermark{Region: w.Region, Actor: w.Actor}
		if w.Seq > view.Outbox.Head {
			p.logger.Error("another region has applied more of this region's events than this replica knows of",
				"region", w.Region, "applied", w.Seq, "head", view.Outbox.Head)
			continue
		}
		if !slices.Contains(destinations, w.Region) || w.Seq <= known[k] {
			continue
		}
		known[k] = w.Seq
		command.Watermarks = append(command.Watermarks, &logv1.Watermark{
			Region: uint32(w.Region), Actor: uint32(w.Actor), Seq: w.Seq,
		})
	}
	if len(command.Watermarks) == 0 {
		return nil, nil
	}
	applied := view.applied()
	for _, w := range command.Watermarks {
		if crdt.Actor(w.GetActor()) == view.Outbox.Actor {
			applied[topology.RegionID(w.GetRegion())] = w.GetSeq()
		}
	}
	var err error
	if command.TrimTo, err = p.trimTo(view, p.waiters(view, applied)); err != nil {
		return nil, err
	}
	return &logv1.Command{Command: &logv1.Command_Acknowledge{Acknowledge: command}}, nil
}
