package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/atolldb/atoll/crdt/replica"
)

// Large values are not among the small ones, whose pages are rewritten with every change.
func TestLargeValuesAreApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path, Options{Buffer: true})
	large := strings.Repeat("x", 100_000)
	for i := range 20 {
		put(t, s, fmt.Sprintf("k%02d", i), "small", fmt.Sprintf("k%02d-large", i), large)
	}
	flush(t, s)
	inuse := func() (small, apart int) {
		err := s.mu.current.db.View(func(tx *bbolt.Tx) error {
			small = tx.Bucket([]byte(bucketName)).Stats().LeafInuse
			apart = tx.Bucket([]byte(largeName)).Stats().LeafInuse
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return small, apart
	}
	if small, apart := inuse(); small > 4000 || apart < 20*len(large) {
		t.Fatalf("%d bytes with small values, %d apart", small, apart)
	}
	// What becomes small or absent leaves nothing behind.
	for i := range 20 {
		err := s.Update(func(kv replica.KV) error {
			key := fmt.Appendf(nil, "k%02d-large", i)
			if i%2 == 0 {
				return kv.Put(key, []byte("s"))
			}
			return kv.Delete(key)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	flush(t, s)
	if _, apart := inuse(); apart > 1000 {
		t.Fatalf("%d bytes are left apart", apart)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, open(t, path, Options{})); strings.Count(got, "=s ") != 10 {
		t.Fatalf("after reopening: %q", got)
	}
}

// rewrite changes a closed store's file behind its back.
func rewrite(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// Both halves of a large value are intact in each case, but they are not of one write.
func TestMismatchedLargeValuesAreCorrupt(t *testing.T) {
	key := []byte("key")
	other := appendRecord(nil, key, []byte(strings.Repeat("y", 5000)))
	for name, change := range map[string]func(tx *bbolt.Tx) error{
		"missing":      func(tx *bbolt.Tx) error { return tx.Bucket([]byte(largeName)).Delete(key) },
		"another":      func(tx *bbolt.Tx) error { return tx.Bucket([]byte(largeName)).Put(key, other) },
		"unreferenced": func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketName)).Delete(key) },
		"chained": func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(largeName)).Put(key, appendReference(nil, key, other))
		},
	} {
		path := filepath.Join(t.TempDir(), "s")
		s := open(t, path, Options{})
		put(t, s, "key", strings.Repeat("x", 5000))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		rewrite(t, path, change)
		if _, err := Open(path, Options{}); !corrupt(err) {
			t.Fatalf("%s: opened with %v", name, err)
		}
		if name == "unreferenced" {
			continue
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := (&Store{path: path}).begin(&handle{db: db}, false)
		if err != nil {
			t.Fatal(err)
		}
		if value, _, err := b.get(key); !corrupt(err) {
			t.Errorf("%s: read %d bytes, %v", name, len(value), err)
		}
		if err := errors.Join(b.rollback(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOlderLayoutIsRefusedByName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte("atoll/1"))
			return err
		}))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !corrupt(err) || !strings.Contains(err.Error(), "atoll/1") {
		t.Fatalf("got %v", err)
	}
}

func TestScrubReadsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failure error
		path, _ := sample(t)
		s := open(t, path, Options{OnFailure: func(err error) { failure = err }})
		began := time.Now()
		if err := s.Scrub(t.Context(), 10_000); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 3*time.Second || took > 10*time.Second {
			t.Fatalf("about 40 kB at 10 kB/s took %v", took)
		}
		f, whole := openRaw(t, path)
		at := strings.LastIndex(string(whole), strings.Repeat("x", 20_000))
		if _, err := f.WriteAt([]byte("y"), int64(at)+10_000); err != nil {
			t.Fatal(err)
		}
		if err := s.Scrub(t.Context(), 1<<40); !corrupt(err) || !corrupt(failure) {
			t.Fatalf("damaged file: %v, reported %v", err, failure)
		}
		if err := s.View(func(replica.KV) error { return nil }); !errors.Is(err, ErrFailed) {
			t.Fatalf("view of a damaged file: %v", err)
		}
	})
}

// openRaw opens a store's file behind its back.
func openRaw(t *testing.T, path string) (*os.File, []byte) {
	t.Helper()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, whole
}

// A branch that leads reads astray shows every key to a scan, in order.
func TestScrubFindsKeysThatReadsMiss(t *testing.T) {
	path, _ := sample(t)
	s := open(t, path, Options{})
	f, whole := openRaw(t, path)
	moved := 0
	for at := 0; at+headerBytes < len(whole); at += os.Getpagesize() {
		page, err := parse(whole[at:at+os.Getpagesize()], uint64(at/os.Getpagesize()))
		if err != nil || page.flags != flagBranch || page.count < 3 {
			continue
		}
		key, _, err := page.branch(1)
		if err != nil {
			t.Fatal(err)
		}
		key[len(key)-2]++ // shares the page's memory
		moved++
	}
	if _, err := f.WriteAt(whole, 0); err != nil || moved == 0 {
		t.Fatalf("%d branches changed, %v", moved, err)
	}
	if err := s.Verify(); err != nil {
		t.Fatalf("a scan finds it already: %v", err)
	}
	if err := s.Scrub(t.Context(), 1<<40); !corrupt(err) {
		t.Fatalf("got %v", err)
	}
}

func TestScrubEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, filepath.Join(t.TempDir(), "s"), Options{})
		put(t, s, "a", strings.Repeat("x", scrubBytes), "b", "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := s.Scrub(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
}
