package world

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Sweep is many plans to run.
type Sweep struct {
	// First is the seed of the first plan, and Count how many there are.
	First, Count uint64
	// Workers is how many run at once.
	Workers int
	// Progress, if it is not nil, hears now and then what has happened so far, from one worker at a time.
	Progress func(Counts)
}

// SeedFailure is a seed, and what did not hold.
type SeedFailure struct {
	Seed uint64
	*Failure
}

// progressEvery is after how many schedules Progress is called.
const progressEvery = 50

// sweeping is a Sweep under way.
type sweeping struct {
	Sweep
	mu struct {
		sync.Mutex
		next     uint64
		counts   Counts
		failures []SeedFailure
	}
}

// Run runs the plans, in the order of their seeds, until one fails or ctx is done. It returns what happened, and the
// failure with the lowest seed.
func (s Sweep) Run(ctx context.Context) (Counts, *SeedFailure, error) {
	var sw sweeping
	sw.Sweep = s
	var wg sync.WaitGroup
	errs := make([]error, max(1, s.Workers))
	for i := range errs {
		wg.Go(func() { errs[i] = sw.work(ctx) })
	}
	wg.Wait()
	slices.SortFunc(sw.mu.failures, func(a, b SeedFailure) int { return cmp.Compare(a.Seed, b.Seed) })
	for _, err := range errs {
		if err != nil {
			return sw.mu.counts, nil, err
		}
	}
	if len(sw.mu.failures) > 0 {
		return sw.mu.counts, &sw.mu.failures[0], nil
	}
	return sw.mu.counts, nil, ctx.Err()
}

func (s *sweeping) work(ctx context.Context) error {
	r, err := NewRunner()
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		seed, ok := s.take()
		if !ok {
			break
		}
		s.done(seed, r.Run(Draw(seed), nil))
	}
	return nil
}

// take hands out the next seed, unless one has failed.
func (s *sweeping) take() (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mu.failures) > 0 || s.mu.next == s.Count {
		return 0, false
	}
	s.mu.next++
	return s.First + s.mu.next - 1, true
}

func (s *sweeping) done(seed uint64, res Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.counts.Add(&res.Counts)
	if res.Failure != nil {
		s.mu.failures = append(s.mu.failures, SeedFailure{seed, res.Failure})
	}
	if s.Progress != nil && s.mu.counts.Schedules%progressEvery == 0 {
		s.Progress(s.mu.counts)
	}
}
