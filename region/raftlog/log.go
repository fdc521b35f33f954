package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// memTableBytes is how much is written before Pebble makes a table of it.
	memTableBytes = 32 << 20
	// blockCacheBytes is small: what is read is nearly always recent, so it is in the groups' tails.
	blockCacheBytes = 8 << 20
	// tailBytes is how much the groups keep of their latest entries, see Options.CacheBytes.
	tailBytes = 32 << 20
	maxFiles  = 256
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
	// CacheBytes bounds what all groups together keep of their latest entries in memory; 0 is 32 MiB.
	CacheBytes int64

	fs    vfs.FS        // tests inject failures
	stall time.Duration // stallLimit, but for tests
}

// Log is the shared log of a node. All methods may be called at any time.
type Log struct {
	dir  string
	opts Options
	db   *pebble.DB
	lock *pebble.Lock
	// witness is the file system that Pebble uses.
	witness *witness
	cache   cache

	// failure is the first one; closed that Close was called.
	failure atomic.Pointer[error]
	closed  atomic.Bool

	opening sync.Mutex // taken before mu, held while a group is loaded or dropped
	mu      struct {
		sync.Mutex
		groups map[uint32]*Group
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
	if opts.CacheBytes == 0 {
		opts.CacheBytes = tailBytes
	}
	l := &Log{dir: dir, opts: opts, cache: cache{limit: opts.CacheBytes}, witness: &witness{FS: opts.fs, dir: dir}}
	l.mu.groups = map[uint32]*Group{}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open log: %w", errors.Join(l.classify(err, "cannot be replayed"), l.unlock()))
	}
	return l, nil
}

func (l *Log) open() (err error) {
	defer recoverFatal(&err)
	if err := l.opts.fs.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	if l.lock, err = pebble.LockDirectory(l.dir, l.opts.fs); err != nil {
		return err
	}
	existing, err := l.inspect()
	if err != nil {
		return err
	}
	if l.db, err = l.openPebble(); err != nil {
		if existing && !fromSystem(err) {
			return &CorruptError{Dir: l.dir, Detail: "cannot be opened", Err: err}
		}
		return err
	}
	if existing {
		return nil
	}
	// The WAL of a new directory is begun before the format is raised, so without the marks that
	// tell a torn tail from damage. The next one has them.
	if err := l.db.Close(); err != nil {
		return err
	}
	l.db, err = l.openPebble()
	return err
}

// inspect tells whether there is a log in the directory, and refuses one that Pebble would take for a
// shorter one, or for none.
func (l *Log) inspect() (existing bool, err error) {
	wal, err := lastWAL(l.opts.fs, l.dir)
	if err != nil {
		return false, err
	}
	desc, err := pebble.Peek(l.dir, l.opts.fs) // refuses newer formats
	if err != nil {
		return false, err
	}
	if !desc.Exists && wal != "" {
		return false, &CorruptError{Dir: l.dir, Detail: "the manifest is missing"}
	}
	if desc.Exists {
		if err := l.witness.load(); err != nil {
			return true, err
		}
		if err := l.witness.check(l.opts.fs.PathBase(desc.ManifestFilename)); err != nil {
			return true, err
		}
	}
	return desc.Exists, checkTail(l.opts.fs, l.dir)
}

// fromSystem tells whether err says that the system refused something, rather than that what it
// returned makes no sense. A file that should be there and is not makes no sense.
func fromSystem(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist)
}

func (l *Log) openPebble() (*pebble.DB, error) {
	cache := pebble.NewCache(blockCacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS:     l.witness,
		Lock:   l.lock,
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
	if g := l.loaded(id); g != nil {
		return g, nil
	}
	l.opening.Lock()
	defer l.opening.Unlock()
	if g := l.loaded(id); g != nil {
		return g, nil
	}
	g := l.newGroup(id)
	if err := l.use(g.load); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.groups[id] = g
	return g, nil
}

// DropGroup deletes all that a group has written, its votes too, and syncs that. It reads nothing, so
// it also rids the log of a damaged group. Group values of it refuse to write from then on; Group
// begins an empty one. Errors: ErrFailed, ErrClosed.
func (l *Log) DropGroup(id uint32) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	g := l.loaded(id)
	if g == nil {
		g = l.newGroup(id)
	}
	if err := g.drop(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.groups, id)
	return nil
}

// loaded returns a group if there was a call for it before, nil otherwise.
func (l *Log) loaded(id uint32) *Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.groups[id]
}

// Close closes the log. It may be called more than once.
func (l *Log) Close() (err error) {
	if l.closed.Swap(true) {
		return nil
	}
	failed := l.failure.Load() != nil
	l.using.Lock()
	defer l.using.Unlock()
	defer recoverFatal(&err)
	if err := errors.Join(l.db.Close(), l.unlock()); err != nil && !failed {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

func (l *Log) unlock() error {
	if l.lock == nil {
		return nil
	}
	return l.lock.Close()
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
	if failure := l.failure.Load(); failure != nil {
		return *failure
	}
	if l.closed.Load() {
		return ErrClosed
	}
	return nil
}

// commit writes what is in batch, synced. stalled calls onStall.
func (l *Log) commit(batch *pebble.Batch, stalled *stallTimer) error {
	stalled.start()
	err := commit(batch)
	stalled.stop()
	if err != nil {
		return l.fail(err)
	}
	// Another writer's failure, or a stall, counts for this one too: nothing is acknowledged after
	// the first.
	return l.usable()
}

func (l *Log) onStall() { l.fail(ErrStalled) }

func commit(batch *pebble.Batch) (err error) {
	defer recoverFatal(&err)
	return batch.Commit(pebble.Sync)
}

// fail latches the log and returns the latched error.
func (l *Log) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if l.failure.CompareAndSwap(nil, &err) && l.opts.OnFailure != nil {
		l.opts.OnFailure(err)
	}
	return *l.failure.Load()
}

// classify turns Pebble's corruption errors into *CorruptError.
func (l *Log) classify(err error, detail string) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, record.ErrInvalidChunk) || errors.Is(err, record.ErrZeroedChunk) {
		return &CorruptError{Dir: l.dir, Detail: detail, Err: err}
	}
	return err
}
