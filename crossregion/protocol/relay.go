package protocol

import (
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/topology"
)

// relay decides whom a receiver asks for an origin's records: the origin, and, once that has not given what is missing
// for some time, in turn the other regions that have said they applied it. The zero value asks the origin.
type relay struct {
	// have is what other regions have applied of the origin's events.
	have map[topology.RegionID]uint64
	// failingAt is since when the origin gives nothing; zero if it does.
	failingAt time.Time
	// goneAt is since when nothing is expected of the origin any more, because it was given up; zero if it was not.
	goneAt time.Time
	// asked is who was asked last, 0 for the origin; tried are those asked since the origin last gave something.
	asked topology.RegionID
	tried map[topology.RegionID]bool
}

// candidates returns who has more than is applied, in order.
func (r *relay) candidates(applied uint64) []topology.RegionID {
	var regions []topology.RegionID
	for _, region := range slices.Sorted(maps.Keys(r.have)) {
		if r.have[region] > applied {
			regions = append(regions, region)
		}
	}
	return regions
}

// next returns whom to ask: the origin after each round of the others, unless it is gone and there are others.
func (r *relay) next(applied uint64, now time.Time, after time.Duration) topology.RegionID {
	before := r.asked
	r.asked = 0
	if r.goneAt.IsZero() && (r.failingAt.IsZero() || now.Sub(r.failingAt) < after) {
		return 0
	}
	others := r.candidates(applied)
	at := slices.IndexFunc(others, func(region topology.RegionID) bool { return region > before })
	if at < 0 && !r.goneAt.IsZero() && len(others) > 0 {
		at = 0
	}
	if at < 0 {
		return 0
	}
	r.asked = others[at]
	if r.tried == nil {
		r.tried = map[topology.RegionID]bool{}
	}
	r.tried[r.asked] = true
	return r.asked
}

// answered takes how a fetch ended that was not a relay's without records.
func (r *relay) answered(res FetchResult, applied uint64, now time.Time) {
	switch {
	case r.asked != 0:
	case res.Err == nil && res.TrimmedTo <= applied+1:
		r.failingAt, r.tried = time.Time{}, nil
	case r.failingAt.IsZero():
		r.failingAt = now
	}
}

// exhausted reports whether everybody who has more was asked.
func (r *relay) exhausted(applied uint64) bool {
	return !slices.ContainsFunc(r.candidates(applied), func(region topology.RegionID) bool { return !r.tried[region] })
}

// Elsewhere tells how far another region than the origin has applied the origin's events: what is missing here may be had
// there. It refuses impossible numbers with ErrSequenceJump.
func (r *Receiver) Elsewhere(region topology.RegionID, seq uint64, now time.Time) error {
	if err := r.checkJump(seq); err != nil {
		return err
	}
	if r.relay.have == nil {
		r.relay.have = map[topology.RegionID]uint64{}
	}
	r.relay.have[region] = max(r.relay.have[region], seq)
	r.headIs(seq, now)
	return nil
}

// OriginGone tells that the origin was given up: nobody asks it, and what is missing is waited for no longer than for a relay.
func (r *Receiver) OriginGone(now time.Time) {
	if r.relay.goneAt.IsZero() {
		r.relay.goneAt = now
	}
}

// Donors returns the regions whose state has what is missing here and nobody gives, in order of preference: nobody as
// long as that may yet come as deltas.
func (r *Receiver) Donors(origin topology.RegionID, now time.Time) []topology.RegionID {
	others := r.relay.candidates(r.applied)
	since, wait := r.relay.failingAt, r.tuning.OriginWait
	if !r.relay.goneAt.IsZero() {
		since, wait = r.relay.goneAt, r.tuning.RelayAfter
	}
	switch {
	case r.needsState:
		return append([]topology.RegionID{origin}, others...)
	case since.IsZero(), now.Sub(later(since, r.movedAt)) < wait, !r.relay.exhausted(r.applied):
		return nil
	}
	return others
}

// TookOver tells how far the origin's events are applied after another region's state was taken over.
func (r *Receiver) TookOver(applied uint64, now time.Time) {
	if applied > r.applied {
		r.fetch.Succeeded()
		r.AppliedIs(applied, now)
		r.repair = true
	}
}
