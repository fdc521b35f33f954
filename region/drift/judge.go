package drift

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

const (
	// staleAfter is how old a measurement may be to count.
	staleAfter = 10 * time.Second
	// startPatience is how long a node that has just started waits for its first measurement.
	startPatience = 2 * time.Second
	// steadyFor is for how long a clock must have been right to be trusted again.
	steadyFor = 2 * time.Second
)

// Offset is how far another node's clock is ahead of this node's.
type Offset struct {
	Node  topology.NodeID
	Ahead time.Duration
	// Uncertainty is how far Ahead may be from the truth, either way.
	Uncertainty time.Duration
}

// beyond reports whether the offset is certainly larger than a bound.
func (o *Offset) beyond(bound time.Duration) bool {
	return max(o.Ahead, -o.Ahead)-o.Uncertainty > bound
}

// Verdict says whether a node's clock can be trusted.
type Verdict struct {
	Unsafe bool
	// Drift is how far the clock is ahead of where it should be, as far as that is known; negative if it is behind.
	Drift time.Duration
	// Why says what is wrong, for people.
	Why string
	// Unmeasured says that the node has only just started, and nothing is known yet.
	Unmeasured bool
	// confirmed says that others agree with the wall clock as it is.
	confirmed bool
}

// sample is a measurement of another node's clock, kept such that it goes on when this node's wall clock is set.
type sample struct {
	// origin is what the other's wall clock read when this node's monotonic clock was 0.
	origin      time.Time
	uncertainty time.Duration
	at          time.Duration
}

// judge decides by measurements. It is a step function.
type judge struct {
	bound   time.Duration
	peers   int
	samples map[topology.NodeID]sample
	began   time.Duration
	last    Verdict
	// soundSince is since when an unsafe clock has been right; negative if it is not.
	soundSince time.Duration
}

func newJudge(bound time.Duration, peers int, now hlc.Reading) *judge {
	return &judge{bound: bound, peers: peers, samples: map[topology.NodeID]sample{}, began: now.Elapsed, soundSince: -1}
}

// measured takes that a node answered at now that it was wall there, after a round trip.
func (j *judge) measured(node topology.NodeID, wall time.Time, roundTrip time.Duration, now hlc.Reading) {
	j.samples[node] = sample{wall.Add(roundTrip/2 - now.Elapsed), roundTrip / 2, now.Elapsed}
}

// offsets returns what is known of the other nodes' clocks, in the order of their names.
func (j *judge) offsets(now hlc.Reading) []Offset {
	var known []Offset
	for node, s := range j.samples {
		if now.Elapsed-s.at <= staleAfter {
			known = append(known, Offset{node, s.origin.Add(now.Elapsed).Sub(now.Wall), s.uncertainty})
		}
	}
	slices.SortFunc(known, func(a, b Offset) int { return cmp.Compare(a.Node, b.Node) })
	return known
}

// decide returns the verdict at now, given by how much the wall clock has jumped. A node that has no others in its region
// lets witnesses confirm a jump: nodes of other regions, of which it asks no more than that.
func (j *judge) decide(now hlc.Reading, jump time.Duration, witnesses []Offset) Verdict {
	known := j.offsets(now)
	if jump > 0 && j.peers == 0 && confirm(witnesses, j.bound) {
		known = witnesses
	}
	limit := j.bound * 8 / 10
	if j.last.Unsafe {
		limit = j.bound / 2
	}
	v := j.found(known, limit, jump, now)
	switch {
	case v.Unsafe || !j.last.Unsafe:
		j.soundSince = -1
	case j.soundSince < 0:
		j.soundSince = now.Elapsed
	}
	if !v.Unsafe && j.last.Unsafe && now.Elapsed-j.soundSince < j.patience() {
		v = Verdict{Unsafe: true, Drift: v.Drift, Why: j.last.Why, confirmed: v.confirmed}
	}
	j.last = v
	return v
}

// patience is for how long a clock must be right again. One that was only not measured yet need not wait.
func (j *judge) patience() time.Duration {
	if j.last.Unmeasured {
		return 0
	}
	return steadyFor
}

// found is decide without memory.
func (j *judge) found(known []Offset, limit, jump time.Duration, now hlc.Reading) Verdict {
	agree := 1
	for i := range known {
		if !known[i].beyond(limit) {
			agree++
		}
	}
	all := len(known) + 1
	drift := -median(known)
	switch {
	case len(known) == 0 && jump > 0:
		return Verdict{Unsafe: true, Drift: jump, Why: fmt.Sprintf(
			"the wall clock jumped forward by %v, and no other node can confirm that", jump.Round(time.Millisecond))}
	case 2*agree <= all:
		return Verdict{Unsafe: true, Drift: drift, Why: fmt.Sprintf(
			"the clock is %v off those of %d of %d nodes", drift.Round(time.Millisecond), all-agree, all-1)}
	case len(known) == 0 && j.peers > 0 && now.Elapsed-j.began < startPatience:
		return Verdict{Unsafe: true, Unmeasured: true, Why: "the clock is not compared with the other nodes' yet"}
	}
	return Verdict{Drift: drift, confirmed: len(known) > 0}
}

// confirm reports whether most of the witnesses agree with the wall clock.
func confirm(witnesses []Offset, bound time.Duration) bool {
	agree := 0
	for i := range witnesses {
		if !witnesses[i].beyond(bound) && witnesses[i].Uncertainty <= bound {
			agree++
		}
	}
	return 2*agree > len(witnesses)
}

// median returns the middle one of the offsets, of two the smaller by size: what most agree on.
func median(known []Offset) time.Duration {
	if len(known) == 0 {
		return 0
	}
	ahead := make([]time.Duration, len(known))
	for i := range known {
		ahead[i] = known[i].Ahead
	}
	slices.Sort(ahead)
	high, low := ahead[len(ahead)/2], ahead[(len(ahead)-1)/2]
	if max(low, -low) < max(high, -high) {
		return low
	}
	return high
}
