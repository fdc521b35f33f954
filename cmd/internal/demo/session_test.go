package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
)

func put(t *testing.T, c *client.Client, key, value string, opts ...client.WriteOption) {
	t.Helper()
	if _, err := c.Put(t.Context(), key, []byte(value), opts...); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// becomes waits until a key has a value everywhere.
func becomes(t *testing.T, key, value string, everywhere ...*client.Client) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() error {
		for _, c := range everywhere {
			if got, err := c.Get(t.Context(), key); err != nil || string(got.Bytes) != value {
				return fmt.Errorf("%s is %q, %v, want %q", key, got.Bytes, err, value)
			}
		}
		return nil
	})
}

// TestSessionsMoveBetweenRegions: one region's clock is four seconds slow. A session reads there what it wrote
// elsewhere, also in partitions in which nothing ever happens, and what it writes there replaces what it wrote
// before, which without it is not so.
func TestSessionsMoveBetweenRegions(t *testing.T) {
	d := startSkewed(t, 1, map[string]time.Duration{"us": -4 * time.Second})
	eu, us := dial(t, d, "eu"), dial(t, d, "us")
	session := client.NewSession()
	in := client.InSession(session)
	put(t, eu, "moving", "first", in)
	began := time.Now()
	if got, err := us.Get(t.Context(), "moving", in); err != nil || string(got.Bytes) != "first" {
		t.Fatalf("the own write is %q, %v", got.Bytes, err)
	}
	for i := range 4 * partitions { // in all partitions
		if _, err := us.Get(t.Context(), fmt.Sprint("absent", i), in); !errors.Is(err, client.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("reading in idle partitions took %v: they were not woken", took)
	}
	if err := d.Cut("eu", "us"); err != nil {
		t.Fatal(err)
	}
	put(t, eu, "kept", "first", in)
	put(t, us, "kept", "second", in)
	put(t, eu, "lost", "first")
	put(t, us, "lost", "second")
	if _, err := us.Get(t.Context(), "kept", in, client.WithOnStale(client.OnStaleFail)); !errors.Is(err, client.ErrStale) {
		t.Errorf("behind the session: %v", err)
	}
	d.Heal()
	becomes(t, "kept", "second", eu, us)
	becomes(t, "lost", "first", eu, us)
}

// TestWritesReachOtherRegions: a write with regions is acknowledged once they have it, and if one of them cannot
// be reached, says that it is done.
func TestWritesReachOtherRegions(t *testing.T) {
	d := start(t, 1)
	eu, us, ap := dial(t, d, "eu"), dial(t, d, "us"), dial(t, d, "ap")
	put(t, eu, "k", "warm", client.WithRegions(2))
	began := time.Now()
	put(t, eu, "k", "both", client.WithRegions(2))
	t.Logf("acknowledged by two other regions in %v", time.Since(began).Round(time.Millisecond))
	for _, c := range []*client.Client{us, ap} {
		if got, err := c.Get(t.Context(), "k"); err != nil || string(got.Bytes) != "both" {
			t.Errorf("acknowledged, and %q is there, %v", got.Bytes, err)
		}
	}
	if err := d.Cut("eu", "ap"); err != nil {
		t.Fatal(err)
	}
	put(t, eu, "k", "one", client.WithRegions(1))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := eu.Put(ctx, "k", []byte("not both"), client.WithRegions(2))
	var fault *client.Error
	if !errors.Is(err, client.ErrOutcomeUnknown) || !errors.As(err, &fault) || fault.Metadata["done_in"] != "eu" || fault.Metadata["regions_reached"] != "1" {
		t.Errorf("with a region cut off: %v, %+v", err, fault)
	}
	d.Heal()
	put(t, eu, "k", "not both", client.WithRegions(2), client.WithOpID(fault.Metadata["op_id"]))
	becomes(t, "k", "not both", eu, us, ap)
}

// watched collects the keys that a watch tells of, until it has told of all those that are wanted. It returns how
// often each was told of, and the cursor behind them.
func watched(t *testing.T, c *client.Client, cursor []byte, wanted ...string) (seen map[string]int, at []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	seen = map[string]int{}
	missing := func(key string) bool { return seen[key] == 0 }
	for e, err := range c.Watch(ctx, client.WatchOptions{Prefix: "w/", Cursor: cursor, Heartbeat: 100 * time.Millisecond, Heartbeats: true}) {
		switch {
		case err != nil:
			t.Fatalf("seen %v: %v", seen, err)
		case e.Kind == client.EventChange:
			seen[e.Key]++
		case e.Kind != client.EventHeartbeat:
			t.Errorf("%v: what happened since the cursor should be known", e.Kind)
		case !slices.ContainsFunc(wanted, missing) && len(e.Cursor) > 0:
			return seen, e.Cursor
		}
	}
	t.Fatalf("the watch ended, seen %v", seen)
	return nil, nil
}

// keys returns n keys of the watched prefix.
func keys(region string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("w/%s-%d", region, i))
	}
	return all
}

// TestWatchersMoveBetweenRegions: a watcher goes to a region that lacks some of what it has seen, and has what it
// has not. It is told of all that it has not seen, once, and not again of what it has, wherever it goes on.
func TestWatchersMoveBetweenRegions(t *testing.T) {
	d := start(t, 1)
	eu, us := dial(t, d, "eu"), dial(t, d, "us")
	put(t, eu, "w/before", "x")
	becomes(t, "w/before", "x", eu, us)
	_, cursor := watched(t, eu, nil)
	if err := errors.Join(d.Cut("eu", "us"), d.Cut("us", "ap")); err != nil {
		t.Fatal(err)
	}
	ofEU, ofUS := keys("eu", 20), keys("us", 20)
	for i := range ofEU {
		put(t, eu, ofEU[i], "x")
		put(t, us, ofUS[i], "x")
	}
	exactly := func(where string, seen map[string]int, want ...string) {
		t.Helper()
		for _, key := range want {
			if seen[key] != 1 {
				t.Errorf("%s: told %d times of %s", where, seen[key], key)
			}
			delete(seen, key)
		}
		if len(seen) > 0 {
			t.Errorf("%s: told of %v as well", where, seen)
		}
	}
	seen, cursor := watched(t, eu, cursor, ofEU...)
	exactly("before the move", seen, ofEU...)
	_, early := watched(t, us, cursor) // gone again before it was told of anything, perhaps
	seen, cursor = watched(t, us, cursor, ofUS...)
	exactly("after the move", seen, ofUS...)
	d.Heal()
	becomes(t, ofEU[19], "x", us)
	becomes(t, ofUS[19], "x", eu)
	put(t, us, "w/last", "x")
	seen, _ = watched(t, us, cursor, "w/last") // it does not repeat what the other region had told
	exactly("when the rest has arrived", seen, "w/last")
	becomes(t, "w/last", "x", eu)
	seen, _ = watched(t, eu, cursor, "w/last") // and back
	exactly("after moving back", seen, "w/last")
	if seen, _ = watched(t, us, early, "w/last"); seen["w/before"]+seen[ofEU[0]]+seen[ofEU[19]] > 0 {
		t.Errorf("going on from the first heartbeat repeats %v", seen)
	}
}
