package raftgroup

import (
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

// logTail knows which entry of the log is the last that the state machine gets. Raft's own entries, by
// which leaders begin their terms, never reach it, so its position need not reach the end of the log
// for the state to be complete. It is safe for concurrent use.
type logTail struct {
	mu    sync.Mutex
	known bool
	last  uint64
	// configuration is the last entry stored that changes who votes.
	configuration uint64
}

// effective reports whether entries of a type reach the state machine.
func effective(t raft.LogType) bool { return t == raft.LogCommand || t == raft.LogConfiguration }

// stored notes entries that are in the log now.
func (t *logTail) stored(logs []*raft.Log) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range logs {
		if effective(l.Type) {
			t.known, t.last = true, l.Index
		}
		if l.Type == raft.LogConfiguration {
			t.configuration = l.Index
		}
	}
}

// truncated notes that the log ends before an entry.
func (t *logTail) truncated(first uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if first <= t.last {
		t.known, t.last = false, 0
	}
	if first <= t.configuration {
		t.configuration = 0
	}
}

// lastEffective returns the index of the last entry in the log that the state machine gets; 0 if there
// is none.
func (s logStore) lastEffective() (uint64, error) {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	if s.tail.known {
		return s.tail.last, nil
	}
	last, err := s.effectiveIn(1, s.log.LastIndex())
	if err == nil && last > 0 {
		s.tail.known, s.tail.last = true, last
	}
	return last, err
}

// effectiveIn returns the last of the entries from low to high that the state machine gets, or 0.
// Entries that the log has no more, it has got.
func (s logStore) effectiveIn(low, high uint64) (uint64, error) {
	low = max(low, s.log.FirstIndex(), 1)
	for i := high; i >= low; i-- {
		var l raft.Log
		err := s.GetLog(i, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if effective(l.Type) {
			return i, nil
		}
	}
	return 0, nil
}
