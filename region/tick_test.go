package region_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// quietRegions are regions of one partition with one clock, of which tests say when something happens.
type quietRegions struct {
	t      *testing.T
	all    []*fixture
	timers []region.TickTimer
}

func newQuietRegions(t *testing.T, ids ...topology.RegionID) *quietRegions {
	t.Helper()
	q := &quietRegions{t: t, timers: make([]region.TickTimer, len(ids))}
	for i, id := range ids {
		var others []topology.RegionID
		others = append(append(others, ids[:i]...), ids[i+1:]...)
		q.all = append(q.all, newFixture(t, id, others...))
	}
	return q
}

// step lets time pass in all regions, in which leaders do what they do now and then.
func (q *quietRegions) step(d time.Duration) {
	q.t.Helper()
	for i, f := range q.all {
		f.clock.advance(d)
		if err := f.ExpireDue(q.t.Context()); err != nil {
			q.t.Fatal(err)
		}
		if err := f.TickDue(q.t.Context(), &q.timers[i]); err != nil {
			q.t.Fatal(err)
		}
	}
}

// exchange has all regions merge what the others have, and acknowledge it.
func (q *quietRegions) exchange() {
	q.t.Helper()
	for _, to := range q.all {
		for _, from := range q.all {
			box, _ := from.Outbox()
			have := to.View().Vector.Get(box.Actor)
			if to == from || have == box.Head {
				continue
			}
			to.mustMerge(q.t, from, have+1)
			region, _ := topology.ActorRegion(to.View().Outbox.Actor)
			mark := watermark(region, box.Actor, box.Head)
			if err := from.Acknowledge(q.t.Context(), mark); err != nil {
				q.t.Fatal(err)
			}
		}
	}
}

func watermark(r topology.RegionID, a crdt.Actor, seq uint64) []region.Watermark {
	return []region.Watermark{{Region: r, Actor: a, Seq: seq}}
}

// entries returns how many entries all logs have.
func (q *quietRegions) entries() (n int) {
	for _, f := range q.all {
		f.group.set(func() { n += len(f.group.log) })
	}
	return n
}

// TestQuietPartitionsAreEmptiedAndThenSilent: one region never writes, another only at first. Of what was deleted or
// has expired nothing is left after a while, and from then on nothing is proposed.
func TestQuietPartitionsAreEmptiedAndThenSilent(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS, testAP)
	eu, us, ap := q.all[0], q.all[1], q.all[2]
	if q.step(time.Minute); q.entries() != 0 {
		t.Fatalf("%d entries before anything was written", q.entries())
	}
	expires := hlc.At(eu.clock.wall().Add(5*time.Second).UnixMilli(), 0)
	set := replica.Op{Kind: replica.OpSetAdd, Key: "s", Elements: [][]byte{[]byte("a")}, Expires: expires}
	passing := put("p", "v")
	passing.Expires = expires
	eu.mustWrite(t, "", set, passing, put("k", "v"), add("n", 1), replica.Op{Kind: replica.OpHLLAdd, Key: "h", Elements: [][]byte{[]byte("a")}})
	q.exchange()
	us.mustWrite(t, "", add("n", 1))
	q.exchange()
	feed := watch(t, ap, nil)
	for _, key := range []string{"k", "n"} {
		eu.mustWrite(t, "", replica.Op{Kind: replica.OpDelete, Namespace: "default", Key: key})
	}
	eu.mustWrite(t, "", replica.Op{Kind: replica.OpDelete, Key: "h"})
	q.exchange()
	for range 40 {
		q.step(time.Second)
		q.exchange()
	}
	for _, f := range q.all {
		if left := values(dump(t, f.machine)); len(left) > 0 {
			t.Errorf("%v is left with\n%s", f.View().Outbox.Actor, strings.Join(left, "\n"))
		}
		if box, _ := f.Outbox(); box.First != box.Head+1 {
			t.Errorf("outbox %+v", box)
		}
	}
	if head := ap.View().Outbox.Head; head == 0 || head > 4 {
		t.Errorf("the region that never writes has made %d events", head)
	}
	before := q.entries()
	for range 30 {
		q.step(time.Second)
		q.exchange()
	}
	if after := q.entries(); after != before {
		t.Errorf("%d entries while nothing happened", after-before)
	}
	us.mustWrite(t, "", put("last", "v"))
	q.exchange()
	for last := ""; last != "last"; {
		changes, err := feed.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if last = c.Key; last == "" {
				t.Errorf("a watcher was told of %+v", c)
			}
		}
	}
}

// values returns what of a dump is about values and their deletes.
func values(dump string) (left []string) {
	for line := range strings.Lines(dump) {
		table, err := strconv.ParseUint(line[:2], 16, 8)
		if err != nil || strings.ContainsRune("KNEZRUADGXVY", rune(table)) {
			left = append(left, line)
		}
	}
	return left
}

// TestTicksKeepTheirPace: no tick soon after what it tells of, unless that goes on for long, and none soon after
// another event of this region.
func TestTicksKeepTheirPace(t *testing.T) {
	q := newQuietRegions(t, testEU, testUS)
	eu, us := q.all[0], q.all[1]
	step := func(d time.Duration, wantHead uint64) {
		t.Helper()
		q.step(d)
		if head := us.View().Outbox.Head; head != wantHead {
			t.Fatalf("%v: %d events, want %d", us.clock.wall(), head, wantHead)
		}
	}
	write := func() {
		t.Helper()
		have := eu.View().Outbox.Head
		eu.mustWrite(t, "", put("k", "v"))
		us.mustMerge(t, eu, have+1)
	}
	write()
	step(100*time.Millisecond, 0)
	write()
	step(150*time.Millisecond, 0) // the second write is what it waits for
	step(60*time.Millisecond, 1)
	step(time.Minute, 1)
	write()
	step(time.Second, 2)
	write()
	for range 8 {
		step(time.Second, 2)
	}
	step(time.Second, 2)
	step(time.Second, 3) // ten seconds after the last
	us.mustWrite(t, "", put("own", "v"))
	write()
	step(9*time.Second, 4)
	us.mustWrite(t, "", put("own", "v")) // says it all
	step(time.Minute, 5)
	for range 100 { // never quiet
		write()
		step(100*time.Millisecond, 5)
	}
	write()
	step(100*time.Millisecond, 6)
}

// TestOnlyLeadersWithDestinationsTick: a region of its own has nobody to tell, and a command that comes twice makes
// one event.
func TestOnlyLeadersWithDestinationsTick(t *testing.T) {
	eu, us, alone := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU), newFixture(t, testUS)
	eu.mustWrite(t, "", put("k", "v"))
	var timer region.TickTimer
	for _, f := range []*fixture{us, alone} {
		f.mustMerge(t, eu, 1)
		f.clock.advance(time.Minute)
		for range 2 {
			if err := f.TickDue(t.Context(), &timer); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := fmt.Sprint(us.View().Outbox.Head, alone.View().Outbox.Head); got != "1 0" {
		t.Errorf("events %s", got)
	}
	tick := us.group.log[len(us.group.log)-1].Data
	if err := us.group.propose(tick); err != nil {
		t.Fatal(err)
	}
	if head := us.View().Outbox.Head; head != 1 {
		t.Errorf("a tick that comes again makes event %d", head)
	}
	eu.clock.advance(time.Minute)
	eu.mustMerge(t, us, 1)
	if eu.View().Owed != 0 {
		t.Error("a tick is answered")
	}
}
