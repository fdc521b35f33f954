package region_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

func watch(t *testing.T, f *fixture, cursor []byte) *region.Feed {
	t.Helper()
	feed, err := f.Watch(cursor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(feed.Close)
	return feed
}

// next returns the keys of the next n changes.
func next(t *testing.T, feed *region.Feed, n int) []string {
	t.Helper()
	var keys []string
	for len(keys) < n {
		changes, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			keys = append(keys, fmt.Sprintf("%s/%d", c.Key, c.Cause))
		}
	}
	return keys
}

// nothing checks that a feed has no change now.
func nothing(t *testing.T, feed *region.Feed) {
	t.Helper()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if changes, err := feed.Next(over); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, %v", changes, err)
	}
}

func TestFeedTellsOfChangesInOrderAndResumes(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("before", "1"))
	feed := watch(t, f, nil)
	f.mustWrite(t, "", put("a", "1"), put("b", "1"))
	f.mustWrite(t, "", put("c", "1"))
	first := next(t, feed, 3)
	if want := []string{"a/1", "b/1", "c/1"}; !slices.Equal(first, want) {
		t.Fatalf("got %v, want %v", first, want)
	}
	cursor := feed.Cursor()
	f.mustWrite(t, "", put("d", "1"))
	f.mustWrite(t, "", replica.Op{Kind: replica.OpDelete, Namespace: "default", Key: "none"}) // without effect
	resumed := watch(t, f, cursor)
	if resumed.Resync() {
		t.Fatal("resync although nothing was forgotten")
	}
	if got := next(t, resumed, 1); !slices.Equal(got, []string{"d/1"}) {
		t.Fatalf("resumed with %v", got)
	}
	nothing(t, resumed)
}

func TestFeedResumesInAnotherRegion(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	feed := watch(t, eu, nil)
	eu.mustWrite(t, "", put("a", "1"))
	us.mustWrite(t, "", put("own", "1"))
	next(t, feed, 1)
	cursor := feed.Cursor() // has seen a, and nothing of us
	eu.mustWrite(t, "", put("b", "1"))
	records, err := eu.ReadOutbox(1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if _, err := us.Merge(t.Context(), actorOf(testEU), [][]byte{r.Data}); err != nil {
			t.Fatal(err)
		}
	}
	there := watch(t, us, cursor)
	if there.Resync() {
		t.Fatal("resync although nothing was forgotten")
	}
	if got := next(t, there, 2); !slices.Equal(got, []string{"own/1", "b/2"}) {
		t.Fatalf("got %v", got)
	}
}

func TestFeedThatForgotAsksForAResync(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	feed := watch(t, f, nil)
	cursor := feed.Cursor()
	for i := range 30 {
		ops := make([]replica.Op, 1000)
		for j := range ops {
			ops[j] = put(fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", 60)), "1")
		}
		f.mustWrite(t, "", ops...)
	}
	if _, err := feed.Next(t.Context()); !errors.Is(err, region.ErrFeedBehind) {
		t.Fatalf("a watcher that never read got %v", err)
	}
	if !watch(t, f, cursor).Resync() {
		t.Fatal("no resync for a cursor that is too old")
	}
	if watch(t, f, watch(t, f, nil).Cursor()).Resync() {
		t.Fatal("resync for a fresh cursor")
	}
}

func TestBadCursorsAreRefused(t *testing.T) {
	f := newFixture(t, testEU)
	good := watch(t, f, nil).Cursor()
	for i := range good {
		if _, err := f.Watch(good[:i]); i > 0 && !errors.Is(err, region.ErrBadCursor) && i < 3 {
			t.Errorf("%d bytes of a cursor: %v", i, err)
		}
	}
	for _, bad := range [][]byte{{9}, {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 1<<20)} {
		if _, err := f.Watch(bad); !errors.Is(err, region.ErrBadCursor) {
			t.Errorf("cursor of %d bytes: %v", len(bad), err)
		}
	}
}

func TestExpiryIsToldOnceByTheLeader(t *testing.T) {
	f := newFixture(t, testEU)
	feed := watch(t, f, nil)
	soon := put("a", "1")
	soon.Expires = hlc.At(f.clock.wall().Add(time.Minute).UnixMilli(), 0)
	f.mustWrite(t, "", soon)
	next(t, feed, 1)
	f.clock.advance(2 * time.Minute)
	if got := next(t, feed, 1); !slices.Equal(got, []string{"a/3"}) { // within the leader's look
		t.Fatalf("got %v", got)
	}
	f.mustWrite(t, "", put("b", "1"))
	if got := next(t, feed, 1); !slices.Equal(got, []string{"b/1"}) {
		t.Fatalf("got %v", got)
	}
}
