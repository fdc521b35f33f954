package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
)

func open(t *testing.T, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *Store, pairs ...string) {
	t.Helper()
	err := s.Update(func(kv replica.KV) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := kv.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dump returns the pairs of [start, end) as one string.
func dump(t *testing.T, kv replica.KV, start, end []byte) string {
	t.Helper()
	var b bytes.Buffer
	err := kv.Scan(start, end, func(k, v []byte) (bool, error) {
		fmt.Fprintf(&b, "%s=%s ", k, v)
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func dumpStore(t *testing.T, s *Store) (out string) {
	t.Helper()
	err := s.View(func(kv replica.KV) error {
		out = dump(t, kv, nil, nil)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadsWritesAndScansInOrder(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{})
	put(t, s, "b", "2", "a", "1", "c", "", "d", "4")
	err := s.Update(func(kv replica.KV) error {
		if v, ok, err := kv.Get([]byte("c")); err != nil || !ok || len(v) != 0 {
			t.Errorf("empty value: %q %v %v", v, ok, err)
		}
		if err := kv.Delete([]byte("absent")); err != nil {
			t.Error(err)
		}
		return kv.Delete([]byte("d"))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(func(kv replica.KV) error {
		if _, ok, err := kv.Get([]byte("d")); ok || err != nil {
			t.Errorf("deleted key: %v %v", ok, err)
		}
		if got := dump(t, kv, []byte("b"), nil); got != "b=2 c= " {
			t.Errorf("scan from b: %q", got)
		}
		if got := dump(t, kv, nil, []byte("b")); got != "a=1 " {
			t.Errorf("scan to b: %q", got)
		}
		visits := 0
		err := kv.Scan(nil, nil, func(_, _ []byte) (bool, error) { visits++; return false, nil })
		if visits != 1 || err != nil {
			t.Errorf("stopped scan: %d visits, %v", visits, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestClosedStoresReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p", "state.db")
	s := open(t, path, Options{})
	put(t, s, "a", "1", "b", "")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.View(func(replica.KV) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Fatalf("view after close: %v", err)
	}
	if got := dumpStore(t, open(t, path, Options{})); got != "a=1 b= " {
		t.Fatalf("after reopening: %q", got)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{})
	put(t, s, "a", "1")
	refusal := errors.New("refused")
	err := s.Update(func(kv replica.KV) error {
		if err := kv.Put([]byte("a"), []byte("2")); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	// A swallowed storage error must not commit the rest either.
	err = s.Update(func(kv replica.KV) error {
		if err := kv.Put([]byte("big"), make([]byte, maxValueBytes+1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("oversized value: %v", err)
		}
		return kv.Put([]byte("a"), []byte("3"))
	})
	if !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the caller's panic was swallowed")
			}
		}()
		_ = s.Update(func(kv replica.KV) error {
			_ = kv.Put([]byte("a"), []byte("4"))
			panic("caller")
		})
	}()
	if got := dumpStore(t, s); got != "a=1 " {
		t.Fatalf("got %q", got)
	}
}

func TestLockedFileIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	open(t, path, Options{})
	if _, err := Open(path, Options{LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v", err)
	}
}

// A disk that fills up must stop the store at once and for good, and say so once.
func TestFirstFailedCommitLatches(t *testing.T) {
	var failures []error
	var file *os.File
	opts := Options{
		OnFailure: func(err error) { failures = append(failures, err) },
		opened:    func(f *os.File) { file = f },
	}
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path, opts)
	put(t, s, "a", "1")

	good, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := syscall.Dup3(int(full.Fd()), int(file.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(kv replica.KV) error { return kv.Put([]byte("a"), []byte("2")) })
	if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("commit on a full disk: %v", err)
	}
	// The disk has room again; what is in the file is still not known.
	if err := syscall.Dup3(good, int(file.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(good); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(replica.KV) error { return nil }); !errors.Is(err, ErrFailed) {
		t.Fatalf("update after failure: %v", err)
	}
	if err := s.View(func(replica.KV) error { return nil }); !errors.Is(err, ErrFailed) {
		t.Fatalf("view after failure: %v", err)
	}
	if len(failures) != 1 {
		t.Fatalf("%d failures reported", len(failures))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, open(t, path, Options{})); got != "a=1 " {
		t.Fatalf("after reopening: %q", got)
	}
}

func TestManyKeysOfAllSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path, Options{})
	for round := range 5 {
		err := s.Update(func(kv replica.KV) error {
			for i := range 400 {
				size := (i * 37) % 3000
				if i%97 == 0 {
					size = 200_000
				}
				if err := kv.Put(fmt.Appendf(nil, "key-%d-%d", i, round), bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					return err
				}
				if i%5 == 0 && round > 0 {
					if err := kv.Delete(fmt.Appendf(nil, "key-%d-%d", i, round-1)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path, Options{}).Verify(); err != nil {
		t.Fatal(err)
	}
}
