package raftgroup

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/region"
)

// Two transfers at once take as long as one of both their bytes.
func TestTransfersShareTheirBudget(t *testing.T) {
	s := &sends{budget: NewBudget(4 << 20), logger: slog.New(slog.DiscardHandler)}
	data := bytes.Repeat([]byte{1}, 1<<20)
	var sending sync.WaitGroup
	began := time.Now()
	for range 2 {
		sending.Go(func() {
			one := s.begin("peer", int64(len(data)), bytes.NewReader(data))
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{one}, make([]byte, 64<<10))
			if n != int64(len(data)) || err != nil || one.sent.Load() != n {
				t.Errorf("%d bytes, %d counted: %v", n, one.sent.Load(), err)
			}
			one.end(nil)
		})
	}
	sending.Wait()
	if took := time.Since(began); took < 450*time.Millisecond {
		t.Errorf("2 MiB at 4 MiB/s took %v", took)
	}
	if left := s.list(); len(left) != 0 {
		t.Errorf("still on their way: %v", left)
	}
}

func TestTransfersAreTold(t *testing.T) {
	s := &sends{budget: NewBudget(0), logger: slog.New(slog.DiscardHandler)}
	one := s.begin("b", 10, bytes.NewReader(make([]byte, 10)))
	two := s.begin("a", 5, bytes.NewReader(make([]byte, 5)))
	if _, err := one.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	want := []Transfer{{"a", 0, 5}, {"b", 4, 10}}
	if got := s.list(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
	one.end(nil)
	two.end(io.ErrUnexpectedEOF)
}

// A node opens no more snapshots at once than it may, whatever becomes of them.
func TestSnapshotsAtOnceAreBounded(t *testing.T) {
	f := newLogFixture(t, 1, region.Position{Index: 1, Term: 2})
	s := &snapshotStore{machine: f.machine, budget: NewBudget(0)}
	var open []io.Closer
	for range transfersAtOnce {
		_, r, err := s.Open("state")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
	}
	if _, _, err := s.Open("state"); !errors.Is(err, errTransfersFull) {
		t.Errorf("one more: %v", err)
	}
	for range 2 { // closing twice gives back one place
		if err := open[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
	meta, r, err := s.Open("state")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, r); n != meta.Size || err != nil {
		t.Errorf("%d of %d bytes: %v", n, meta.Size, err)
	}
	if _, _, err := s.Open("state"); !errors.Is(err, errTransfersFull) {
		t.Errorf("closing twice gave back two places: %v", err)
	}
	for _, c := range append(open[1:], r) {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSnapshotThatCannotBeOpenedKeepsNoPlace(t *testing.T) {
	f := newLogFixture(t, 1, region.Position{Index: 1, Term: 2})
	s := &snapshotStore{machine: f.machine, budget: NewBudget(0)}
	if err := f.machine.store.Close(); err != nil {
		t.Fatal(err)
	}
	for range transfersAtOnce + 1 {
		if _, _, err := s.Open("state"); err == nil || errors.Is(err, errTransfersFull) {
			t.Errorf("snapshot of a closed store: %v", err)
		}
	}
}
