package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/atolldb/atoll/crdt/replica"
)

const (
	// mapBytes is mapped at once, however small the file: growing the map waits for every open read
	// transaction, a snapshot on its way to a slow peer included. It is address space, not memory.
	mapBytes = 1 << 30
	// growBytes is by how much the file grows at once: each growth costs a sync.
	growBytes = 4 << 20
	// lockWait is how long Open waits for the file's lock by default.
	lockWait = time.Second
	fileMode = 0o600
)

// bucketName names the one bucket; its suffix is the version of the layout.
const bucketName = "atoll/1"

// Options of a store. The zero value is usable.
type Options struct {
	// OnFailure is called once, with the cause, when a commit fails: the process should end.
	OnFailure func(error)
	// LockWait bounds the wait for the file's lock; 0 means one second.
	LockWait time.Duration

	// opened lets tests break the file under a running store.
	opened func(*os.File)
}

// Store is one partition's durable state. All methods may be called at any time.
type Store struct {
	path string
	opts Options

	write sync.Mutex // held by the one writer: Update, Install, Close; taken before mu

	mu struct {
		sync.Mutex
		current *handle
		failure error
		closed  bool
	}
}

// handle is one open file. Install replaces it while readers still use it, so it counts them.
type handle struct {
	db      *bbolt.DB
	users   int
	retired bool
	// stuck means that bbolt panicked where it holds its own locks: closing it would wait for ever.
	stuck bool
}

func (h *handle) close() error {
	if h.stuck {
		return nil
	}
	return h.db.Close()
}

// Open opens the file at path, making it if there is none, after checking all of it.
// Errors: *CorruptError, ErrLocked, or the operating system's.
func Open(path string, opts Options) (*Store, error) {
	if opts.LockWait == 0 {
		opts.LockWait = lockWait
	}
	s := &Store{path: path, opts: opts}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := s.create(); err != nil {
			return nil, fmt.Errorf("create store: %w", err)
		}
	}
	db, err := s.openFile(path, true)
	if err != nil {
		return nil, err
	}
	s.mu.current = &handle{db: db}
	return s, nil
}

// create makes an empty file under another name and renames it, so that a crash leaves no torn one.
func (s *Store) create() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	fresh := s.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := s.openFile(fresh, false)
	if err != nil {
		return err
	}
	// Two commits: both meta pages must say that no free list is kept.
	for range 2 {
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte(bucketName))
			return err
		}))
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	return rename(fresh, s.path)
}

// openFile opens path in bbolt; if check, only after taking its lock and checking its content.
func (s *Store) openFile(path string, check bool) (db *bbolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recovered(path, &err)
	db, err = bbolt.Open(path, fileMode, &bbolt.Options{
		Timeout:         s.opts.LockWait,
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapBytes,
		NoStatistics:    true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if check {
				flag &^= os.O_CREATE
			}
			f, err := os.OpenFile(name, flag, mode)
			if err != nil || !check {
				return f, err
			}
			// The lock belongs to the open file, so bbolt finds it held by itself. Checking before
			// locking would take a running process's half-written commit for damage.
			if err = lock(f, s.opts.LockWait); err == nil {
				err = checkFile(f, name)
			}
			if err != nil {
				return nil, errors.Join(err, f.Close())
			}
			if s.opts.opened != nil {
				s.opts.opened(f)
			}
			return f, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	db.AllocSize = growBytes
	return db, nil
}

// View calls fn with the state as of one instant. fn must not write, and must not keep kv.
// Errors: fn's own, *CorruptError, ErrClosed, ErrFailed.
func (s *Store) View(fn func(kv replica.KV) error) error {
	snap, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err := fn(snap.kv); err != nil {
		return err
	}
	return snap.kv.fault
}

// Update calls fn in one write transaction and commits it. A nil error promises that everything fn
// wrote is on disk; any error, that nothing is. fn must not call the store.
// Errors: fn's own, *CorruptError, ErrClosed, ErrFailed. Concurrency: one Update runs at a time.
func (s *Store) Update(fn func(kv replica.KV) error) error {
	s.write.Lock()
	defer s.write.Unlock()
	h, err := s.acquire()
	if err != nil {
		return err
	}
	defer s.release(h)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	kv, err := s.begin(h, true)
	if err != nil {
		return err
	}
	defer kv.rollback() // does nothing after a commit; fn may panic
	if err := fn(kv); err != nil {
		return err
	}
	if kv.fault != nil {
		return kv.fault
	}
	return s.commit(h, kv)
}

// commit commits kv; if that fails, the store is done.
func (s *Store) commit(h *handle, kv *view) error {
	err := kv.commit()
	if err == nil {
		return nil
	}
	var corrupt *CorruptError
	return s.fail(h, errors.As(err, &corrupt), err)
}

// Verify reads everything and tests every checksum.
func (s *Store) Verify() error {
	return s.View(func(kv replica.KV) error {
		return kv.Scan(nil, nil, func([]byte, []byte) (bool, error) { return true, nil })
	})
}

// Close closes the file; if snapshots are open, the last of them does.
func (s *Store) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	s.mu.closed = true
	h := s.mu.current
	s.mu.current = nil
	s.mu.Unlock()
	return s.retire(h)
}

func (s *Store) acquire() (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.failure != nil:
		return nil, s.mu.failure
	case s.mu.closed:
		return nil, ErrClosed
	}
	s.mu.current.users++
	return s.mu.current, nil
}

func (s *Store) release(h *handle) error {
	s.mu.Lock()
	h.users--
	last := h.retired && h.users == 0
	s.mu.Unlock()
	if last {
		return h.close()
	}
	return nil
}

// retire closes h once nobody uses it.
func (s *Store) retire(h *handle) error {
	if h == nil {
		return nil
	}
	s.mu.Lock()
	h.retired = true
	last := h.users == 0
	s.mu.Unlock()
	if last {
		return h.close()
	}
	return nil
}

// fail latches the store: after a failed write or sync nobody knows what the disk holds.
func (s *Store) fail(h *handle, stuck bool, cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	s.mu.Lock()
	h.stuck = h.stuck || stuck
	first := s.mu.failure == nil
	if first {
		s.mu.failure = err
	}
	s.mu.Unlock()
	if first && s.opts.OnFailure != nil {
		s.opts.OnFailure(err)
	}
	return err
}
