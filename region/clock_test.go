package region_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

// value returns what a region reads.
func (f *fixture) value(t *testing.T, key string) (value string) {
	t.Helper()
	_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, now hlc.Time) error {
		o, _, err := r.Lookup("default", key, now)
		value = string(o.Value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// losers returns how many concurrent writes a region decided between, and the values that lost.
func (f *fixture) losers(t *testing.T) (conflicts uint64, values map[string]int) {
	t.Helper()
	values = map[string]int{}
	_, err := f.Read(t.Context(), region.ReadOptions{}, func(r *replica.Replica, _ hlc.Time) error {
		counts, err := r.ConflictCounts(nil)
		for _, c := range counts {
			conflicts += c.Count
		}
		if err != nil {
			return err
		}
		all, _, err := r.Losers(replica.LoserQuery{Limit: 1000, Bytes: 1 << 24})
		for _, l := range all {
			values[string(l.Value)]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return conflicts, values
}

// exchange merges in each of two regions what it lacks of the other.
func exchange(t *testing.T, a, b *fixture) {
	t.Helper()
	for _, pair := range [][2]*fixture{{a, b}, {b, a}} {
		to, from := pair[0], pair[1]
		actor := from.View().Outbox.Actor
		if data := deltas(t, from, to.View().Vector.Get(actor)+1); len(data) > 0 {
			if _, err := to.Merge(t.Context(), actor, data); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A write that has seen another beats it in every region, however far its clock is behind.
func TestCausallyLaterWriteAlwaysWins(t *testing.T) {
	for _, skew := range []time.Duration{-5 * time.Second, 5 * time.Second, -time.Hour, -10 * 365 * 24 * time.Hour, 9 * time.Second} {
		eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
		us.clock.advance(skew)
		for i := range 20 {
			eu.mustWrite(t, "", put("k", fmt.Sprint("eu", i)))
			if skew >= -10*time.Second {
				exchange(t, eu, us)
			} else { // us would refuse it: its clock is too far behind. Somebody else's word makes it see eu's write.
				us.clock.advance(-skew)
				exchange(t, eu, us)
				us.clock.advance(skew)
			}
			us.mustWrite(t, "", put("k", fmt.Sprint("us", i)))
			exchange(t, eu, us)
			for name, f := range map[string]*fixture{"eu": eu, "us": us} {
				if got, want := f.value(t, "k"), fmt.Sprint("us", i); got != want {
					t.Fatalf("skew %v: %s reads %q, not %q", skew, name, got, want)
				}
			}
		}
		if n, lost := us.losers(t); n != 0 || len(lost) != 0 {
			t.Errorf("skew %v: %d conflicts, %v lost", skew, n, lost)
		}
	}
}

// However clocks strobe, every concurrent write that is gone is a loser, in both regions, and none else is.
func TestLosersAreExactUnderStrobingClocks(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	const rounds = 200
	want := map[string]int{}
	for i := range rounds {
		us.clock.advance([]time.Duration{5, -10, 10, -5}[i%4] * time.Second)
		eu.clock.advance(time.Millisecond)
		here, there := fmt.Sprint("eu", i), fmt.Sprint("us", i)
		eu.mustWrite(t, "", put("k", here))
		us.mustWrite(t, "", put("k", there))
		exchange(t, eu, us)
		winner := eu.value(t, "k")
		if got := us.value(t, "k"); got != winner || winner != here && winner != there {
			t.Fatalf("round %d: eu reads %q, us %q", i, winner, got)
		}
		if winner == here {
			want[there]++
		} else {
			want[here]++
		}
	}
	for name, f := range map[string]*fixture{"eu": eu, "us": us} {
		n, lost := f.losers(t)
		if n != rounds || fmt.Sprint(lost) != fmt.Sprint(want) {
			t.Errorf("%s: %d conflicts with %d losers of %d rounds", name, n, len(lost), rounds)
		}
	}
}

// Nothing beyond the bound is ever taken, of any delta of a batch, and what is refused does not drag the clock: writes
// of this region keep its own time.
func TestFutureIsRefusedAlways(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	eu.mustWrite(t, "", put("k", "past")) // the first of every batch is honest
	for _, ahead := range []time.Duration{10001 * time.Millisecond, time.Minute, time.Hour, 10 * 365 * 24 * time.Hour} {
		eu.clock.advance(ahead)
		for range 50 {
			eu.mustWrite(t, "", put("k", "future"))
			data := deltas(t, eu, 1)
			_, err := us.Merge(t.Context(), actorOf(testEU), data)
			_, inReverse := us.Merge(t.Context(), actorOf(testEU), [][]byte{data[len(data)-1], data[0]})
			if !errors.As(err, new(*region.ClockAheadError)) || !errors.As(inReverse, new(*region.ClockAheadError)) {
				t.Fatalf("%v ahead answers %v and %v", ahead, err, inReverse)
			}
		}
		us.mustWrite(t, "", put("k", "now"))
		if got := us.View().HLC.Wall(); got.After(us.clock.wall().Add(time.Second)) || us.value(t, "k") != "now" {
			t.Errorf("us is at %v by its clock's %v", got, us.clock.wall())
		}
	}
	if view := us.View(); view.Vector.Get(actorOf(testEU)) != 0 {
		t.Errorf("vector is %v", view.Vector)
	}
}

// A node whose clock is unsafe proposes nothing, of any kind, says so, and reads on; when it is right again it goes on.
func TestUnsafeClockProposesNothing(t *testing.T) {
	eu, us := newFixture(t, testEU, testUS), newFixture(t, testUS, testEU)
	us.mustWrite(t, "", put("other", "theirs"))
	eu.mustWrite(t, "", put("k", "before"))
	eu.unsafe.Store(&region.ClockUnsafeError{Drift: time.Hour})
	entries := eu.View().Position.Index
	eu.clock.advance(time.Hour)
	var unsafe *region.ClockUnsafeError
	if _, err := eu.Write(t.Context(), "", []replica.Op{put("k", "never")}); !errors.As(err, &unsafe) || unsafe.Drift != time.Hour {
		t.Errorf("a write answers %v", err)
	}
	if _, err := eu.Merge(t.Context(), actorOf(testUS), deltas(t, us, 1)); !errors.Is(err, region.ErrClockUnsafe) {
		t.Errorf("a merge answers %v", err)
	}
	if err := eu.ExpireDue(t.Context()); err != nil {
		t.Errorf("looking for what is over answers %v", err)
	}
	if got := eu.value(t, "k"); got != "before" || eu.View().Position.Index != entries {
		t.Errorf("reads %q, %d entries since", got, eu.View().Position.Index-entries)
	}
	eu.clock.advance(-time.Hour)
	eu.unsafe.Store(nil)
	eu.mustWrite(t, "", put("k", "after"))
	// What was read meanwhile has not taken the clock along.
	if got := eu.View().HLC.Wall(); got.After(eu.clock.wall().Add(time.Second)) {
		t.Errorf("the clock is at %v by the wall's %v", got, eu.clock.wall())
	}
}

// What was issued stays before what is issued after a restart, though the wall clock went back meanwhile.
func TestIssuedInstantsStayBehindAfterARestart(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	f.mustWrite(t, "", put("k", "v"))
	before := f.View().HLC
	f.clock.advance(-10 * 365 * 24 * time.Hour)
	clock := hlc.NewClock(f.clock.wall)
	again := openStore(t, t.TempDir()+"/p.db")
	m, err := region.NewMachine(actorOf(testEU), again, clock)
	if err != nil {
		t.Fatal(err)
	}
	f.group.set(func() { err = m.Apply(f.group.log) }) // the log has it all
	if err != nil {
		t.Fatal(err)
	}
	if next := clock.Now(); next <= before || m.View().HLC != before {
		t.Errorf("%v is issued after %v", next, before)
	}
}
