package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

func (g *Group) stableKey(name []byte) []byte {
	return append(groupPrefix(tableStable, g.id), name...)
}

// Set stores a value of the group's stable state. A nil error promises that it is synced.
// Errors: ErrDropped, ErrFailed, ErrClosed.
func (g *Group) Set(name, value []byte) error {
	key := g.stableKey(name)
	record := append(make([]byte, crcBytes, crcBytes+len(value)), value...)
	seal(key, record)
	g.write.Lock()
	defer g.write.Unlock()
	return g.put(0, func(batch *pebble.Batch) error { return batch.Set(key, record, nil) })
}

// Get returns a value of the group's stable state; the caller owns it.
// Errors: ErrNotFound, *CorruptError, ErrFailed, ErrClosed.
func (g *Group) Get(name []byte) (value []byte, err error) {
	err = g.log.use(func() error {
		key := g.stableKey(name)
		record, err := g.get(key)
		if err != nil {
			return err
		}
		var ok bool
		if value, ok = unseal(key, record); !ok {
			return g.corrupt(fmt.Sprintf("stable value %q: checksum mismatch", name), nil)
		}
		return nil
	})
	return value, err
}

// SetUint64 stores a number of the group's stable state. A nil error promises that it is synced.
func (g *Group) SetUint64(name []byte, value uint64) error {
	return g.Set(name, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns a number of the group's stable state, 0 if there is none.
func (g *Group) GetUint64(name []byte) (uint64, error) {
	value, err := g.Get(name)
	switch {
	case errors.Is(err, ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(value) != 8:
		return 0, g.corrupt(fmt.Sprintf("stable value %q is not a number", name), nil)
	}
	return binary.BigEndian.Uint64(value), nil
}
