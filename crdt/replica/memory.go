package replica

import (
	"slices"

	"github.com/tidwall/btree"
)

// Memory is a KV in memory, for tests and simulations.
type Memory struct {
	pairs *btree.Map[string, []byte]
}

// NewMemory returns an empty Memory.
func NewMemory() *Memory { return &Memory{pairs: new(btree.Map[string, []byte])} }

// Get implements KV.
func (m *Memory) Get(key []byte) ([]byte, bool, error) {
	value, ok := m.pairs.Get(string(key))
	return value, ok, nil
}

// Put implements KV.
func (m *Memory) Put(key, value []byte) error {
	m.pairs.Set(string(key), slices.Clone(value))
	return nil
}

// Delete implements KV.
func (m *Memory) Delete(key []byte) error {
	m.pairs.Delete(string(key))
	return nil
}

// Scan implements KV.
func (m *Memory) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	var err error
	m.pairs.Ascend(string(start), func(key string, value []byte) bool {
		if end != nil && key >= string(end) {
			return false
		}
		var more bool
		more, err = visit([]byte(key), value)
		return more && err == nil
	})
	return err
}

// Clone returns a copy, which costs little until either changes.
func (m *Memory) Clone() *Memory { return &Memory{pairs: m.pairs.Copy()} }

// Len returns the number of pairs.
func (m *Memory) Len() int { return m.pairs.Len() }
