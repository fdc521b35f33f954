package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/atolldb/atoll/crdt/replica"
)

// Snapshot is one consistent copy of the state, read and streamed from one transaction on the file.
// Close it soon: pages freed meanwhile cannot be used again.
type Snapshot struct {
	store *Store
	h     *handle
	kv    view
	once  sync.Once
	err   error
}

// Snapshot flushes and opens a snapshot, which has all updates that returned before, and perhaps
// later ones, whole.
func (s *Store) Snapshot() (*Snapshot, error) {
	if err := s.Flush(); err != nil {
		return nil, err
	}
	h, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx, err := s.begin(h, false)
	if err != nil {
		return nil, errors.Join(err, s.release(h))
	}
	return &Snapshot{store: s, h: h, kv: view{base: tx}}, nil
}

// Size is exactly how many bytes WriteTo writes.
func (p *Snapshot) Size() int64 { return p.kv.tx.Size() }

// KV reads the snapshot; it must not be written to. One goroutine may use it at a time.
// A file that is truncated under the snapshot can fault outside View: read inside it where possible.
func (p *Snapshot) KV() replica.KV { return &p.kv }

// WriteTo writes the copy as a file that Install takes.
func (p *Snapshot) WriteTo(w io.Writer) (int64, error) { return p.kv.tx.WriteTo(w) }

// Close ends the snapshot. It may be called more than once.
func (p *Snapshot) Close() error {
	p.once.Do(func() { p.err = errors.Join(p.kv.rollback(), p.store.release(p.h)) })
	return p.err
}

// Install replaces the state, what is buffered included, by the file at path, which it consumes and
// which must be in the same file system. All of it is checked first; accept, if not nil, then sees the new state and can
// refuse it by an error. Snapshots and views begun before keep the old state.
// A nil error promises that the new state is on disk. Errors before that leave the old one.
func (s *Store) Install(path string, accept func(kv replica.KV) error) error {
	s.flush.Lock()
	defer s.flush.Unlock()
	s.write.Lock()
	defer s.write.Unlock()
	fresh, err := s.adopt(path, accept)
	if err != nil {
		return errors.Join(err, removeIfThere(path))
	}
	// From the rename on, an error leaves it open which state a restart would find.
	if err := rename(path, s.path); err != nil {
		return errors.Join(s.fail(fresh, false, fmt.Errorf("install: %w", err)), fresh.db.Close())
	}
	s.mu.Lock()
	old := s.mu.current
	s.mu.current = fresh
	s.mu.layers = layers{newMemtable()}
	s.room.Broadcast()
	s.mu.Unlock()
	return s.retire(old)
}

// adopt opens the file at path as a state that could be installed.
func (s *Store) adopt(path string, accept func(kv replica.KV) error) (*handle, error) {
	h, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer s.release(h) // only to learn that the store is open and whole
	if err := syncFile(path); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	db, err := s.openFile(path, true)
	if err != nil {
		return nil, err
	}
	fresh := &handle{db: db}
	if accept == nil {
		return fresh, nil
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx, err := s.begin(fresh, false)
	if err == nil {
		kv := &view{base: tx}
		err = accept(kv)
		err = errors.Join(err, kv.fault, kv.rollback())
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return fresh, nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// rename moves a file durably.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
