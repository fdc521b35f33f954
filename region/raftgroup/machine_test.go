package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/store"
)

// testState is the count and the hash chain of the commands that were applied, and up to where.
type testState struct {
	position   region.Position
	count, sum uint64
}

// testMachine has a testState in memory, and in a real store as of the last flush. Whoever opens the
// store after it, without a flush, has only that.
type testMachine struct {
	store    *store.Store
	write    sync.Mutex // over whatever changes state or the store
	state    atomic.Pointer[testState]
	durable  atomic.Pointer[region.Position]
	failure  atomic.Pointer[error]
	gate     atomic.Pointer[chan struct{}] // Apply waits until it is closed
	installs atomic.Int32
	flushes  atomic.Int32
}

func openMachine(path string) (*testMachine, error) {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return nil, err
	}
	m := &testMachine{store: s}
	return m, m.refresh()
}

// refresh reads the state from the store.
func (m *testMachine) refresh() error {
	return m.store.View(func(kv replica.KV) error {
		s, err := readState(kv)
		m.state.Store(&s)
		m.durable.Store(&s.position)
		return err
	})
}

// readState reads index(8) term(8) configuration index(8) count(8) sum(8) configuration.
func readState(kv replica.KV) (s testState, err error) {
	b, ok, err := kv.Get([]byte("state"))
	if ok {
		s.position.Index, s.position.Term = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		s.position.ConfigurationIndex = binary.BigEndian.Uint64(b[16:])
		s.count, s.sum = binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])
		s.position.Configuration = append([]byte(nil), b[40:]...)
	}
	return s, err
}

func writeState(kv replica.KV, s *testState) error {
	var b []byte
	for _, n := range []uint64{s.position.Index, s.position.Term, s.position.ConfigurationIndex, s.count, s.sum} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return kv.Put([]byte("state"), append(b, s.position.Configuration...))
}

func (m *testMachine) Apply(entries []region.Entry) error {
	if gate := m.gate.Load(); gate != nil {
		<-*gate
	}
	m.write.Lock()
	defer m.write.Unlock()
	if err := m.failure.Load(); err != nil {
		return *err
	}
	s := *m.state.Load()
	for _, e := range entries {
		if e.Index <= s.position.Index {
			continue
		}
		s.position.Index, s.position.Term = e.Index, e.Term
		switch e.Kind {
		case region.EntryConfiguration:
			s.position.Configuration, s.position.ConfigurationIndex = e.Data, e.Index
		case region.EntryCommand:
			h := fnv.New64a()
			h.Write(binary.BigEndian.AppendUint64(nil, s.sum))
			h.Write(e.Data)
			s.count, s.sum = s.count+1, h.Sum64()
		case region.EntryNothing:
		}
	}
	m.state.Store(&s)
	return nil
}

func (m *testMachine) Position() region.Position { return m.state.Load().position }

func (m *testMachine) Durable() region.Position { return *m.durable.Load() }

func (m *testMachine) Flush() error {
	m.write.Lock()
	defer m.write.Unlock()
	return m.flushLocked()
}

func (m *testMachine) flushLocked() error {
	m.flushes.Add(1)
	s := m.state.Load()
	err := m.store.Update(func(kv replica.KV) error { return writeState(kv, s) })
	if store, ok := any(m.store).(interface{ Flush() error }); ok {
		err = errors.Join(err, store.Flush())
	}
	if err == nil {
		m.durable.Store(&s.position)
	}
	return err
}

type testSnapshot struct {
	*store.Snapshot
	position region.Position
}

func (s *testSnapshot) Position() region.Position { return s.position }

func (m *testMachine) OpenSnapshot() (region.Snapshot, error) {
	if err := m.Flush(); err != nil {
		return nil, err
	}
	s, err := m.store.Snapshot()
	if err != nil {
		return nil, err
	}
	state, err := readState(s.KV())
	return &testSnapshot{s, state.position}, err
}

func (m *testMachine) Install(path string) error {
	m.write.Lock()
	defer m.write.Unlock()
	m.installs.Add(1)
	have := m.Position()
	err := m.store.Install(path, func(kv replica.KV) error {
		s, err := readState(kv)
		if err == nil && s.position.Index < have.Index {
			err = fmt.Errorf("snapshot at %d is older than %d", s.position.Index, have.Index)
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.refresh()
}

// figures returns how many commands were applied, and the hash over them in order.
func (m *testMachine) figures() (count, sum uint64, err error) {
	s := m.state.Load()
	return s.count, s.sum, nil
}
