package membership

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

const (
	// LeaseTime is how long after it asked a region may act as a home on a majority's word that it takes part. It is what
	// writes at a home go on for when the region is cut off, and what a takeover waits for. Shorter, and one renewal that fails (it
	// gives up after 3 s) would be felt; longer, and more is acknowledged that a takeover loses.
	LeaseTime = 10 * time.Second
	// clockRatePercent is by how much a monotonic clock may run too fast or too slow. Those of machines are within a
	// hundredth of that.
	clockRatePercent = 2
	// LeaseOver is how long after somebody saw that an actor is fenced its lease has certainly run out: LeaseTime by the slowest
	// clock, measured with the fastest.
	LeaseOver = (LeaseTime*(100+clockRatePercent) + (100 - clockRatePercent) - 1) / (100 - clockRatePercent)
)

// MayLease reports whether a region's actor is open and active, so that the region may act as a home.
func (s *State) MayLease(id topology.RegionID, e topology.Epoch) bool {
	return s.Founded() && s.MayWrite(id, e) == nil
}

// Lease is what one node knows of its region's lease: until when the region may act as a home. Nobody writes a lease down. A
// node asks whether the region is open and active, and an answer that is true of an instant after the question is a lease of
// LeaseTime from the question on: whoever fences the region does so after that instant, and takes nothing over for LeaseOver.
//
// Instants are those of this node's monotonic clock, since any origin. A Lease starts no goroutine, and belongs to one.
type Lease struct {
	held  bool
	asked time.Duration // the latest question that was answered with yes, if held
	// refused is the latest question that was answered with no: answers to earlier ones are overtaken.
	refused    time.Duration
	wasRefused bool
	since      time.Duration // when the last lease ended, or when the node began, unless it is held
}

// NewLease returns the lease of a node that begins now, and has none.
func NewLease(now time.Duration) Lease { return Lease{since: now} }

// Answered takes an answer that arrived now to the question whether the region is open and active, asked at an instant
// before. The answer must be true of an instant at or after that. Answers may come late and in any order.
func (l *Lease) Answered(asked, now time.Duration, open bool) {
	switch {
	case !open:
		if _, held := l.At(now); held {
			l.since = now
		} else if l.held {
			l.since = l.asked + LeaseTime
		}
		if !l.wasRefused || asked > l.refused {
			l.refused, l.wasRefused = asked, true
		}
		l.held = false
	case l.wasRefused && asked <= l.refused:
	case !l.held || asked > l.asked:
		l.asked, l.held = asked, true
	}
}

// At returns whether the region may act as a home now: for how long still, or else for how long it has not.
func (l *Lease) At(now time.Duration) (d time.Duration, held bool) {
	end := l.asked + LeaseTime
	switch {
	case l.held && now < end:
		return end - now, true
	case l.held:
		return now - end, false
	}
	return now - l.since, false
}

// RunOut knows for how long this node has known that actors are given up, or have left, and so when the leases that they
// may have are over. Nothing of it is kept: a node that starts anew waits anew. Its zero value knows of none. It belongs to one goroutine.
type RunOut struct {
	seen map[crdt.Actor]time.Duration
}

// See takes a membership that this node has come to know by now. The state must have been read before the clock.
func (r *RunOut) See(s *State, now time.Duration) {
	for i := range s.Regions {
		for j := range s.Regions[i].Actors {
			a := &s.Regions[i].Actors[j]
			actor := topology.Actor(s.Regions[i].ID, a.Epoch)
			if _, known := r.seen[actor]; known || a.State == ActorOpen {
				continue
			}
			if r.seen == nil {
				r.seen = map[crdt.Actor]time.Duration{}
			}
			r.seen[actor] = now
		}
	}
}

// Left returns for how long still a region may hold a lease under an actor that is open no more; 0 means that it does not, for
// certain. known says whether it has such an actor, as far as this node knows.
func (r *RunOut) Left(id topology.RegionID, now time.Duration) (left time.Duration, known bool) {
	for actor, seen := range r.seen {
		if of, _ := topology.ActorRegion(actor); of == id {
			left, known = max(left, seen+LeaseOver-now), true
		}
	}
	return left, known
}
