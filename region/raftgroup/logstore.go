package raftgroup

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
)

var errConflict = errors.New("the log contradicted an installed snapshot and was deleted: raft must start anew")

// logStore is a group's part of the node's log, as Raft wants it.
type logStore struct {
	log     *raftlog.Group
	machine region.StateMachine
	tail    *logTail
	// onConflict is called when Raft has to be started anew, see DeleteRange. It must not wait for Raft.
	onConflict func()
}

// FirstIndex implements raft.LogStore.
func (s logStore) FirstIndex() (uint64, error) { return s.log.FirstIndex(), nil }

// LastIndex implements raft.LogStore.
func (s logStore) LastIndex() (uint64, error) { return s.log.LastIndex(), nil }

// GetLog implements raft.LogStore.
func (s logStore) GetLog(index uint64, l *raft.Log) error {
	e, err := s.log.Entry(index)
	if errors.Is(err, raftlog.ErrNotFound) {
		return raft.ErrLogNotFound // Raft compares by ==
	}
	if err != nil {
		return err
	}
	*l = raft.Log{
		Index: e.Index, Term: e.Term, Type: raft.LogType(e.Kind),
		Data: e.Data, Extensions: e.Extensions, AppendedAt: e.AppendedAt,
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (s logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s logStore) StoreLogs(logs []*raft.Log) error {
	entries := make([]raftlog.Entry, len(logs))
	for i, l := range logs {
		entries[i] = raftlog.Entry{
			Index: l.Index, Term: l.Term, Kind: uint8(l.Type),
			Data: l.Data, Extensions: l.Extensions, AppendedAt: l.AppendedAt,
		}
	}
	if err := s.log.Append(entries); err != nil {
		return err
	}
	s.tail.stored(logs)
	return nil
}

// DeleteRange implements raft.LogStore. Raft asks for three things: to truncate a tail that conflicts
// with the leader's; to cut off entries that the state machine's file has made superfluous; and, after
// a snapshot was installed, to forget everything. The last would lose acknowledged entries beyond the
// snapshot, so only what the snapshot contradicts is deleted then.
func (s logStore) DeleteRange(first, last uint64) error {
	p := s.machine.Durable()
	if first > p.Index || last < s.log.LastIndex() || last < p.Index {
		truncates := last >= s.log.LastIndex()
		err := s.log.DeleteRange(first, last)
		if truncates {
			s.tail.truncated(first)
		}
		return err
	}
	conflict, err := s.discardStale(p)
	if err == nil && conflict {
		// Raft goes on believing in the last entry that it had, which is gone, and would refuse every
		// entry from the leader (hashicorp/raft #697). Getting here takes an old leader with more
		// uncommitted entries than a leader keeps after a snapshot.
		err = errConflict
		s.onConflict()
	}
	return err
}

// discardStale deletes the log if the state at p did not come out of it: p came with a snapshot, and
// the log ends before p or has another entry there. It tells whether it deleted such an entry.
func (s logStore) discardStale(p region.Position) (conflict bool, err error) {
	first, last := s.log.FirstIndex(), s.log.LastIndex()
	if first == 0 || first > p.Index {
		return false, nil
	}
	if last >= p.Index {
		e, err := s.log.Entry(p.Index)
		if err != nil || e.Term == p.Term {
			return false, err
		}
		conflict = true
	}
	defer s.tail.truncated(first)
	// The tail first: a log without its head is whole, one without its middle is not.
	if err := s.log.DeleteRange(p.Index+1, last); err != nil {
		return conflict, err
	}
	return conflict, s.log.DeleteRange(first, min(last, p.Index))
}

// IsMonotonic implements raft.MonotonicLogStore: indexes have no gaps.
func (s logStore) IsMonotonic() bool { return true }

// stableStore keeps a group's votes and term in the node's log.
type stableStore struct{ log *raftlog.Group }

// Set implements raft.StableStore.
func (s stableStore) Set(key, value []byte) error { return s.log.Set(key, value) }

// Get implements raft.StableStore.
func (s stableStore) Get(key []byte) ([]byte, error) {
	value, err := s.log.Get(key)
	if errors.Is(err, raftlog.ErrNotFound) {
		return nil, nil
	}
	return value, err
}

// SetUint64 implements raft.StableStore.
func (s stableStore) SetUint64(key []byte, value uint64) error { return s.log.SetUint64(key, value) }

// GetUint64 implements raft.StableStore.
func (s stableStore) GetUint64(key []byte) (uint64, error) {
	value, err := s.log.GetUint64(key)
	if errors.Is(err, raftlog.ErrNotFound) {
		return 0, nil
	}
	return value, err
}
