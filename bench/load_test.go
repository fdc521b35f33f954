package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/bench/figures"
)

// fakeDriver is a store in memory.
type fakeDriver struct {
	mu     sync.Mutex
	values map[string][]byte
	before func() error                   // an operation's own fault
	old    map[string][]byte              // what was overwritten
	serve  func(value, old []byte) []byte // which of the two a read returns
}

func newFake() *fakeDriver {
	return &fakeDriver{values: map[string][]byte{}, old: map[string][]byte{}}
}

func (f *fakeDriver) put(_ context.Context, _ int, key string, value []byte) error {
	if f.before != nil {
		if err := f.before(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.old[key] = f.values[key]
	f.values[key] = append([]byte(nil), value...)
	return nil
}

func (f *fakeDriver) get(_ context.Context, _ int, key string, _ bool) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.values[key] == nil {
		return nil, errNotFound
	}
	if f.serve != nil {
		return f.serve(f.values[key], f.old[key]), nil
	}
	return f.values[key], nil
}

func (f *fakeDriver) load(ctx context.Context, keys []string, values [][]byte) error {
	for i, key := range keys {
		if err := f.put(ctx, 0, key, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeDriver) close() error { return nil }

func quick() *settings {
	return &settings{warmup: 20 * time.Millisecond, measure: 200 * time.Millisecond}
}

func nothing(context.Context) error { return nil }

// play1 runs a round against a fake whose every key was written once.
func play1(t *testing.T, f *fakeDriver, work figures.Work) (*load, figures.Sample) {
	t.Helper()
	k := newKeySpace(1000, 256)
	if err := fill(t.Context(), f, k); err != nil {
		t.Fatal(err)
	}
	l := newLoad(figures.Row{Work: work, Bytes: 256, Clients: 8}, f, k)
	s, err := l.run(t.Context(), quick(), []int{os.Getpid()}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func TestEveryWorkIsMeasuredAndVerified(t *testing.T) {
	for _, work := range []figures.Work{figures.Put, figures.Get, figures.Eventual, figures.Mix} {
		f := newFake()
		l, s := play1(t, f, work)
		if s.Ops < 100 || s.Errors != 0 || s.Wrong != 0 || s.Seconds < 0.2 || s.Latency(50) <= 0 || s.ServerCPU <= 0 {
			t.Errorf("%s: %+v, %v", work, s, l.errs.first)
		}
		if wrong, err := readBack(t.Context(), f, l.keys, false); wrong != 0 {
			t.Errorf("%s: %d values read back are wrong: %v", work, wrong, err)
		}
	}
}

func TestErrorsAreCountedAndNotTakenForOperations(t *testing.T) {
	f := newFake()
	k := newKeySpace(1000, 256)
	refused := errors.New("refused")
	f.before = func() error { return refused }
	l := newLoad(figures.Row{Work: figures.Put, Bytes: 256, Clients: 8}, f, k)
	s, err := l.run(t.Context(), quick(), []int{os.Getpid()}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if s.Ops != 0 || s.Errors < 8 || len(l.errs.first) != shownErrors || !errors.Is(l.errs.first[0], refused) {
		t.Errorf("%+v, %v", s, l.errs.first)
	}
}

func TestStaleReadsAreFound(t *testing.T) {
	f := newFake()
	f.serve = func(value, old []byte) []byte {
		if old != nil {
			return old
		}
		return value
	}
	l, s := play1(t, f, figures.Mix)
	if s.Wrong == 0 || !errors.Is(errors.Join(l.errs.first...), errStale) {
		t.Errorf("%d wrong reads, %v", s.Wrong, l.errs.first)
	}
	if wrong, err := readBack(t.Context(), f, l.keys, false); wrong == 0 || !errors.Is(err, errStale) {
		t.Errorf("%d wrong values read back, %v", wrong, err)
	}
}

func TestLostWritesAreFound(t *testing.T) {
	f := newFake()
	l, _ := play1(t, f, figures.Put)
	for key := range f.values {
		delete(f.values, key)
	}
	if wrong, err := readBack(t.Context(), f, l.keys, false); wrong == 0 || !errors.Is(err, errNotFound) {
		t.Errorf("%d wrong values read back, %v", wrong, err)
	}
}

func TestFirstValuesAreTriedAgain(t *testing.T) {
	f := newFake()
	refusals := loadTries - 1
	f.before = func() error {
		if refusals == 0 {
			return nil
		}
		refusals--
		return errors.New("not now")
	}
	k := newKeySpace(1, 256)
	if err := fill(t.Context(), f, k); err != nil || k.acknowledged(0) != 1 {
		t.Errorf("%d acknowledged, %v", k.acknowledged(0), err)
	}
	refusals = loadTries
	if err := fill(t.Context(), f, k); err == nil {
		t.Error("it is tried for ever")
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := newLoad(figures.Row{Work: figures.Put, Bytes: 256, Clients: 8}, newFake(), newKeySpace(1000, 256))
	if _, err := l.run(ctx, quick(), []int{os.Getpid()}, nothing); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
