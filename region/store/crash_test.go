package store

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const (
	crashPathEnv = "ATOLL_STORE_CRASH_PATH"
	crashKeys    = 40
)

// crashWriter updates and flushes for ever and says what was flushed, until it is killed.
func crashWriter(path string) {
	s, err := Open(path, Options{Buffer: true})
	if err != nil {
		panic(err)
	}
	round, err := wholeUpdate(s, crashKeys)
	if err != nil {
		panic(err)
	}
	var updated atomic.Int64
	updated.Store(int64(round))
	first, once := make(chan struct{}), sync.Once{}
	go func() {
		<-first // flushes of nothing tell nothing
		for {
			n := updated.Load()
			if err := s.Flush(); err != nil {
				panic(err)
			}
			fmt.Printf("flushed %d\n", n)
		}
	}()
	for {
		round++
		if err := updateWhole(s, crashKeys, round); err != nil {
			panic(err)
		}
		updated.Store(int64(round))
		once.Do(func() { close(first) })
	}
}

// After kill -9 at any moment, again and again, there is one whole update, not older than the last
// flush that returned.
func TestFlushedUpdatesSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	flushed := 0
	for round := range 6 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashPathEnv+"="+path)
		stderr := &strings.Builder{}
		child.Stderr = stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines, before := bufio.NewScanner(stdout), flushed
		for count := 0; lines.Scan(); count++ {
			if _, err := fmt.Sscanf(lines.Text(), "flushed %d", &flushed); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			if count == 5+round*7 { // go on reading: what is in the pipe was flushed too
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // killed
		if flushed == before {
			t.Fatalf("round %d: nothing was flushed; %s", round, stderr)
		}
		s := open(t, path, Options{})
		got, err := wholeUpdate(s, crashKeys)
		if err != nil || got < flushed {
			t.Fatalf("round %d: update %d is there, %d was flushed, %v", round, got, flushed, err)
		}
		if err := errors.Join(s.Verify(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A power cut leaves any part of what was written since the last sync. Before the meta page is
// written everything else was synced, so that either the old state is there or the new one.
func TestPowerCutDuringAFlush(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "s"), Options{Buffer: true})
	image := func() []byte {
		b, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	page := os.Getpagesize()
	for round := 1; round <= 12; round++ {
		if err := updateWhole(s, crashKeys, round); err != nil {
			t.Fatal(err)
		}
		before := image()
		flush(t, s)
		after := image()
		before = append(before, make([]byte, len(after)-len(before))...)
		for cut := range 12 {
			left := slices.Clone(before)
			if cut%2 == 0 { // some of the pages and neither meta page
				for at := 2 * page; at < len(left); at += page {
					if rng.IntN(2) == 0 {
						copy(left[at:at+page], after[at:])
					}
				}
			} else { // all of the pages and part of a meta page
				copy(left[2*page:], after[2*page:])
				torn := rng.IntN(2) * page
				copy(left[torn:torn+rng.IntN(headerBytes+metaBytes+8)], after[torn:])
			}
			path := filepath.Join(dir, fmt.Sprintf("left-%d-%d", round, cut))
			if err := os.WriteFile(path, left, 0o600); err != nil {
				t.Fatal(err)
			}
			cutStore := open(t, path, Options{})
			got, err := wholeUpdate(cutStore, crashKeys)
			if err != nil || got != round-1 && (cut%2 == 0 || got != round) {
				t.Fatalf("cut %d of the flush of update %d left update %d, %v", cut, round, got, err)
			}
			if err := errors.Join(cutStore.Close(), os.Remove(path)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
