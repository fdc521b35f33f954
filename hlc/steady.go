package hlc

import (
	"sync"
	"time"
)

// Reading is one reading of a machine's two clocks, taken at once.
type Reading struct {
	// Wall is the wall clock, which may be set and jump either way.
	Wall time.Time
	// Elapsed is the monotonic clock, which only runs, since an instant that stays the same.
	Elapsed time.Duration
}

// Source reads both clocks. It is safe for concurrent use.
type Source func() Reading

// SourceOf returns a Source over time.Now, or over a clock that reads like it. Over one whose readings have no
// monotonic part, no jump is ever noticed.
func SourceOf(now func() time.Time) Source {
	first := now()
	return func() Reading {
		t := now()
		return Reading{Wall: t.Round(0), Elapsed: t.Sub(first)}
	}
}

// steadyRebase is how long what the wall clock gains counts as one jump.
const steadyRebase = 2 * time.Second

// Steady is a wall clock that does not follow forward jumps until somebody says that they are right: meanwhile it runs
// on from where it was. It follows jumps back, which do no harm to a Clock. It is safe for concurrent use.
type Steady struct {
	source Source
	bound  time.Duration
	mu     struct {
		sync.Mutex
		base Reading // when the wall clock was last believed
		jump time.Duration
	}
}

// NewSteady returns a steady clock that believes the present reading, and later ones unless the wall clock has gained
// more than bound on the monotonic clock within two seconds.
func NewSteady(source Source, bound time.Duration) *Steady {
	s := &Steady{source: source, bound: bound}
	s.mu.base = source()
	return s
}

// Wall returns the wall clock's reading, or what it would be if it had not jumped.
func (s *Steady) Wall() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readLocked()
}

// Jump returns by how much the wall clock is ahead of Wall; 0 if it has not jumped, or has come back.
func (s *Steady) Jump() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readLocked()
	return s.mu.jump
}

// Accept believes the wall clock's present reading.
func (s *Steady) Accept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.base, s.mu.jump = s.source(), 0
}

func (s *Steady) readLocked() time.Time {
	r := s.source()
	ran := r.Elapsed - s.mu.base.Elapsed
	expected := s.mu.base.Wall.Add(ran)
	gained := r.Wall.Sub(expected)
	if gained > s.bound {
		s.mu.jump = gained
		return expected
	}
	s.mu.jump = 0
	if gained < 0 || ran >= steadyRebase {
		s.mu.base = r
	}
	return r.Wall
}
