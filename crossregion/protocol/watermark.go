package protocol

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// Reporter collects, at the destination, the watermarks to send to one origin. It is a step function.
// A change is sent soon, together with those that follow at once; everything is sent again now and
// then, because a report that is lost leaves no trace.
type Reporter struct {
	tuning  Tuning
	applied map[topology.PartitionID]uint64
	dirty   map[topology.PartitionID]bool
	// urged is up to what the origin waits for events of a partition to be applied.
	urged map[topology.PartitionID]uint64
	// dueAt is when to send what is dirty; allAt when to send everything; sentAt when something was sent.
	dueAt, allAt, sentAt time.Time
	// waiting has the instants of events that wait for the clock.
	waiting map[topology.PartitionID]hlc.Time
}

// NewReporter returns a reporter with nothing to report, at now.
func NewReporter(t Tuning, now time.Time) *Reporter {
	return &Reporter{
		tuning: t, applied: map[topology.PartitionID]uint64{}, dirty: map[topology.PartitionID]bool{},
		urged: map[topology.PartitionID]uint64{}, waiting: map[topology.PartitionID]hlc.Time{},
		allAt: now.Add(t.ReportAll),
	}
}

// Note tells that a led partition's events are applied up to seq.
func (r *Reporter) Note(p topology.PartitionID, seq uint64, now time.Time) {
	if known, ok := r.applied[p]; ok && known == seq {
		return
	}
	if len(r.dirty) == 0 {
		r.dueAt = now.Add(r.tuning.ReportWait)
	}
	r.applied[p] = seq
	r.dirty[p] = true
	if wanted := r.urged[p]; wanted > 0 && seq >= wanted {
		r.hurry(p)
	}
}

// Urge tells that the origin waits for a partition's events to be applied up to seq: it is told at once when they
// are, also if that was told before.
func (r *Reporter) Urge(p topology.PartitionID, seq uint64, now time.Time) {
	applied, led := r.applied[p]
	if !led {
		return
	}
	if r.urged[p] = max(r.urged[p], seq); applied < seq {
		return
	}
	if len(r.dirty) == 0 {
		r.dueAt = now.Add(r.tuning.ReportWait)
	}
	r.dirty[p] = true
	r.hurry(p)
}

// hurry has what is dirty be sent as soon as may be.
func (r *Reporter) hurry(p topology.PartitionID) {
	delete(r.urged, p)
	if at := r.sentAt.Add(r.tuning.ReportUrged); at.Before(r.dueAt) {
		r.dueAt = at
	}
}

// NoteAhead tells that a led partition's next event waits for the clock, by its instant; 0 means that none does.
func (r *Reporter) NoteAhead(p topology.PartitionID, at hlc.Time, now time.Time) {
	was := r.waiting[p]
	if at == 0 {
		delete(r.waiting, p)
	} else {
		r.waiting[p] = at
	}
	if _, known := r.applied[p]; !known || (was == 0) == (at == 0) {
		return
	}
	if len(r.dirty) == 0 {
		r.dueAt = now.Add(r.tuning.ReportWait)
	}
	r.dirty[p] = true
}

// Ahead returns how far a led partition's next event is in the future, if it waits for that; else 0.
func (r *Reporter) Ahead(p topology.PartitionID, now time.Time) time.Duration {
	at := r.waiting[p]
	if at == 0 {
		return 0
	}
	return max(aheadOf(at, now), time.Millisecond)
}

// Forget tells that a partition is not led any more.
func (r *Reporter) Forget(p topology.PartitionID) {
	delete(r.applied, p)
	delete(r.dirty, p)
	delete(r.urged, p)
	delete(r.waiting, p)
}

// Due returns the watermarks to send now, or when to ask again.
func (r *Reporter) Due(now time.Time) (send map[topology.PartitionID]uint64, until time.Time) {
	switch {
	case !now.Before(r.allAt):
		send = maps.Clone(r.applied)
		r.allAt = now.Add(r.tuning.ReportAll)
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
	r.sentAt = now
	return send, r.allAt
}

// ErrBeyondHead means that a watermark is of events that were never issued.
var ErrBeyondHead = errors.New("watermark beyond the outbox's head")

// Acker collects, at the origin, the watermarks of one led partition that other regions report, until
// they are in Raft. It is a step function.
type Acker struct {
	tuning Tuning
	// reported is the highest watermark heard per region, recorded the highest one in Raft.
	reported, recorded map[topology.RegionID]uint64
	heardAt            map[topology.RegionID]time.Time
	startedAt          time.Time
	outbox             OutboxState
	// lag is how long each destination has been behind this origin, sizes by how many bytes.
	lag   map[topology.RegionID]*marks
	sizes map[topology.RegionID]*sizes
	// ahead is how far this origin's events are ahead of a destination's clock, which does not merge them.
	ahead map[topology.RegionID]time.Duration
	// nextAt is when the next entry may be proposed.
	nextAt time.Time
	retry  Backoff
}

// Aged is a record of an outbox with when it was made.
type Aged struct {
	Seq uint64
	At  time.Time
}

// NewAcker returns the acker of a node that begins to lead at now, for the given destinations. Of what the outbox holds,
// ages has some records, in ascending order: who lacks one lacks it since then.
func NewAcker(t Tuning, regions []topology.RegionID, ages []Aged, now time.Time) *Acker {
	a := &Acker{
		tuning: t, startedAt: now, sizes: make(map[topology.RegionID]*sizes, len(regions)), retry: Backoff{Least: t.RetryLeast, Most: t.RetryMost},
		reported: map[topology.RegionID]uint64{}, recorded: map[topology.RegionID]uint64{},
		heardAt: map[topology.RegionID]time.Time{}, ahead: map[topology.RegionID]time.Duration{}, lag: make(map[topology.RegionID]*marks, len(regions)),
	}
	for _, region := range regions {
		a.lag[region], a.sizes[region] = &marks{}, &sizes{}
		for _, aged := range ages {
			a.lag[region].add(aged.Seq, earlier(aged.At, now))
		}
	}
	return a
}

// OutboxIs tells what the outbox holds.
func (a *Acker) OutboxIs(outbox OutboxState, now time.Time) {
	a.outbox = outbox
	for region, lag := range a.lag {
		if outbox.Head > a.reported[region] {
			lag.add(outbox.Head, now)
		}
		a.sizes[region].add(outbox, a.reported[region])
	}
}

// Report takes a region's watermark, from a report or from the vector of a tick. One beyond what the outbox ever held
// is refused: it would trim what no one has.
func (a *Acker) Report(region topology.RegionID, seq, head uint64) error {
	if seq > head {
		return fmt.Errorf("%w: %d of %d", ErrBeyondHead, seq, head)
	}
	a.reported[region] = max(a.reported[region], seq)
	if lag := a.lag[region]; lag != nil {
		lag.reached(seq)
		a.sizes[region].reached(seq)
	}
	return nil
}

// Heard tells that a region's leader of this partition gave a sign of life.
func (a *Acker) Heard(region topology.RegionID, now time.Time) { a.heardAt[region] = now }

// Behind returns for how long the slowest destination has lacked something.
func (a *Acker) Behind(now time.Time) time.Duration {
	most := time.Duration(0)
	for _, lag := range a.lag {
		most = max(most, lag.behind(now))
	}
	return most
}

// Reached returns how many regions have reported, in a watermark or a tick, that they have applied the events up to seq.
func (a *Acker) Reached(seq uint64) int {
	n := 0
	for _, at := range a.reported {
		if at >= seq {
			n++
		}
	}
	return n
}

// ReportAhead takes how far this origin's events are ahead of a region's clock, if it does not merge them because of
// that; else 0. It reports whether that has begun or ended.
func (a *Acker) ReportAhead(region topology.RegionID, ahead time.Duration) (changed bool) {
	changed = (a.ahead[region] > 0) != (ahead > 0)
	a.ahead[region] = ahead
	return changed
}

// Due returns what to record now, or when to ask again; zero if not before the next report.
func (a *Acker) Due(now time.Time) (watermarks []Watermark, until time.Time) {
	for _, region := range slices.Sorted(maps.Keys(a.reported)) {
		if seq := a.reported[region]; seq > a.recorded[region] {
			watermarks = append(watermarks, Watermark{Region: region, Seq: seq})
		}
	}
	if len(watermarks) == 0 {
		return nil, time.Time{}
	}
	if at := later(a.nextAt, a.retry.Until); now.Before(at) {
		return nil, at
	}
	return watermarks, time.Time{}
}

// Done tells how recording went.
func (a *Acker) Done(watermarks []Watermark, err error, now time.Time) {
	a.nextAt = now.Add(a.tuning.AckWait)
	if err != nil {
		a.retry.Failed(now)
		return
	}
	a.retry.Succeeded()
	for _, w := range watermarks {
		a.recorded[w.Region] = w.Seq
	}
}

// Flow fills in what the acker knows of f's destination.
func (a *Acker) Flow(f *Flow, now time.Time) {
	to := f.Destination
	f.Head, f.Applied = a.outbox.Head, a.reported[to]
	f.First, f.OutboxBytes = a.outbox.First, a.outbox.Bytes
	f.LagBytes, f.BytesKnown = a.sizes[to].missing(f.Applied)
	if f.Ahead = a.ahead[to]; f.Ahead > 0 {
		f.Stuck = fmt.Sprintf("quarantined there: this region's events are %v ahead of the destination's clock; atoll repair clock-poison lists what waits", f.Ahead)
	}
	f.heard(a.tuning, a.lag[to].behind(now), a.heardAt[to], a.startedAt, now)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
