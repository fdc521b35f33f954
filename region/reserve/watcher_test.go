package reserve

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDisk = errors.New("injected")

// disk says how much is free; errDisk if that is negative.
type disk struct{ free atomic.Int64 }

func (d *disk) read(string) (uint64, error) {
	if free := d.free.Load(); free >= 0 {
		return uint64(free), nil
	}
	return 0, errDisk
}

// The disk is low below the minimum, and fine again only at a quarter more; each change is logged once.
func TestLowHasHysteresis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d disk
		var log strings.Builder
		d.free.Store(1000)
		w, err := New(Config{MinBytes: 1000, Free: d.read, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		for i, step := range []struct {
			free int64
			low  bool
			logs int
		}{
			{1000, false, 0}, {999, true, 1}, {10, true, 1}, {1249, true, 1}, {1250, false, 2}, {1000, false, 2},
			{-1, false, 3}, {-1, false, 3}, {5, true, 4}, {-1, true, 5}, {2000, false, 6},
		} {
			d.free.Store(step.free)
			advance(2 * interval)
			if w.Low() != step.low {
				t.Errorf("step %d: low is %v with %d free", i, w.Low(), step.free)
			}
			if logs := strings.Count(log.String(), "\n"); logs != step.logs {
				t.Errorf("step %d: %d log lines, want %d:\n%s", i, logs, step.logs, log.String())
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// advance lets a bubble's clock run.
func advance(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestNewKnowsAtOnce(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	w, err := New(Config{Dir: t.TempDir(), MinBytes: 1 << 62, Logger: logger})
	if err != nil || !w.Low() {
		t.Fatalf("a disk has 4 EiB free: %v", err)
	}
	if w, err = New(Config{Dir: t.TempDir(), MinBytes: 1, Logger: logger}); err != nil || w.Low() {
		t.Fatalf("a byte is free: %v", err)
	}
	if _, err := New(Config{Dir: filepath.Join(t.TempDir(), "absent"), Logger: logger}); err == nil {
		t.Fatal("a directory that is not there has free space")
	}
}
