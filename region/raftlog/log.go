package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// memTableBytes is how much is written before Pebble makes a table of it.
	memTableBytes = 16 << 20
	// cacheBytes is small: what is read is nearly always recent, so it is still in memory.
	cacheBytes = 8 << 20
	maxFiles   = 256
	// reclaimDelay is how long deleted entries may keep their disk space.
	reclaimDelay = 10 * time.Second
	// stallLimit is how long a sync may take. A node whose disk hangs goes on sending heartbeats, so
	// that nobody else takes over: it has to stop by itself.
	stallLimit = 20 * time.Second
)

// Options of a log.
type Options struct {
	// Logger is where Pebble's warnings go.
	Logger *slog.Logger
	// OnFailure is called once, with the cause, at the first failure: the process should end.
	OnFailure func(error)

	fs    vfs.FS        // tests inject failures
	stall time.Duration // stallLimit, but for tests
}

// Log is the shared log of a node. All methods may be called at any time.
type Log struct {
	dir  string
	opts Options
	db   *pebble.DB

	mu struct {
		sync.Mutex
		groups  map[uint32]*Group
		failure error
		closed  bool
	}
	// using is held for reading by every call that uses db, for writing by Close.
	using sync.RWMutex
}

// Open opens the log in dir, making it if there is none.
// Errors: *CorruptError, or the operating system's; also when another process has it open.
func Open(dir string, opts Options) (*Log, error) {
	if opts.fs == nil {
		opts.fs = vfs.Default
	}
	if opts.stall == 0 {
		opts.stall = stallLimit
	}
	l := &Log{dir: dir, opts: opts}
	l.mu.groups = map[uint32]*Group{}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open log: %w", l.classify(err, "cannot be replayed"))
	}
	return l, nil
}

func (l *Log) open() (err error) {
	defer recoverFatal(&err)
	if err := checkTail(l.opts.fs, l.dir); err != nil {
		return err
	}
	existing, err := lastWAL(l.opts.fs, l.dir)
	if err != nil {
		return err
	}
	if l.db, err = l.openPebble(); err != nil || existing != "" {
		return err
	}
	// The WAL of a new directory is begun before the format is raised, so without the marks that
	// tell a torn tail from damage. The next one has them.
	if err := l.db.Close(); err != nil {
		return err
	}
	l.db, err = l.openPebble()
	return err
}

func (l *Log) openPebble() (*pebble.DB, error) {
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS:     l.opts.fs,
		Cache:  cache,
		Logger: quiet{l},
		// The oldest format whose WAL tells a torn tail from damage. Raising it is a decision, as
		// older binaries cannot open the directory after it.
		FormatMajorVersion:          pebble.FormatWALSyncChunks,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: 4,
		MaxOpenFiles:                maxFiles,
		FlushDelayDeleteRange:       reclaimDelay,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { l.fail(err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				l.fail(&CorruptError{Dir: l.dir, Detail: "damaged table", Err: info.Details})
			},
		},
	}
	// Entries are compressed, if at all, by who wrote them; here it would cost more than it saves.
	opts.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	return pebble.Open(l.dir, opts)
}

// Group returns a group's part of the log, which it reads and checks on the first call.
// Errors: *CorruptError, ErrFailed, ErrClosed.
func (l *Log) Group(id uint32) (*Group, error) {
	l.mu.Lock()
	g := l.mu.groups[id]
	l.mu.Unlock()
	if g != nil {
		return g, nil
	}
	g = &Group{log: l, id: id}
	if err := l.use(g.load); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.mu.groups[id]; first != nil {
		return first, nil
	}
	l.mu.groups[id] = g
	return g, nil
}

// Close closes the log. It may be called more than once.
func (l *Log) Close() (err error) {
	l.mu.Lock()
	closed, failed := l.mu.closed, l.mu.failure != nil
	l.mu.closed = true
	l.mu.Unlock()
	if closed {
		return nil
	}
	l.using.Lock()
	defer l.using.Unlock()
	defer recoverFatal(&err)
	if err := l.db.Close(); err != nil && !failed {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

// use calls fn unless the log is closed or has failed, and keeps it open meanwhile.
func (l *Log) use(fn func() error) (err error) {
	l.using.RLock()
	defer l.using.RUnlock()
	if err := l.usable(); err != nil {
		return err
	}
	defer recoverFatal(&err)
	return fn()
}

func (l *Log) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.failure != nil {
		return l.mu.failure
	}
	if l.mu.closed {
		return ErrClosed
	}
	return nil
}

// write commits what fill puts in a batch, synced.
func (l *Log) write(size int, fill func(*pebble.Batch) error) error {
	return l.use(func() error {
		batch := l.db.NewBatchWithSize(size)
		defer batch.Close()
		if err := fill(batch); err != nil {
			return err
		}
		stalled := time.AfterFunc(l.opts.stall, func() { l.fail(ErrStalled) })
		err := commit(batch)
		stalled.Stop()
		if err != nil {
			return l.fail(err)
		}
		// Another writer's failure, or a stall, counts for this one too: nothing is acknowledged
		// after the first.
		return l.usable()
	})
}

func commit(batch *pebble.Batch) (err error) {
	defer recoverFatal(&err)
	return batch.Commit(pebble.Sync)
}

// fail latches the log and returns the latched error.
func (l *Log) fail(cause error) error {
	l.mu.Lock()
	first := l.mu.failure == nil
	if first {
		l.mu.failure = fmt.Errorf("%w: %w", ErrFailed, cause)
	}
	err := l.mu.failure
	l.mu.Unlock()
	if first && l.opts.OnFailure != nil {
		l.opts.OnFailure(err)
	}
	return err
}

// classify turns Pebble's corruption errors into *CorruptError.
func (l *Log) classify(err error, detail string) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, record.ErrInvalidChunk) || errors.Is(err, record.ErrZeroedChunk) {
		return &CorruptError{Dir: l.dir, Detail: detail, Err: err}
	}
	return err
}
