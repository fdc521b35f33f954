package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
)

// sample makes a store file with branches, small and large values, and a few free pages.
func sample(t *testing.T) (path, content string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	s := open(t, path, Options{})
	for round := range 2 {
		var pairs []string
		for i := range 300 {
			pairs = append(pairs, fmt.Sprintf("key-%04d", i), strings.Repeat(string(rune('a'+round)), 20+i%50))
		}
		pairs = append(pairs, "large", strings.Repeat("x", 20_000))
		put(t, s, pairs...)
	}
	content = dumpStore(t, s)
	compact := path + ".compact" // without the room to grow
	export(t, s, compact)
	if err := errors.Join(s.Close(), os.Rename(compact, path)); err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestTruncatedFileIsCorrupt(t *testing.T) {
	path, _ := sample(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 0; size < len(whole); size += 1000 {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); !corrupt(err) {
			t.Fatalf("size %d: %v", size, err)
		}
	}
}

// Every flipped bit is either reported or without effect on what is read.
func TestFlippedBitsAreNeverServed(t *testing.T) {
	path, content := sample(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	reported := 0
	const flips = 600
	for range flips {
		bit := rng.IntN(len(whole) * 8)
		whole[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		whole[bit/8] ^= 1 << (bit % 8)
		s, err := Open(path, Options{})
		if err != nil {
			if !corrupt(err) {
				t.Fatalf("bit %d: %v", bit, err)
			}
			reported++
			continue
		}
		// A damaged meta page falls back to the one before: the state before the last commit.
		got := dumpStore(t, s)
		if got != content && !(bit/8 < 2*os.Getpagesize() && strings.Count(got, "=") == 301) {
			t.Fatalf("bit %d of page %d: served something else", bit, bit/8/os.Getpagesize())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if reported < flips/20 {
		t.Fatalf("only %d of %d flips reported", reported, flips)
	}
}

// Damage that comes while the file is open is met by the read that touches it.
func TestDamageUnderARunningStore(t *testing.T) {
	path, _ := sample(t)
	s := open(t, path, Options{})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(whole), strings.Repeat("x", 20_000))
	if _, err := f.WriteAt([]byte("y"), int64(at)+10_000); err != nil {
		t.Fatal(err)
	}
	get := func(key string) error {
		return s.View(func(kv replica.KV) error {
			_, _, err := kv.Get([]byte(key))
			return err
		})
	}
	if err := get("large"); !corrupt(err) {
		t.Fatalf("flipped value: %v", err)
	}
	if err := get("key-0001"); err != nil {
		t.Fatalf("another value: %v", err)
	}
	if err := s.Verify(); !corrupt(err) {
		t.Fatalf("verify: %v", err)
	}
	// A write that depends on the damaged value must not commit, even if it ignores the error.
	err = s.Update(func(kv replica.KV) error {
		kv.Get([]byte("large"))
		return kv.Put([]byte("key-0001"), []byte("derived"))
	})
	if !corrupt(err) {
		t.Fatalf("update: %v", err)
	}
	// Truncation under the map is a fault on access, not a crash.
	if err := f.Truncate(int64(2 * os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := get("key-0001"); !corrupt(err) {
		t.Fatalf("truncated file: %v", err)
	}
	if err := s.Update(func(kv replica.KV) error { return kv.Put([]byte("k"), nil) }); !corrupt(err) {
		t.Fatalf("update of a truncated file: %v", err)
	}
}

func TestForeignFilesAreCorrupt(t *testing.T) {
	for name, content := range map[string]string{
		"short": "x", "text": strings.Repeat("not a database ", 10_000), "zeros": strings.Repeat("\x00", 65536),
	} {
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Options{}); !corrupt(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
