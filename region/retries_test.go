package region_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// TestARetryElsewhereIsDone: once the write has arrived, and only under the same op_id for the same write.
func TestARetryElsewhereIsDone(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS, testAP)
	eu, us := q.all[0], q.all[1]
	first := eu.mustWrite(t, "id", add("n", 5), put("k", "eu"))
	q.exchange()
	us.mustWrite(t, "", put("k", "us"))
	for _, f := range q.all[1:] {
		head := f.View().Outbox.Head
		got := f.mustWrite(t, "id", add("n", 5), put("k", "eu"))
		if !got.Repeated || !got.Elsewhere || f.View().Outbox.Head != head {
			t.Errorf("the retry elsewhere answers %+v", got)
		}
		for i, o := range got.Outcomes {
			if o != (replica.Outcome{Version: first.Outcomes[i].Version}) {
				t.Errorf("outcome %d is %+v, want version %q", i, o, first.Outcomes[i].Version)
			}
		}
		if _, err := f.Write(t.Context(), "id", []replica.Op{add("n", 6)}); !errors.Is(err, region.ErrOpIDReused) {
			t.Errorf("another write under the op_id: %v", err)
		}
	}
	if again := eu.mustWrite(t, "id", add("n", 5), put("k", "eu")); !again.Repeated || again.Elsewhere || again.Outcomes[0].Counter != 5 {
		t.Errorf("the retry at home answers %+v", again)
	}
	q.exchange()
	for _, f := range q.all {
		if got := f.counter(t, "n"); got != 5 {
			t.Errorf("counter is %d", got)
		}
	}
}

// TestAWriteOfAllRegionsCountsOnce: each but one takes back, once, however often deltas come.
func TestAWriteOfAllRegionsCountsOnce(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS, testAP)
	for _, f := range q.all {
		results, errs := together(t, f, []string{"a", "b", "", "c"}, [][]replica.Op{{add("n", 100)}, {add("n", -7)}, {add("n", 1)}, {add("n", 1000)}})
		if errors.Join(errs...) != nil || results[3].Repeated {
			t.Fatal(errs)
		}
	}
	all := func(merge func(to, from *fixture)) {
		for _, to := range q.all {
			for _, from := range q.all {
				if to != from {
					merge(to, from)
				}
			}
		}
	}
	fromTheFirst := func(to, from *fixture) { to.mustMerge(t, from, 1) }
	all(fromTheFirst)
	all(fromTheFirst)
	events := func() (heads [3]uint64) {
		for i, f := range q.all {
			heads[i] = f.View().Outbox.Head
			if got := f.counter(t, "n"); got != 1096 { // and 1 of each region
				t.Errorf("counter is %d", got)
			}
		}
		return heads
	}
	before := events()
	all(fromTheFirst)
	all(func(to, from *fixture) {
		if _, err := to.Merge(t.Context(), actorOf(regionOf(from)), [][]byte{folded(t, from, 1, from.View().Outbox.Head)}); err != nil {
			t.Fatal(err)
		}
	})
	if after := events(); after != before || before[0] != 2 {
		t.Errorf("events %v, after deltas came again %v", before, after)
	}
}

func regionOf(f *fixture) topology.RegionID {
	r, _ := topology.ActorRegion(f.View().Outbox.Actor)
	return r
}

// TestWritesElsewhereAreForgotten: after a window in which every region was heard of.
func TestWritesElsewhereAreForgotten(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS)
	eu, us := q.all[0], q.all[1]
	retry := func() bool { return us.mustWrite(t, "id", add("n", 5)).Repeated }
	eu.mustWrite(t, "id", add("n", 5))
	us.mustMerge(t, eu, 1)
	advance := func(d time.Duration) {
		for _, f := range q.all {
			f.clock.advance(d)
		}
	}
	for i := range 3 {
		advance(4 * time.Minute)
		eu.mustWrite(t, fmt.Sprint("more-", i), add("n", 1))
		us.mustMerge(t, eu, uint64(i)+2)
		if !retry() {
			t.Fatalf("forgotten after %d minutes", 4*(i+1))
		}
	}
	advance(20 * time.Hour)
	us.mustWrite(t, "own", add("n", 1)) // eu was not heard of since
	if !retry() {
		t.Fatal("forgotten while a region is cut off")
	}
	eu.mustWrite(t, "last", add("n", 1))
	us.mustMerge(t, eu, 5)
	if retry() {
		t.Error("remembered for hours")
	}
}

// TestARegionThatComesBackIsCountedOnce: its write was repeated elsewhere while it was cut off, for longer than the
// window.
func TestARegionThatComesBackIsCountedOnce(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS)
	eu, us := q.all[0], q.all[1]
	q.exchange()
	us.mustWrite(t, "", add("other", 1))
	eu.mustWrite(t, "", add("other", 1))
	q.exchange()
	eu.mustWrite(t, "id", add("n", 5)) // nobody heard of it
	us.mustWrite(t, "id", add("n", 5))
	for i := range 10 {
		us.clock.advance(6 * time.Minute)
		eu.clock.advance(6 * time.Minute)
		us.mustWrite(t, fmt.Sprint("more-", i), add("n", 10))
		eu.mustWrite(t, fmt.Sprint("eu-", i), add("n", 100))
	}
	q.exchange()
	q.exchange()
	for _, f := range q.all {
		if got := f.counter(t, "n"); got != 5+100+1000 {
			t.Errorf("counter is %d", got)
		}
	}
}
