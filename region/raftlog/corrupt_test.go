package raftlog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func isCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}

// readAll returns the first error met in opening dir and reading all of group 1, and the last index.
func readAll(t *testing.T, dir string) (last uint64, err error) {
	t.Helper()
	l, err := Open(dir, Options{OnFailure: func(error) {}})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	g, err := l.Group(1)
	if err != nil {
		return 0, err
	}
	for _, want := range entries(1, 1, g.LastIndex()) {
		got, err := g.Entry(want.Index)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(got.Data, want.Data) || got.Term != want.Term {
			t.Fatalf("entry %d was served damaged", want.Index)
		}
	}
	return g.LastIndex(), nil
}

// written makes a log of 200 entries in many appends and returns its directory.
func written(t *testing.T, flush bool) string {
	t.Helper()
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	g := openGroup(t, l, 1)
	for i := uint64(1); i <= 200; i += 4 {
		if err := g.Append(entries(1, i, i+3)); err != nil {
			t.Fatal(err)
		}
	}
	if flush {
		if err := l.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func damageEach(t *testing.T, dir, suffix string, tries int, check func(whole, damaged []byte, last uint64, err error)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s file: %v", suffix, err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, name := range files {
		whole, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(whole, []byte("group 1 entry")) {
			continue
		}
		for range tries {
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			damaged := bytes.Clone(whole)
			bit := rng.IntN(len(damaged) * 8)
			damaged[bit/8] ^= 1 << (bit % 8)
			if err := os.WriteFile(filepath.Join(copied, filepath.Base(name)), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			last, err := readAll(t, copied)
			check(whole[:bit/8], damaged, last, err)
		}
	}
}

// A flipped bit in the write-ahead log is reported, unless it is in one of the last two records, of
// four entries each, which may be taken for torn: then everything before it is there.
func TestFlippedBitsInTheWALAreReported(t *testing.T) {
	reported := 0
	damageEach(t, written(t, false), ".log", 60, func(before, _ []byte, last uint64, err error) {
		if err != nil {
			if !isCorrupt(err) {
				t.Fatalf("not a typed error: %v", err)
			}
			reported++
			return
		}
		if last == 200 { // the bit was in padding
			return
		}
		if last < 192 {
			t.Fatalf("a flip after %d bytes cut the log to %d without an error", len(before), last)
		}
	})
	if reported < 30 {
		t.Fatalf("only %d of 60 reported", reported)
	}
}

func TestFlippedBitsInTablesAreReported(t *testing.T) {
	reported := 0
	damageEach(t, written(t, true), ".sst", 60, func(before, _ []byte, last uint64, err error) {
		switch {
		case err == nil && last != 200:
			t.Fatalf("a flip after %d bytes cut the log to %d without an error", len(before), last)
		case err != nil && !isCorrupt(err):
			t.Fatalf("not a typed error: %v", err)
		case err != nil:
			reported++
		}
	})
	if reported < 30 {
		t.Fatalf("only %d of 60 reported", reported)
	}
}

// Pebble's own checksums end at its interface; ours covers key and record from end to end.
func TestRecordsOfAnotherKeyAreRefused(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{CacheBytes: 1})
	g := openGroup(t, l, 1)
	if err := g.Append(entries(1, 1, 3)); err != nil {
		t.Fatal(err)
	}
	if err := g.Set([]byte("a"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	swap := func(from, to []byte) {
		t.Helper()
		record, err := g.get(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.db.Set(to, record, nil); err != nil {
			t.Fatal(err)
		}
	}
	swap(entryKey(1, 1), entryKey(1, 2))
	swap(g.stableKey([]byte("a")), g.stableKey([]byte("b")))
	if _, err := g.Entry(2); !isCorrupt(err) {
		t.Errorf("entry: %v", err)
	}
	if _, err := g.Get([]byte("b")); !isCorrupt(err) {
		t.Errorf("stable: %v", err)
	}
	if _, err := g.GetUint64([]byte("a")); !isCorrupt(err) {
		t.Errorf("not a number: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(t, dir, Options{}).Group(1); !isCorrupt(err) {
		t.Errorf("reopened: %v", err)
	}
}

func TestMissingEntriesAreReported(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{CacheBytes: 1})
	g := openGroup(t, l, 1)
	if err := g.Append(entries(1, 1, 9)); err != nil {
		t.Fatal(err)
	}
	if err := l.db.Delete(entryKey(1, 5), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Entry(5); !isCorrupt(err) {
		t.Errorf("lost entry: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := openLog(t, dir, Options{}).Group(1)
	if !isCorrupt(err) || !strings.Contains(err.Error(), "entries 5 to 5 are missing") {
		t.Errorf("reopened: %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	key := entryKey(1, 2)
	f.Add(appendRecord(nil, key, &Entry{Index: 2, Term: 3, Kind: 1, Data: []byte("d"), Extensions: []byte("e")}))
	f.Fuzz(func(t *testing.T, record []byte) {
		if len(record) >= crcBytes {
			seal(key, record) // so that parsing gets past the checksum
		}
		e, err := parseRecord(key, record, 2)
		if err == nil && len(e.Data)+len(e.Extensions) > len(record) {
			t.Fatal("entry larger than its record")
		}
	})
}
