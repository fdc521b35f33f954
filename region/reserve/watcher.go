package reserve

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"
)

// interval is how often the free space is read. What is written between two readings is what MinBytes
// must have room for.
const interval = 500 * time.Millisecond

// Config is what a watcher needs.
type Config struct {
	Dir string
	// MinBytes is the free space under which the disk is low. It is low until there is a quarter more,
	// so that it does not change to and fro.
	MinBytes uint64
	// Free returns how much of a directory's disk is free to this process; nil asks the system.
	Free   func(dir string) (bytes uint64, err error)
	Logger *slog.Logger
}

// Watcher knows whether a disk is low. It is safe for concurrent use.
type Watcher struct {
	cfg Config
	low atomic.Bool
}

// New reads the free space once; Run keeps reading it.
func New(c Config) (*Watcher, error) {
	if c.Free == nil {
		c.Free = statfs
	}
	w := &Watcher{cfg: c}
	if err := w.look(); err != nil {
		return nil, fmt.Errorf("read free space: %w", err)
	}
	return w, nil
}

// Low tells whether there is too little space for writes, as of the last reading that succeeded.
func (w *Watcher) Low() bool { return w.low.Load() }

// Run reads the free space every half second until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	blind := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := w.look()
		if err != nil && !blind {
			w.cfg.Logger.Warn("free space cannot be read", "dir", w.cfg.Dir, "err", err)
		}
		blind = err != nil
	}
}

// look reads the free space and logs a change.
func (w *Watcher) look() error {
	free, err := w.cfg.Free(w.cfg.Dir)
	if err != nil {
		return err
	}
	low := w.low.Load()
	switch {
	case !low && free < w.cfg.MinBytes:
		w.low.Store(true)
		w.cfg.Logger.Error("the disk is nearly full: writes are refused until there is space",
			"dir", w.cfg.Dir, "free_bytes", free, "min_bytes", w.cfg.MinBytes)
	case low && free >= w.cfg.MinBytes+w.cfg.MinBytes/4:
		w.low.Store(false)
		w.cfg.Logger.Info("the disk has space again: writes are accepted", "dir", w.cfg.Dir, "free_bytes", free)
	}
	return nil
}

func statfs(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
