package raftlog

import (
	"sync"
	"time"
)

// stallSteps is in how many steps a disk write that takes too long is waited for. While the process does not run (it is
// stopped, or its machine is suspended) time goes by all the same, and counts for one step at most: the disk has the
// others to answer in.
const stallSteps = 4

// stallTimer calls onStall if a disk write takes too long. There is one write at a time.
type stallTimer struct {
	step    time.Duration
	onStall func()
	timer   *time.Timer

	mu struct {
		sync.Mutex
		left int // steps; 0 means that nothing is written
	}
}

func newStallTimer(limit time.Duration, onStall func()) *stallTimer {
	s := &stallTimer{step: limit / stallSteps, onStall: onStall}
	s.timer = time.AfterFunc(limit, s.tick)
	s.timer.Stop()
	return s
}

// start is called when a write begins, and stop when it ends.
func (s *stallTimer) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.left = stallSteps
	s.timer.Reset(s.step)
}

func (s *stallTimer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.left = 0
	s.timer.Stop()
}

// tick ends a step.
func (s *stallTimer) tick() {
	if s.isLast() {
		s.onStall()
	}
}

// isLast reports whether the write has taken too long, and begins the next step if not.
func (s *stallTimer) isLast() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.left == 0 {
		return false // it ended just now
	}
	if s.mu.left--; s.mu.left == 0 {
		return true
	}
	s.timer.Reset(s.step)
	return false
}
