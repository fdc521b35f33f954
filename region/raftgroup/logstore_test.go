package raftgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/topology"
)

// logFixture is one group's log, with entries 1 to 10 of term 2, and a state at some position.
type logFixture struct {
	logs      logStore
	machine   *testMachine
	conflicts int
}

func newLogFixture(t *testing.T, entries uint64, at region.Position) *logFixture {
	t.Helper()
	dir := t.TempDir()
	shared, err := raftlog.Open(filepath.Join(dir, "log"), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := shared.Group(0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := openMachine(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.store.Close(), shared.Close()); err != nil {
			t.Error(err)
		}
	})
	err = m.store.Update(func(kv replica.KV) error { return writeState(kv, &testState{position: at}) })
	if err := errors.Join(err, m.refresh()); err != nil {
		t.Fatal(err)
	}
	f := &logFixture{machine: m}
	f.logs = logStore{log, m, &logTail{}, func() { f.conflicts++ }}
	log.SetDurable(at.Index)
	for i := uint64(1); i <= entries; i++ {
		if err := f.logs.StoreLog(&raft.Log{Index: i, Term: 2, Data: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *logFixture) bounds(t *testing.T, first, last uint64) {
	t.Helper()
	if s := f.logs.log.Stats(); s.First != first || s.Last != last {
		t.Errorf("the log holds %d..%d, want %d..%d", s.First, s.Last, first, last)
	}
}

// After an install Raft forgets all of the log; acknowledged entries beyond the snapshot must stay.
func TestInstallForgetsOnlyWhatTheSnapshotContradicts(t *testing.T) {
	for name, c := range map[string]struct {
		at          region.Position
		first, last uint64
		conflict    bool
	}{
		"log ends before the snapshot":      {region.Position{Index: 20, Term: 3}, 0, 0, false},
		"log goes on after the snapshot":    {region.Position{Index: 6, Term: 2}, 1, 10, false},
		"log ends where the snapshot does":  {region.Position{Index: 10, Term: 2}, 1, 10, false},
		"log ends in another entry":         {region.Position{Index: 10, Term: 3}, 0, 0, true},
		"log has another entry and goes on": {region.Position{Index: 6, Term: 3}, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newLogFixture(t, 10, c.at)
			err := f.logs.DeleteRange(1, 10)
			if errors.Is(err, errConflict) != c.conflict || (f.conflicts == 1) != c.conflict {
				t.Fatalf("conflict: %v, told %d times", err, f.conflicts)
			}
			f.bounds(t, c.first, c.last)
		})
	}
}

func TestRaftTruncatesAndCuts(t *testing.T) {
	f := newLogFixture(t, 10, region.Position{Index: 6, Term: 2})
	if err := f.logs.DeleteRange(9, 10); err != nil {
		t.Fatal(err)
	}
	f.bounds(t, 1, 8)
	if err := f.logs.DeleteRange(1, 4); err != nil {
		t.Fatal(err)
	}
	f.bounds(t, 5, 8)
	if err := f.logs.DeleteRange(5, 7); !errors.Is(err, raftlog.ErrNotDurable) {
		t.Errorf("cut beyond the state: %v", err)
	}
	var l raft.Log
	if err := f.logs.GetLog(4, &l); err != raft.ErrLogNotFound { //nolint:errorlint // Raft compares like this
		t.Errorf("deleted entry: %v", err)
	}
	if err := f.logs.GetLog(8, &l); err != nil || l.Index != 8 || l.Term != 2 || string(l.Data) != "8" {
		t.Errorf("entry: %+v, %v", l, err)
	}
}

// A crash between installing a snapshot and forgetting the log before it must not stop the member.
func TestStartAfterAHalfDoneInstall(t *testing.T) {
	f := newLogFixture(t, 10, region.Position{Index: 20, Term: 3})
	if conflict, err := f.logs.discardStale(f.machine.Position()); conflict || err != nil {
		t.Fatal(conflict, err)
	}
	f.bounds(t, 0, 0)
	if err := f.logs.StoreLog(&raft.Log{Index: 21, Term: 3}); err != nil {
		t.Fatal(err)
	}
}

func TestBootstrapIsFinishedAfterACrash(t *testing.T) {
	c := &Config{Self: "n1", Members: []topology.NodeID{"n1"}}
	for name, given := range map[string]struct {
		term, vote uint64
		want       error
	}{
		"half done": {1, 0, nil}, "voted": {1, 1, errLogLost}, "later": {5, 0, errLogLost},
	} {
		f := newLogFixture(t, 0, region.Position{})
		stable := stableStore{f.logs.log}
		err := errors.Join(stable.SetUint64([]byte("CurrentTerm"), given.term), stable.SetUint64([]byte("LastVoteTerm"), given.vote))
		if err != nil {
			t.Fatal(err)
		}
		c.Log, c.Machine = f.logs.log, f.machine
		g := &Group{logs: f.logs, snapshots: &snapshotStore{machine: f.machine}}
		if err := g.bootstrap(c); !errors.Is(err, given.want) {
			t.Errorf("%s: %v", name, err)
		}
		var l raft.Log
		if err := f.logs.GetLog(1, &l); given.want == nil && (err != nil || l.Type != raft.LogConfiguration || l.Term != 1) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
}

func TestTrailingEntriesAreBoundedInBytes(t *testing.T) {
	for _, c := range []struct{ count, bytes, want uint64 }{
		{100, 0, trailingEntries},
		{10_000, 10_000 * 100, trailingEntries},
		{1000, 1000 * 128 << 10, 512},
		{1000, 1000 * 4 << 20, trailingEntriesMin},
	} {
		if got := trailing(raftlog.Stats{First: 1, Last: c.count, Bytes: c.bytes}); got != c.want {
			t.Errorf("%d entries of %d bytes: keep %d, want %d", c.count, c.bytes, got, c.want)
		}
	}
}
