package crossregion

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/topology"
)

// reporter collects, at the destination, the watermarks to send to one origin. It is a step function.
// A change is sent soon, together with those that follow at once; everything is sent again now and
// then, because a report that is lost leaves no trace.
type reporter struct {
	tuning  tuning
	applied map[topology.PartitionID]uint64
	dirty   map[topology.PartitionID]bool
	// dueAt is when to send what is dirty; allAt when to send everything.
	dueAt, allAt time.Time
}

func newReporter(t tuning, now time.Time) *reporter {
	return &reporter{
		tuning: t, applied: map[topology.PartitionID]uint64{}, dirty: map[topology.PartitionID]bool{},
		allAt: now.Add(t.reportAll),
	}
}

// note tells that a led partition's events are applied up to seq.
func (r *reporter) note(p topology.PartitionID, seq uint64, now time.Time) {
	if known, ok := r.applied[p]; ok && known == seq {
		return
	}
	if len(r.dirty) == 0 {
		r.dueAt = now.Add(r.tuning.reportWait)
	}
	r.applied[p] = seq
	r.dirty[p] = true
}

// forget tells that a partition is not led any more.
func (r *reporter) forget(p topology.PartitionID) {
	delete(r.applied, p)
	delete(r.dirty, p)
}

// due returns the watermarks to send now, or when to ask again.
func (r *reporter) due(now time.Time) (send map[topology.PartitionID]uint64, until time.Time) {
	switch {
	case !now.Before(r.allAt):
		send = maps.Clone(r.applied)
		r.allAt = now.Add(r.tuning.reportAll)
	case len(r.dirty) > 0 && !now.Before(r.dueAt):
		send = make(map[topology.PartitionID]uint64, len(r.dirty))
		for p := range r.dirty {
			send[p] = r.applied[p]
		}
	case len(r.dirty) > 0 && r.dueAt.Before(r.allAt):
		return nil, r.dueAt
	default:
		return nil, r.allAt
	}
	clear(r.dirty)
	return send, r.allAt
}

var errBeyondHead = errors.New("watermark beyond the outbox's head")

// acker collects, at the origin, the watermarks of one led partition that other regions report, until
// they are in Raft. It is a step function.
type acker struct {
	tuning tuning
	// reported is the highest watermark heard per region, recorded the highest one in Raft.
	reported, recorded map[topology.RegionID]uint64
	heardAt            map[topology.RegionID]time.Time
	// nextAt is when the next entry may be proposed.
	nextAt time.Time
	retry  backoff
}

func newAcker(t tuning) *acker {
	return &acker{
		tuning: t, retry: backoff{least: t.retryLeast, most: t.retryMost},
		reported: map[topology.RegionID]uint64{}, recorded: map[topology.RegionID]uint64{},
		heardAt: map[topology.RegionID]time.Time{},
	}
}

// report takes a region's watermark. One beyond what the outbox ever held is refused: it would trim
// what no one has.
func (a *acker) report(region topology.RegionID, seq, head uint64, now time.Time) error {
	if seq > head {
		return fmt.Errorf("%w: %d of %d", errBeyondHead, seq, head)
	}
	a.heardAt[region] = now
	a.reported[region] = max(a.reported[region], seq)
	return nil
}

// due returns what to record now, or when to ask again; zero if not before the next report.
func (a *acker) due(now time.Time) (watermarks []Watermark, until time.Time) {
	for _, region := range slices.Sorted(maps.Keys(a.reported)) {
		if seq := a.reported[region]; seq > a.recorded[region] {
			watermarks = append(watermarks, Watermark{Region: region, Seq: seq})
		}
	}
	if len(watermarks) == 0 {
		return nil, time.Time{}
	}
	if at := later(a.nextAt, a.retry.until); now.Before(at) {
		return nil, at
	}
	return watermarks, time.Time{}
}

// done tells how recording went.
func (a *acker) done(watermarks []Watermark, err error, now time.Time) {
	a.nextAt = now.Add(a.tuning.ackWait)
	if err != nil {
		a.retry.failed(now)
		return
	}
	a.retry.succeeded()
	for _, w := range watermarks {
		a.recorded[w.Region] = w.Seq
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
