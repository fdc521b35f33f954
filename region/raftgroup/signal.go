package raftgroup

import "sync"

// signal wakes whoever waits for the next change of something. It is safe for concurrent use.
type signal struct {
	mu      sync.Mutex
	changed chan struct{} // nil while nobody waits
}

// wait returns a channel that is closed at the next change. Ask for it before looking.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// notify tells of a change.
func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
