package region_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// keep looks after the outbox as the leader does.
func (f *fixture) keep(t *testing.T) {
	t.Helper()
	if err := f.KeepOutbox(t.Context(), region.NewOutboxFolder(f.machine, region.DefaultFoldBounds())); err != nil {
		t.Fatal(err)
	}
}

// fill writes events that cannot be folded, of about 1 KiB each.
func (f *fixture) fill(t *testing.T, events int) {
	t.Helper()
	for range events {
		f.mustWrite(t, "", put(fmt.Sprint("key-", f.View().Outbox.Head), fmt.Sprintf("%01000d", 0)))
	}
}

func destinationsOf(t *testing.T, f *fixture) map[string]region.OutboxDestination {
	t.Helper()
	all, err := f.Destinations()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]region.OutboxDestination{}
	for _, d := range all {
		byName[fmt.Sprint(d.Region)] = d
	}
	return byName
}

// expect checks the outbox's first event and how many regions are evicted.
func (f *fixture) expect(t *testing.T, first uint64, evicted int) {
	t.Helper()
	if view := f.View(); view.Outbox.First != first || len(view.Evictions) != evicted {
		t.Fatalf("%+v, want it to begin at %d; evicted %+v, want %d", view.Outbox, first, view.Evictions, evicted)
	}
}

// ack has the partition hear how far regions are.
func (f *fixture) ack(t *testing.T, marks ...region.Watermark) {
	t.Helper()
	if err := f.Acknowledge(t.Context(), marks); err != nil {
		t.Fatal(err)
	}
}

// TestRegionsPastTheQuotaAreEvicted: those that hold back most, and only they; nobody else loses anything, and
// writes go on.
func TestRegionsPastTheQuotaAreEvicted(t *testing.T) {
	f := newFixtureWithQuota(t, 50<<10, testEU, testUS, testAP)
	eu := actorOf(testEU)
	f.fill(t, 20)
	f.ack(t, append(watermark(testUS, eu, 3), watermark(testAP, eu, 15)...)...)
	stood := f.clock.wall()
	f.clock.advance(time.Minute)
	f.fill(t, 25)
	f.keep(t)
	f.expect(t, 4, 0)
	f.fill(t, 10)
	f.keep(t)
	f.expect(t, 16, 1)
	e, d := f.View().Evictions[0], destinationsOf(t, f)[fmt.Sprint(testUS)]
	if e.Region != testUS || e.Seq != 3 || e.ServedFrom != 0 || e.Oldest.Wall().After(stood) || e.Since.Wall().Before(f.clock.wall().Add(-time.Second)) {
		t.Errorf("%+v", e)
	}
	if d.Events != 52 || d.Bytes != f.View().Outbox.Bytes || d.Eviction == nil || d.Oldest.Wall().After(stood) {
		t.Errorf("%+v", d)
	}
	// A watermark that still lacks something changes nothing; one that lacks nothing ends it.
	f.ack(t, watermark(testUS, eu, 14)...)
	f.expect(t, 16, 1)
	f.ack(t, watermark(testUS, eu, 15)...)
	f.expect(t, 16, 0)
}

// TestEvictedRegionsAreServedAgain after they were given the state.
func TestEvictedRegionsAreServedAgain(t *testing.T) {
	f := newFixtureWithQuota(t, 20<<10, testEU, testUS, testAP)
	f.fill(t, 30)
	f.keep(t)
	f.expect(t, 31, 2) // nobody is waited for
	if _, err := f.Readmit(t.Context(), testUS, 29); !errors.Is(err, region.ErrNotKept) {
		t.Errorf("readmitted from what is gone: %v", err)
	}
	f.fill(t, 2)
	if from, err := f.Readmit(t.Context(), testUS, 0); err != nil || from != 32 {
		t.Fatalf("%d, %v", from, err)
	}
	f.fill(t, 5)
	f.keep(t)
	f.expect(t, 33, 2)
	if d := destinationsOf(t, f)[fmt.Sprint(testUS)]; d.Eviction == nil || d.Eviction.ServedFrom != 33 || d.Events != 37 {
		t.Errorf("%+v", d)
	}
	f.ack(t, watermark(testUS, actorOf(testEU), 32)...)
	f.expect(t, 33, 1)
	if d := destinationsOf(t, f)[fmt.Sprint(testUS)]; d.Eviction != nil || d.Events != 5 || d.Bytes != f.View().Outbox.Bytes {
		t.Errorf("%+v", d)
	}
}

// TestReadmittedRegionsThatDoNotComeAreEvictedAgain, and others are not touched.
func TestReadmittedRegionsThatDoNotComeAreEvictedAgain(t *testing.T) {
	f := newFixtureWithQuota(t, 20<<10, testEU, testUS, testAP)
	f.fill(t, 30)
	f.ack(t, watermark(testUS, actorOf(testEU), 30)...)
	f.keep(t)
	f.expect(t, 31, 1)
	if _, err := f.Readmit(t.Context(), testAP, 0); err != nil {
		t.Fatal(err)
	}
	f.fill(t, 30)
	f.ack(t, watermark(testUS, actorOf(testEU), 59)...)
	f.expect(t, 31, 1)
	f.keep(t)
	f.expect(t, 60, 1)
	if e := f.View().Evictions[0]; e.Region != testAP || e.ServedFrom != 0 {
		t.Errorf("%+v", e)
	}
	if _, err := f.Readmit(t.Context(), testUS, 5); err != nil {
		t.Errorf("a region that was not evicted: %v", err)
	}
	f.expect(t, 60, 1)
}

// TestWhatDestinationsLack is counted exactly, and dated.
func TestWhatDestinationsLack(t *testing.T) {
	f := newFixture(t, testEU, testUS, testAP)
	eu := actorOf(testEU)
	var at []time.Time
	for range 10 {
		f.clock.advance(time.Second)
		at = append(at, f.clock.wall())
		f.fill(t, 1)
	}
	f.ack(t, append(watermark(testUS, eu, 4), watermark(testAP, eu, 10)...)...)
	all := destinationsOf(t, f)
	us, ap := all[fmt.Sprint(testUS)], all[fmt.Sprint(testAP)]
	if us.Applied != 4 || us.Events != 6 || us.Bytes != f.View().Outbox.Bytes || us.Oldest != hlc.At(at[4].UnixMilli(), 0) {
		t.Errorf("%+v, the oldest is of %v", us, us.Oldest.Wall())
	}
	if ap.Events != 0 || ap.Bytes != 0 || ap.Oldest != 0 {
		t.Errorf("%+v", ap)
	}
}

// TestWhatDestinationsLackOfARun is of the run's first event, which may be folded away.
func TestWhatDestinationsLackOfARun(t *testing.T) {
	f := newFixture(t, testEU, testUS, testAP)
	eu := actorOf(testEU)
	f.fill(t, 10)
	f.clock.advance(time.Second)
	for range 3 {
		f.mustWrite(t, "", add("n", 1))
	}
	oldest, err := replica.ReadOutline(deltas(t, f, 11)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := f.group.propose(entryOf(t, foldCommand(folded(t, f, 11, 13)))); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{10, 12} {
		f.ack(t, append(watermark(testUS, eu, seq), watermark(testAP, eu, seq)...)...)
		us := destinationsOf(t, f)[fmt.Sprint(testUS)]
		if us.Events != 13-seq || us.Bytes != f.View().Outbox.Bytes || us.Bytes == 0 || us.Oldest != oldest.First {
			t.Errorf("at %d: %+v, want the oldest at %v", seq, us, oldest.First)
		}
		f.expect(t, 11, 0) // a watermark inside a run trims nothing of it
	}
}

func entryOf(t *testing.T, c *logv1.Command) []byte {
	t.Helper()
	data, err := proto.Marshal(&logv1.LogEntry{Commands: []*logv1.Command{c}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}
