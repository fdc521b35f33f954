package region

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// Watermark says that a region has durably applied an actor's events up to a sequence number.
type Watermark struct {
	Region topology.RegionID
	Actor  crdt.Actor
	Seq    uint64
}

// Eviction says that the outbox did not wait for a region, which lacks events that the outbox may not have
// any more: the region needs the partition's state.
type Eviction struct {
	Region topology.RegionID
	// Seq is what the region had applied when it was evicted, at Since; Oldest is the instant of the first event
	// that it lacked.
	Seq           uint64
	Since, Oldest hlc.Time
	// ServedFrom is the first event that is kept for the region since it was readmitted; 0 if it was not. The
	// eviction ends when the region has applied everything before.
	ServedFrom uint64
}

// ErrNotKept means that a region cannot be readmitted from an event on, because the outbox begins later.
var ErrNotKept = errors.New("the outbox begins after the event")

// acknowledge takes over watermarks, which only ever rise, and trims the outbox. It never trims
// past what the watermarks it trims for say: a leader's mistake must not lose a delta.
func (a *application) acknowledge(c *logv1.AcknowledgeCommand) (result, error) {
	for _, w := range c.GetWatermarks() {
		k := watermarkKey{topology.RegionID(w.GetRegion()), crdt.Actor(w.GetActor())}
		a.state.watermarks[k] = max(a.state.watermarks[k], w.GetSeq())
		if k.actor == a.replica.Self() {
			a.state.caughtUp(k.region, a.state.watermarks[k])
		}
	}
	return result{}, a.trim(c.GetTrimTo())
}

// caughtUp ends a region's eviction if it lacks nothing any more that the outbox does not have.
func (s *machineState) caughtUp(r topology.RegionID, applied uint64) {
	if e, ok := s.evictions[r]; ok && applied+1 >= cmp.Or(e.ServedFrom, s.outbox.trimmed+1) {
		delete(s.evictions, r)
	}
}

// trim trims the outbox as far as a leader says and the regions that it waits for allow.
func (a *application) trim(to uint64) error {
	self := a.replica.Self()
	for k, seq := range a.state.watermarks {
		if k.actor != self {
			continue
		}
		if e, ok := a.state.evictions[k.region]; !ok {
			to = min(to, seq)
		} else if e.ServedFrom > 0 {
			to = min(to, max(seq, e.ServedFrom-1))
		}
	}
	for r, e := range a.state.evictions {
		if _, known := a.state.watermarks[watermarkKey{r, self}]; !known && e.ServedFrom > 0 {
			to = min(to, e.ServedFrom-1)
		}
	}
	for _, r := range a.state.facts.destinations(self) {
		_, known := a.state.watermarks[watermarkKey{r, self}]
		if _, evicted := a.state.evictions[r]; !known && !evicted {
			return nil // who proposed this did not know yet of a region that joins
		}
	}
	return a.outbox().trim(to)
}

// destination evicts or readmits a region.
func (a *application) destination(now hlc.Time, c *logv1.DestinationCommand) (result, error) {
	r := topology.RegionID(c.GetRegion())
	switch change := c.GetChange().(type) {
	case *logv1.DestinationCommand_Evict:
		return a.evict(now, r, change.Evict.GetTrimTo())
	case *logv1.DestinationCommand_Readmit:
		return a.readmit(r, change.Readmit.GetSeq()), nil
	}
	return result{err: ErrBadCommand}, nil
}

func (a *application) evict(now hlc.Time, r topology.RegionID, trimTo uint64) (result, error) {
	e := Eviction{Region: r, Seq: a.state.watermarks[watermarkKey{r, a.replica.Self()}], Since: max(now, a.replica.LastHLC())}
	before, again := a.state.evictions[r]
	if again && before.ServedFrom == 0 {
		return result{}, a.trim(trimTo)
	}
	if e.Oldest = before.Oldest; !again {
		var err error
		if e.Oldest, err = oldestAfter(a.kv, e.Seq); err != nil {
			return result{}, err
		}
	}
	a.state.evictions[r] = e
	return result{}, a.trim(trimTo)
}

func (a *application) readmit(r topology.RegionID, seq uint64) result {
	e, ok := a.state.evictions[r]
	switch {
	case !ok:
		return result{} // it holds back the outbox as it is
	case seq < a.state.outbox.trimmed || seq > a.state.outbox.head:
		return result{err: ErrNotKept}
	}
	e.ServedFrom = seq + 1
	a.state.evictions[r] = e
	a.state.caughtUp(r, a.state.watermarks[watermarkKey{r, a.replica.Self()}])
	return result{}
}

// oldestAfter returns the instant of the first event in the outbox after another, 0 if there is none. If that is
// in a run, it is that of the run's first event: never too late.
func oldestAfter(kv replica.KV, seq uint64) (at hlc.Time, err error) {
	err = scanOutbox(kv, seq+1, func(p *outboxPair) (_ bool, err error) {
		at, err = p.firstTime()
		return false, err
	})
	return at, err
}

func (s *machineState) sortedWatermarks() []*logv1.Watermark {
	keys := slices.SortedFunc(maps.Keys(s.watermarks), func(a, b watermarkKey) int {
		return cmp.Or(cmp.Compare(a.region, b.region), cmp.Compare(a.actor, b.actor))
	})
	sorted := make([]*logv1.Watermark, len(keys))
	for i, k := range keys {
		sorted[i] = &logv1.Watermark{Region: uint32(k.region), Actor: uint32(k.actor), Seq: s.watermarks[k]}
	}
	return sorted
}

func (s *machineState) sortedEvictions() []*logv1.Eviction {
	var sorted []*logv1.Eviction
	for _, r := range slices.Sorted(maps.Keys(s.evictions)) {
		e := s.evictions[r]
		sorted = append(sorted, &logv1.Eviction{
			Region: uint32(r), Seq: e.Seq, Hlc: uint64(e.Since), OldestHlc: uint64(e.Oldest), ServedFrom: e.ServedFrom,
		})
	}
	return sorted
}

func (s *machineState) loadEvictions(all []*logv1.Eviction) {
	s.evictions = map[topology.RegionID]Eviction{}
	for _, e := range all {
		r := topology.RegionID(e.GetRegion())
		s.evictions[r] = Eviction{
			Region: r, Seq: e.GetSeq(), Since: hlc.Time(e.GetHlc()), Oldest: hlc.Time(e.GetOldestHlc()), ServedFrom: e.GetServedFrom(),
		}
	}
}
