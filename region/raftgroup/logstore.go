package raftgroup

import (
	"errors"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/raftlog"
)

// logStore is a group's part of the node's log, as Raft wants it.
type logStore struct{ log *raftlog.Group }

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
	return s.log.Append(entries)
}

// DeleteRange implements raft.LogStore.
func (s logStore) DeleteRange(first, last uint64) error { return s.log.DeleteRange(first, last) }

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
