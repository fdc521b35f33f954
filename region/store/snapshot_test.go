package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
)

// export writes a snapshot of s to a file.
func export(t *testing.T, s *Store, path string) {
	t.Helper()
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	var b bytes.Buffer
	n, err := snap.WriteTo(&b)
	if err != nil || n != snap.Size() || n != int64(b.Len()) {
		t.Fatalf("wrote %d (%d), size %d, %v", n, b.Len(), snap.Size(), err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotIsOneInstant(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{})
	put(t, s, "a", "1")
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "2", "b", "2")
	if got := dump(t, snap.KV(), nil, nil); got != "a=1 " {
		t.Fatalf("snapshot shows %q", got)
	}
	if err := errors.Join(snap.Close(), snap.Close()); err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, s); got != "a=2 b=2 " {
		t.Fatalf("store shows %q", got)
	}
}

func TestInstallReplacesTheState(t *testing.T) {
	dir := t.TempDir()
	from, to := open(t, filepath.Join(dir, "from"), Options{}), open(t, filepath.Join(dir, "to"), Options{})
	put(t, from, "new", "1")
	put(t, to, "old", "1")
	before, err := to.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	temp := filepath.Join(dir, "temp")
	export(t, from, temp)
	if err := to.Install(temp, func(kv replica.KV) error {
		if got := dump(t, kv, nil, nil); got != "new=1 " {
			t.Errorf("accept saw %q", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, before.KV(), nil, nil); got != "old=1 " {
		t.Errorf("earlier snapshot shows %q", got)
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, to, "more", "2")
	if got := dumpStore(t, to); got != "more=2 new=1 " {
		t.Fatalf("installed: %q", got)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, open(t, filepath.Join(dir, "to"), Options{})); got != "more=2 new=1 " {
		t.Fatalf("reopened: %q", got)
	}
}

func TestInstallRefusesAndConsumes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "s"), Options{})
	put(t, s, "a", "needle")
	temp := filepath.Join(dir, "temp")
	older := errors.New("older")
	for name, c := range map[string]struct {
		spoil  func(b []byte) []byte
		accept func(replica.KV) error
		is     func(error) bool
	}{
		"refused":   {func(b []byte) []byte { return b }, func(replica.KV) error { return older }, func(err error) bool { return errors.Is(err, older) }},
		"truncated": {func(b []byte) []byte { return b[:len(b)-1] }, nil, corrupt},
		"empty":     {func([]byte) []byte { return nil }, nil, corrupt},
		"flipped":   {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("needle"), []byte("noodle")) }, nil, corrupt},
	} {
		export(t, s, temp)
		b, err := os.ReadFile(temp)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(temp, c.spoil(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Install(temp, c.accept); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(temp); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the file is still there", name)
		}
		if got := dumpStore(t, s); got != "a=needle " {
			t.Errorf("%s: state is now %q", name, got)
		}
	}
}

func corrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}
