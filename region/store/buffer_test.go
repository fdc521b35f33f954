package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/atolldb/atoll/crdt/replica"
)

// crashed opens a copy of what is on disk, as a restart after a crash would find it.
func crashed(t *testing.T, path string) *Store {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(t.TempDir(), "left")
	if err := os.WriteFile(left, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, left, Options{})
}

func flush(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestFlushMakesUpdatesDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path, Options{Buffer: true})
	put(t, s, "a", "1", "b", "1")
	flush(t, s)
	put(t, s, "a", "2", "c", "2")
	if got := dumpStore(t, s); got != "a=2 b=1 c=2 " {
		t.Fatalf("views see %q", got)
	}
	if got := dumpStore(t, crashed(t, path)); got != "a=1 b=1 " {
		t.Fatalf("a crash leaves %q", got)
	}
	flush(t, s)
	if got := dumpStore(t, crashed(t, path)); got != "a=2 b=1 c=2 " || s.Buffered() != 0 {
		t.Fatalf("after a flush a crash leaves %q and %d bytes are buffered", got, s.Buffered())
	}
	put(t, s, "d", "3")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, open(t, path, Options{})); got != "a=2 b=1 c=2 d=3 " {
		t.Fatalf("closing left %q", got)
	}
}

// Without Buffer, what Update returned for survives a crash.
func TestUnbufferedUpdatesAreDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path, Options{})
	put(t, s, "a", "1")
	if got := dumpStore(t, crashed(t, path)); got != "a=1 " {
		t.Fatalf("a crash leaves %q", got)
	}
}

// The store against a map, with crashes: what is read is the last update, and what a crash leaves is
// the last flush.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 7))
		path := filepath.Join(t.TempDir(), "s")
		s := open(t, path, Options{Buffer: true})
		now, durable := map[string]string{}, map[string]string{}
		for range 150 {
			switch rng.IntN(12) {
			case 0:
				flush(t, s)
				durable = maps.Clone(now)
			case 1:
				s = crashed(t, path)
				path, now = s.path, maps.Clone(durable)
				s.opts.Buffer = true
			default:
				now = modelUpdate(t, rng, s, now)
			}
			err := s.View(func(kv replica.KV) error {
				compare(t, rng, kv, now)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func randomKey(rng *rand.Rand) string {
	return strings.Repeat(string(rune('a'+rng.IntN(3))), 1+rng.IntN(3)) + fmt.Sprint(rng.IntN(40))
}

// modelUpdate changes store and model alike, or neither if the update is refused.
func modelUpdate(t *testing.T, rng *rand.Rand, s *Store, now map[string]string) map[string]string {
	t.Helper()
	after := maps.Clone(now)
	refusal := errors.New("refused")
	refuse := rng.IntN(5) == 0
	err := s.Update(func(kv replica.KV) error {
		for range rng.IntN(30) {
			key := randomKey(rng)
			if rng.IntN(3) == 0 {
				delete(after, key)
				if err := kv.Delete([]byte(key)); err != nil {
					return err
				}
			} else {
				after[key] = strings.Repeat(key, rng.IntN(4)*rng.IntN(1000)/(1+len(key)))
				if err := kv.Put([]byte(key), []byte(after[key])); err != nil {
					return err
				}
			}
			if rng.IntN(8) == 0 {
				compare(t, rng, kv, after)
			}
		}
		if refuse {
			return refusal
		}
		return nil
	})
	if refuse {
		if !errors.Is(err, refusal) {
			t.Fatalf("refused update: %v", err)
		}
		return now
	}
	if err != nil {
		t.Fatal(err)
	}
	return after
}

// compare compares a range and one key with the model.
func compare(t *testing.T, rng *rand.Rand, kv replica.KV, want map[string]string) {
	t.Helper()
	start, end := "", ""
	if rng.IntN(2) == 0 {
		start, end = randomKey(rng), randomKey(rng)
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if key >= start && (end == "" || key < end) {
			fmt.Fprintf(&b, "%s=%s ", key, want[key])
		}
	}
	var bound []byte
	if end != "" {
		bound = []byte(end)
	}
	if got := dump(t, kv, []byte(start), bound); got != b.String() {
		t.Fatalf("scan from %q to %q:\n got %q\nwant %q", start, end, got, b.String())
	}
	key := randomKey(rng)
	value, ok, err := kv.Get([]byte(key))
	if wanted, has := want[key]; err != nil || ok != has || string(value) != wanted {
		t.Fatalf("get %q: %q %v %v, want %q %v", key, value, ok, err, wanted, has)
	}
}

// Readers see whole updates in order, whatever is flushed meanwhile.
func TestViewsSeeWholeUpdates(t *testing.T) {
	const keys, updates = 40, 400
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{Buffer: true})
	if err := updateWhole(s, keys, 1); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	until := func(step func() error) {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := step(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	until(s.Flush)
	for range 3 {
		last := 0
		until(func() error {
			round, err := wholeUpdate(s, keys)
			if round < last {
				err = fmt.Errorf("update %d seen after %d: %w", round, last, err)
			}
			last = round
			return err
		})
	}
	for round := 2; round <= updates && !t.Failed(); round++ {
		if err := updateWhole(s, keys, round); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
	if round, err := wholeUpdate(s, keys); round != updates || err != nil {
		t.Fatalf("at the end: update %d, %v", round, err)
	}
}

// wholeBytes is how long a key's value is: some are kept among the small ones, some apart.
func wholeBytes(round, key int) int { return round * (key + 1) * 37 % 1500 }

// updateWhole writes update number round: every key gets it, but every seventh is deleted.
func updateWhole(s *Store, keys, round int) error {
	return s.Update(func(kv replica.KV) error {
		for i := range keys {
			key := fmt.Appendf(nil, "k%02d", i)
			var err error
			if (i+round)%7 == 0 {
				err = kv.Delete(key)
			} else {
				err = kv.Put(key, fmt.Appendf(nil, "%06d%s", round, strings.Repeat("x", wholeBytes(round, i))))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// wholeUpdate returns which update of updateWhole a view shows, 0 if none.
func wholeUpdate(s *Store, keys int) (round int, err error) {
	err = s.View(func(kv replica.KV) error {
		seen := map[string]bool{}
		err := kv.Scan(nil, nil, func(key, value []byte) (bool, error) {
			var r, i int
			if _, err := fmt.Sscanf(string(key)+" "+string(value[:6]), "k%d %d", &i, &r); err != nil {
				return false, err
			}
			if round == 0 {
				round = r
			}
			if r != round || len(value) != 6+wholeBytes(round, i) {
				return false, fmt.Errorf("key of update %d among those of %d", r, round)
			}
			seen[string(key)] = true
			return true, nil
		})
		if err != nil {
			return err
		}
		if len(seen) == 0 {
			return nil
		}
		for i := range keys {
			key := fmt.Sprintf("k%02d", i)
			_, ok, err := kv.Get([]byte(key))
			if want := (i+round)%7 != 0; err != nil || ok != want || seen[key] != want {
				return fmt.Errorf("key %d of update %d: got %v, scanned %v, %w", i, round, ok, seen[key], err)
			}
		}
		return nil
	})
	return round, err
}

// A view keeps its instant while updates and flushes go on.
func TestViewIsOneInstant(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{Buffer: true})
	put(t, s, "a", "1", "b", "1")
	flush(t, s)
	put(t, s, "b", "2", "c", "2")
	err := s.View(func(kv replica.KV) error {
		for round := range 4 {
			put(t, s, "a", fmt.Sprint(round), "c", "3", "d", "3")
			if err := s.Update(func(kv replica.KV) error { return kv.Delete([]byte("b")) }); err != nil {
				return err
			}
			if got := dump(t, kv, nil, nil); got != "a=1 b=2 c=2 " {
				t.Errorf("round %d: the view shows %q", round, got)
			}
			if round%2 == 1 {
				flush(t, s)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, s); got != "a=3 c=3 d=3 " {
		t.Fatalf("afterwards: %q", got)
	}
}

// A flush that ends between a view's look at the memory and its transaction on the file must not show
// the view what is newer than the memory that it looked at.
func TestViewsDoNotMixOldMemoryWithANewFile(t *testing.T) {
	act := func() {}
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{Buffer: true, viewing: func() { act() }})
	put(t, s, "a", "1", "b", "1")
	act = func() {
		act = func() {}
		put(t, s, "a", "2", "c", "2")
		flush(t, s)
		put(t, s, "b", "3")
	}
	if got := dumpStore(t, s); got != "a=2 b=3 c=2 " {
		t.Fatalf("the view shows %q", got)
	}
}

// What is being flushed is visible before it is in the file.
func TestViewsDuringAFlush(t *testing.T) {
	act := func() {}
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{Buffer: true, committing: func() { act() }})
	put(t, s, "a", "1", "b", "1", "c", "1")
	seen := ""
	act = func() {
		act = func() {}
		put(t, s, "b", "2")
		seen = dumpStore(t, s)
	}
	flush(t, s)
	if seen != "a=1 b=2 c=1 " {
		t.Fatalf("during the flush a view shows %q", seen)
	}
	if got := dumpStore(t, crashed(t, s.path)); got != "a=1 b=1 c=1 " {
		t.Fatalf("a crash after the flush leaves %q", got)
	}
}

func TestViewsAreReadOnly(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"), Options{Buffer: true})
	put(t, s, "a", "1")
	err := s.View(func(kv replica.KV) error {
		_ = kv.Put([]byte("a"), []byte("2"))
		_ = kv.Delete([]byte("a"))
		return nil
	})
	if !errors.Is(err, errReadOnly) {
		t.Fatalf("a view that writes: %v", err)
	}
	if got := dumpStore(t, s); got != "a=1 " {
		t.Fatalf("got %q", got)
	}
}

// Full says when to flush, and Update waits when nobody does.
func TestFullBuffersHoldUpdatesBack(t *testing.T) {
	value := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		end  func(*Store) error
		want error
	}{
		"flush":   {(*Store).Flush, nil},
		"close":   {(*Store).Close, ErrClosed},
		"failure": {func(s *Store) error { s.fail(s.mu.current, false, errors.New("disk")); return nil }, ErrFailed},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "s"), Options{Buffer: true, FlushBytes: 10_000, MaxBuffered: 30_000})
			put(t, s, "a", value)
			if len(s.Full()) > 0 {
				t.Fatalf("%s: full too early", name)
			}
			for i := 0; s.Buffered() <= 30_000; i++ {
				put(t, s, fmt.Sprint(i), value)
			}
			<-s.Full()
			result := make(chan error, 1)
			go func() {
				result <- s.Update(func(kv replica.KV) error { return kv.Put([]byte("z"), nil) })
			}()
			synctest.Wait()
			if len(result) > 0 {
				t.Fatalf("%s: the update did not wait", name)
			}
			if err := c.end(s); err != nil {
				t.Fatal(err)
			}
			if err := <-result; !errors.Is(err, c.want) {
				t.Fatalf("%s: %v", name, err)
			}
		})
	}
}

// What a failed flush leaves is not known, so that nothing is served any more.
func TestFailedFlushStopsTheStore(t *testing.T) {
	var failures []error
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path, Options{Buffer: true, OnFailure: func(err error) { failures = append(failures, err) }})
	put(t, s, "a", "1")
	flush(t, s)
	put(t, s, "a", "2")
	if err := os.Truncate(path, int64(2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); !corrupt(err) || !errors.Is(err, ErrFailed) {
		t.Fatalf("flush into a truncated file: %v", err)
	}
	if err := s.View(func(replica.KV) error { return nil }); !errors.Is(err, ErrFailed) {
		t.Fatalf("view after a failed flush: %v", err)
	}
	if err := s.Flush(); !errors.Is(err, ErrFailed) {
		t.Fatalf("flush after a failed flush: %v", err)
	}
	if len(failures) != 1 {
		t.Fatalf("%d failures reported", len(failures))
	}
}

func TestInstallDropsWhatIsBuffered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "s"), Options{Buffer: true})
	put(t, s, "a", "1")
	temp := filepath.Join(dir, "temp")
	export(t, s, temp)
	put(t, s, "a", "2", "b", "2")
	if err := s.Install(temp, nil); err != nil {
		t.Fatal(err)
	}
	if got := dumpStore(t, s); got != "a=1 " || s.Buffered() != 0 {
		t.Fatalf("%q and %d bytes buffered", got, s.Buffered())
	}
	put(t, s, "c", "3")
	flush(t, s)
	if got := dumpStore(t, crashed(t, s.path)); got != "a=1 c=3 " {
		t.Fatalf("a crash leaves %q", got)
	}
}
