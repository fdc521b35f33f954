package store

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

// damages is how often the campaigns damage a file.
var damages = flag.Int("damages", 200, "how often the campaigns damage a file")

// broken returns a copy of a file with one thing broken.
func broken(rng *rand.Rand, whole []byte) (b []byte, what string) {
	b = slices.Clone(whole)
	page := os.Getpagesize()
	at := rng.IntN(len(b))
	switch rng.IntN(8) {
	case 0:
		return b[:at], fmt.Sprintf("cut at %d", at)
	case 1:
		from := at / page * page
		clear(b[from : from+page])
		return b, fmt.Sprintf("zeros in page %d", at/page)
	case 2:
		other := rng.IntN(len(b)) / page * page
		copy(b[at/page*page:][:page], whole[other:])
		return b, fmt.Sprintf("page %d in the place of %d", other/page, at/page)
	case 3:
		for i := range min(1+rng.IntN(600), len(b)-at) {
			b[at+i] = byte(rng.Uint32())
		}
		return b, fmt.Sprintf("noise at %d", at)
	default:
		bit := rng.IntN(8)
		b[at] ^= 1 << bit
		return b, fmt.Sprintf("bit %d of byte %d, page %d", bit, at, at/page)
	}
}

// Whatever is broken in a state file or in a snapshot that is installed, it is reported or without
// effect on what is read.
func TestDamageIsNeverServed(t *testing.T) {
	path, content := sample(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	into := open(t, path+".into", Options{})
	put(t, into, "old", "state")
	old := dumpStore(t, into)
	reported := 0
	for range *damages {
		b, what := broken(rng, whole)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err != nil {
			if !corrupt(err) {
				t.Fatalf("%s: %v", what, err)
			}
			reported++
			if err := into.Install(path, nil); !corrupt(err) {
				t.Fatalf("%s: refused at open and installed: %v", what, err)
			}
			if got := dumpStore(t, into); got != old {
				t.Fatalf("%s: a refused snapshot changed the state", what)
			}
			continue
		}
		// A damaged meta page falls back to the one before: the state before the last commit, which
		// in the sample is the same.
		if got := dumpStore(t, s); got != content {
			t.Fatalf("%s: served something else", what)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if reported < *damages/3 {
		t.Fatalf("only %d of %d damages reported", reported, *damages)
	}
}

// The same under a running store, where no check of the whole file helps: values are right or an
// error. What a read that is led astray by a damaged branch misses, Scrub finds.
func TestDamageUnderARunningStoreIsNeverServed(t *testing.T) {
	path, _ := sample(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	want := map[string]string{}
	err = s.View(func(kv replica.KV) error {
		return kv.Scan(nil, nil, func(key, value []byte) (bool, error) {
			want[string(key)] = string(value)
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	f, _ := openRaw(t, path)
	rng := rand.New(rand.NewPCG(5, 6))
	reported := 0
	for range *damages {
		b, what := broken(rng, whole)
		if len(b) != len(whole) {
			continue
		}
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			err := s.View(func(kv replica.KV) error {
				got, ok, err := kv.Get([]byte(key))
				if err == nil && ok && string(got) != value {
					t.Fatalf("%s: key %q has another value", what, key)
				}
				return err
			})
			if errors.Is(err, ErrFailed) {
				t.Fatalf("%s: the store stopped, and nothing is tested any more", what)
			}
			if err != nil {
				reported++
			}
		}
	}
	if reported < *damages {
		t.Fatalf("only %d errors after %d damages", reported, *damages)
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
