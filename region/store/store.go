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
)

const (
	// mapBytes is mapped at once, however small the file: growing the map waits for every open read
	// transaction, a snapshot on its way to a slow peer included. It is address space, not memory.
	mapBytes = 16 << 30
	// growBytes is by how much the file grows at once: each growth costs a sync.
	growBytes = 4 << 20
	// lockWait is how long Open waits for the file's lock by default.
	lockWait = time.Second
	// flushBytes and maxBuffered are the defaults of the options.
	flushBytes, maxBuffered = 8 << 20, 32 << 20
	fileMode                = 0o600
)

// The buckets; the number is the version of the layout.
const (
	layoutPrefix = "atoll/"
	bucketName   = layoutPrefix + "2"
	largeName    = bucketName + "/large"
)

// Options of a store. The zero value is usable.
type Options struct {
	// Buffer keeps updates in memory until Flush is called; otherwise each Update flushes itself.
	Buffer bool
	// FlushBytes is how much is buffered when Full is signalled; 0 means 8 MiB.
	FlushBytes int64
	// MaxBuffered is how many bytes may be buffered before Update waits for a Flush; 0 means 32 MiB.
	MaxBuffered int64
	// OnFailure is called once, with the cause, when a commit fails or Scrub finds damage: the process
	// should end. It must not call the store.
	OnFailure func(error)
	// LockWait bounds the wait for the file's lock; 0 means one second.
	LockWait time.Duration

	// opened lets tests break the file under a running store.
	opened func(*os.File)
	// viewing and committing let tests act between a view's look at the memory and its transaction,
	// and before a flush commits.
	viewing, committing func()
}

// Store is one partition's durable state. All methods may be called at any time.
type Store struct {
	path string
	opts Options

	full chan struct{}

	// The locks are taken in this order.
	flush sync.Mutex // held by the one flush: Flush, Install, Close
	write sync.Mutex // held by the one writer: Update, Install, Close, and a flush that begins
	mu    struct {
		sync.Mutex
		current *handle
		layers  layers
		seq     uint64 // of the last update that took effect
		failure error
		closed  bool
	}
	room sync.Cond // on mu: something was flushed, or will never be
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
	if opts.FlushBytes == 0 {
		opts.FlushBytes = flushBytes
	}
	if opts.MaxBuffered == 0 {
		opts.MaxBuffered = maxBuffered
	}
	if opts.viewing == nil {
		opts.viewing = func() {}
	}
	if opts.committing == nil {
		opts.committing = func() {}
	}
	s := &Store{path: path, opts: opts, full: make(chan struct{}, 1)}
	s.room.L = &s.mu
	s.mu.layers[0] = newMemtable()
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
			_, errLarge := tx.CreateBucketIfNotExists([]byte(largeName))
			return errors.Join(err, errLarge)
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

// Verify reads everything that is on disk and tests every checksum.
func (s *Store) Verify() error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	v, h, err := s.beginView()
	if err != nil {
		return err
	}
	defer s.endView(v, h)
	file := view{base: v.base} // what is in memory must not hide a record
	return file.Scan(nil, nil, func([]byte, []byte) (bool, error) { return true, nil })
}

// Close flushes what is buffered and closes the file; if snapshots are open, the last of them does.
func (s *Store) Close() error {
	s.flush.Lock()
	defer s.flush.Unlock()
	s.write.Lock()
	defer s.write.Unlock()
	err := s.flushLast()
	s.mu.Lock()
	s.mu.closed = true
	h := s.mu.current
	s.mu.current = nil
	s.mu.layers = layers{}
	s.room.Broadcast()
	s.mu.Unlock()
	return errors.Join(err, s.retire(h))
}

// flushLast flushes unless the store is closed or stopped, which was reported.
func (s *Store) flushLast() error {
	h, frozen, err := s.freeze()
	if err != nil || frozen == nil {
		return nil
	}
	return s.flushFrozen(h, frozen)
}

func (s *Store) acquire() (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.unusableLocked(); err != nil {
		return nil, err
	}
	s.mu.current.users++
	return s.mu.current, nil
}

// unusableLocked returns why the store serves nothing any more, nil if it does.
func (s *Store) unusableLocked() error {
	switch {
	case s.mu.failure != nil:
		return s.mu.failure
	case s.mu.closed:
		return ErrClosed
	default:
		return nil
	}
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
		s.room.Broadcast()
	}
	s.mu.Unlock()
	if first && s.opts.OnFailure != nil {
		s.opts.OnFailure(err)
	}
	return err
}
