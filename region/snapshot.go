package region

import (
	"fmt"
	"io"

	"github.com/atolldb/atoll/crdt/replica"
)

// Snapshotter is the part of a snapshot that can be sent.
type Snapshotter interface {
	io.WriterTo
	// Size is exactly how many bytes WriteTo writes.
	Size() int64
	Close() error
}

// machineSnapshot is a store's snapshot with the position that it holds.
type machineSnapshot struct {
	StoreSnapshot
	position Position
}

// Position is the position of this copy.
func (s *machineSnapshot) Position() Position { return s.position }

// OpenSnapshot returns one consistent copy of the whole state. Its position is read from the copy
// itself, so that the two cannot disagree.
func (m *Machine) OpenSnapshot() (Snapshot, error) {
	s, err := m.store.Snapshot()
	if err != nil {
		return nil, err
	}
	state, err := loadMachineState(s.KV())
	if err != nil {
		_ = s.Close() // a read transaction; the first error tells more
		return nil, err
	}
	return &machineSnapshot{StoreSnapshot: s, position: state.position}, nil
}

// Install replaces the state by the snapshot in the file at path, which it consumes. It refuses a
// snapshot older than the present position.
func (m *Machine) Install(path string) error {
	have := m.Position()
	err := m.store.Install(path, func(kv replica.KV) error {
		state, err := loadMachineState(kv)
		if err != nil {
			return err
		}
		if state.position.Index < have.Index {
			return fmt.Errorf("snapshot at index %d is older than the state at %d", state.position.Index, have.Index)
		}
		_, err = replica.Open(kv, m.self)
		return err
	})
	if err != nil {
		return err
	}
	return m.refresh()
}
