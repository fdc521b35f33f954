package region_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// present is what is not the future of a clock's reading.
func present(at time.Time) hlc.Time { return hlc.At(at.UnixMilli()+10_000, 1<<16-1) }

// future reads all pages of the values with events from the future.
func (f *fixture) future(t *testing.T, after hlc.Time, limit int) (values []region.FutureValue, undated uint64) {
	t.Helper()
	q := region.FutureQuery{After: after, Limit: limit}
	for pages := 0; ; pages++ {
		page, err := f.Future(t.Context(), q)
		if err != nil || pages > 10_000 {
			t.Fatalf("page %d: %v", pages, err)
		}
		values, undated = append(values, page.Values...), undated+page.Undated
		if q.Cursor = page.Cursor; len(q.Cursor) == 0 {
			return values, undated
		}
	}
}

func keysOf(values []region.FutureValue) (keys []string) {
	for i := range values {
		keys = append(keys, values[i].Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func op(kind replica.OpKind, key string, elements ...string) replica.Op {
	o := replica.Op{Kind: kind, Namespace: "default", Key: key}
	for _, e := range elements {
		o.Elements = append(o.Elements, []byte(e))
	}
	return o
}

// What a region with a clock ahead wrote is listed, of every kind, what it deleted without a trace too; what it wrote
// before, and what was written over since, is not. Where the events did not get there is nothing.
func TestFutureListsWhatOnlyThePoisonedRegionHas(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP)
	eu.mustWrite(t, "", put("honest", "1"))
	eu.mustWrite(t, "", put("twice", "1"))
	eu.mustWrite(t, "", op(replica.OpSetAdd, "cleared", "a"))
	us.mustWrite(t, "", put("theirs", "1"))
	exchange(t, eu, us)
	at := eu.clock.wall()
	if values, _ := eu.future(t, present(at), 10); len(values) > 0 {
		t.Errorf("of a sound region: %+v", values)
	}
	eu.clock.advance(time.Hour)
	eu.mustWrite(t, "", put("alone", "2"))
	eu.mustWrite(t, "", put("twice", "2"))
	eu.mustWrite(t, "", put("twice", "3"))
	eu.mustWrite(t, "", op(replica.OpDelete, "theirs"))
	eu.mustWrite(t, "", op(replica.OpSetClear, "cleared"))
	eu.mustWrite(t, "", add("count", 5))
	want := []string{"alone", "cleared", "count", "theirs", "twice"}
	for _, limit := range []int{1, 2, 1000} {
		values, undated := eu.future(t, present(at), limit)
		if got := keysOf(values); !slices.Equal(got, want) || len(values) != len(want) || undated != 0 {
			t.Errorf("pages of %d: %v, %d undated", limit, got, undated)
		}
		for i := range values {
			v := &values[i]
			if !v.OnlyHere || !slices.Equal(v.Lacking, []topology.RegionID{testUS, testAP}) || v.At.Wall().Sub(at) < time.Hour-time.Minute {
				t.Errorf("%s: %+v", v.Key, v)
			}
			checkRegister(t, v)
		}
	}
	checkBounds(t, eu, present(at), want)
	for name, f := range map[string]*fixture{"us": us, "eu, by its own clock": eu} {
		if values, undated := f.future(t, present(f.clock.wall()), 10); len(values) > 0 || undated > 0 {
			t.Errorf("%s has %+v", name, values)
		}
	}
}

// checkBounds checks that what is at the bound is not listed.
func checkBounds(t *testing.T, f *fixture, after hlc.Time, want []string) {
	t.Helper()
	first, _ := f.future(t, after, 10)
	if later, _ := f.future(t, first[0].At, 10); first[0].Key != "alone" || !slices.Equal(keysOf(later), want[1:]) {
		t.Errorf("after the instant of %s: %v", first[0].Key, keysOf(later))
	}
	if values, _ := f.future(t, f.View().HLC, 10); len(values) > 0 {
		t.Errorf("at the bound: %+v", values)
	}
}

// checkRegister checks what is told of a register that was written after us's first event arrived.
func checkRegister(t *testing.T, v *region.FutureValue) {
	t.Helper()
	if v.Type != crdt.TypeLWWRegister {
		return
	}
	if reg := v.Register; reg.Dot() != v.Dot || reg.Deleted != (v.Key == "theirs") || v.Seen.Get(actorOf(testUS)) != 1 {
		t.Errorf("%s: %+v, seen %v", v.Key, reg, v.Seen)
	}
}

// Who has taken an event is told by the watermarks, and by what regions say that they had seen.
func TestFutureTellsWhoHasTakenIt(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS, testAP), newFixture(t, testUS, testEU, testAP)
	at := eu.clock.wall()
	eu.clock.advance(time.Hour)
	eu.mustWrite(t, "", put("k", "1"))
	eu.mustWrite(t, "", put("l", "1"))
	eu.mustWrite(t, "", add("n", 1))
	acknowledge := func(r topology.RegionID, seq uint64) {
		if err := eu.Acknowledge(t.Context(), []region.Watermark{{Region: r, Actor: actorOf(testEU), Seq: seq}}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, f *fixture, want string) {
		t.Helper()
		values, _ := f.future(t, present(at), 10)
		got := map[string]string{}
		for i := range values {
			got[values[i].Key] = fmt.Sprint(values[i].Lacking, values[i].OnlyHere)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", when, got, want)
		}
	}
	check("before", eu, "map[k:[2 3] true l:[2 3] true n:[2 3] true]")
	acknowledge(testUS, 2)
	check("us has the first two", eu, "map[k:[3] false l:[3] false n:[2 3] true]")
	acknowledge(testAP, 1)
	if first := eu.View().Outbox.First; first != 2 {
		t.Fatalf("the outbox begins at %d", first)
	}
	check("all have the first", eu, "map[k:[] false l:[3] false n:[2 3] true]")
	acknowledge(testUS, 3)
	acknowledge(testAP, 3)
	check("all have all", eu, "map[k:[] false l:[] false n:[] false]")

	us.clock.advance(time.Hour) // us believes it
	sound := newFixture(t, testEU, testUS, testAP)
	sound.clock.advance(time.Hour)
	sound.mustWrite(t, "", put("k", "1"))
	exchange(t, sound, us)
	check("of another region", us, "map[k:[3] false]")
}

// A register says what its author had applied when it was written, by the outbox: not what it applied since.
func TestFutureTellsWhatTheAuthorHadSeen(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	at := eu.clock.wall()
	eu.clock.advance(time.Hour)
	const rounds = 20
	for i := range rounds {
		us.mustWrite(t, "", put("theirs", fmt.Sprint(i)))
		if _, err := eu.Merge(t.Context(), actorOf(testUS), deltas(t, us, uint64(i)+1)); err != nil {
			t.Fatal(err)
		}
		eu.mustWrite(t, "", put(fmt.Sprint(i), "v"))
	}
	for _, limit := range []int{1, 7, 100} {
		values, _ := eu.future(t, present(at), limit)
		seen := 0
		for i := range values {
			if values[i].Dot.Actor != actorOf(testEU) {
				continue
			}
			seen++
			if got := values[i].Seen.Get(actorOf(testUS)); fmt.Sprint(got-1) != values[i].Key {
				t.Errorf("%s had seen %d", values[i].Key, got)
			}
		}
		if seen != rounds {
			t.Errorf("%d values in pages of %d", seen, limit)
		}
	}
}

// Nobody gets anything but an error, or a page, out of a cursor that he made himself.
func TestFutureCursorsOfOthers(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	at := f.clock.wall()
	f.clock.advance(time.Hour)
	f.mustWrite(t, "", put("k", "v"))
	for _, cursor := range [][]byte{{0}, {1}, {2, 0}, {1, 2}, {1, 0}, {1, 0, 0x80}, {1, 0, 1, 1}, {1, 1}, {1, 1, 9}} {
		if _, err := f.Future(t.Context(), region.FutureQuery{After: present(at), Cursor: cursor, Limit: 1}); !errors.Is(err, region.ErrBadCursor) {
			t.Errorf("cursor %v answers %v", cursor, err)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		cursor := []byte{1, byte(rng.IntN(2))}
		for range rng.IntN(20) {
			cursor = append(cursor, byte(rng.Uint32()))
		}
		_, err := f.Future(t.Context(), region.FutureQuery{After: present(at), Cursor: cursor, Limit: 1})
		if err != nil && !errors.Is(err, region.ErrBadCursor) {
			t.Errorf("cursor %v answers %v", cursor, err)
		}
	}
}
