package world

import (
	"slices"
	"time"
)

// shrinkRuns bounds how many runs Shrink makes.
const shrinkRuns = 600

// shrinking is a Shrink under way.
type shrinking struct {
	runner    *Runner
	plan      *Plan
	invariant string
	best      Reduction
	runs      int
}

// Shrink returns a reduction of a plan that fails which still breaks the same invariant, with as few writes,
// faults and regions, and as little chance, as it finds.
func (r *Runner) Shrink(p *Plan, f *Failure) *Reduction {
	s := &shrinking{runner: r, plan: p, invariant: f.Invariant}
	for i := range p.Happenings {
		s.best.Keep = append(s.best.Keep, i)
	}
	s.try(func(r *Reduction) { r.Length = f.At.Truncate(time.Millisecond) + time.Millisecond })
	for n := 2; n < p.Regions; n++ {
		if s.try(func(r *Reduction) { r.Regions = n }) {
			break
		}
	}
	s.fewer()
	if p.Nodes > 1 {
		s.try(func(r *Reduction) { r.Nodes = 1 })
	}
	for _, n := range p.Rates.named() {
		if *n.rate > 0 && n.name != "flush" {
			s.try(func(r *Reduction) { r.Calm = append(r.Calm, n.name) })
		}
	}
	for _, m := range mechanisms {
		if m.used(p) {
			s.try(func(r *Reduction) { r.Calm = append(r.Calm, m.name) })
		}
	}
	s.fewer()
	s.sooner()
	return &s.best
}

// try makes the best reduction a changed one, if that still fails, and reports whether it did.
func (s *shrinking) try(change func(r *Reduction)) bool {
	if s.runs >= shrinkRuns {
		return false
	}
	s.runs++
	next := s.best
	next.Keep, next.Calm = slices.Clone(s.best.Keep), slices.Clone(s.best.Calm)
	change(&next)
	if f := s.runner.Run(next.Apply(s.plan), nil).Failure; f == nil || f.Invariant != s.invariant {
		return false
	}
	s.best = next
	return true
}

// fewer leaves out happenings, many at once first, until none can be spared.
func (s *shrinking) fewer() {
	for size := len(s.best.Keep) / 2; size > 0 && s.runs < shrinkRuns; size /= 2 {
		for from := 0; from < len(s.best.Keep); {
			to := min(from+size, len(s.best.Keep))
			if !s.try(func(r *Reduction) { r.Keep = slices.Delete(r.Keep, from, to) }) {
				from = to
			}
		}
	}
}

// sooner shortens the time in which there are faults.
func (s *shrinking) sooner() {
	for range 4 {
		length := s.best.Apply(s.plan).Length
		if !s.try(func(r *Reduction) { r.Length = (length / 2).Round(time.Millisecond) }) {
			return
		}
	}
}
