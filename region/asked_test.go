package region_test

import (
	"errors"
	"testing"
	"time"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
)

func (f *fixture) instant(ahead time.Duration) hlc.Time {
	return hlc.At(f.clock.wall().Add(ahead).UnixMilli(), 0)
}

// own returns the instant and number of the region's last event.
func (f *fixture) own() (hlc.Time, uint64) {
	view := f.View()
	return view.HLCs[view.Outbox.Actor], view.Outbox.Head
}

// TestARegionMakesAnEventWhenAnotherAsks: an instant that another waits for is reached at once, though it is
// ahead of the clock here and nobody writes, and asking again makes nothing.
func TestARegionMakesAnEventWhenAnotherAsks(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	past := f.instant(3 * time.Second)
	applied := f.Applied()
	if err := f.WantTick(past); err != nil {
		t.Fatal(err)
	}
	select {
	case <-applied:
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was applied")
	}
	if at, head := f.own(); at <= past || head != 1 {
		t.Fatalf("event %d is of %v, want one after %v", head, at, past)
	}
	if box, _ := f.Outbox(); box.Head != 1 || box.First != 1 {
		t.Errorf("outbox %+v: the event must get there", box)
	}
	for _, again := range []hlc.Time{past, f.instant(0)} {
		if err := f.WantTick(again); err != nil {
			t.Fatal(err)
		}
	}
	past = f.instant(4 * time.Second)
	for range 100 {
		if err := f.WantTick(past); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 5*time.Second, func() error {
		if at, _ := f.own(); at < past {
			return errors.New("the later instant is not reached")
		}
		return nil
	})
	if _, head := f.own(); head != 2 {
		t.Errorf("%d events for two instants", head)
	}
}

func TestEventsThatNobodyCanBelieveAreNotMade(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	var ahead *region.ClockAheadError
	if err := f.WantTick(f.instant(11 * time.Second)); !errors.As(err, &ahead) {
		t.Errorf("far ahead: %v", err)
	}
	f.group.set(func() { f.group.leading = false })
	if err := f.WantTick(f.instant(0)); !errors.Is(err, region.ErrNotLeader) {
		t.Errorf("elsewhere: %v", err)
	}
	if _, head := f.own(); head != 0 {
		t.Errorf("%d events", head)
	}
}

func TestWritesComeAfterWhatWasObserved(t *testing.T) {
	f := newFixture(t, testEU, testUS)
	seen := f.instant(9 * time.Second)
	f.Observe(seen)
	f.mustWrite(t, "", put("k", "v"))
	if at, _ := f.own(); at <= seen {
		t.Errorf("stamped %v, not after %v", at, seen)
	}
}

// TestConfirmedReadsAskWhoeverAnswers: unlike linearizable ones they do not insist on the leader, and unlike
// bounded ones they never do without a proof.
func TestConfirmedReadsAskWhoeverAnswers(t *testing.T) {
	f := newFixture(t, testEU)
	confirmed := region.ReadOptions{Level: region.Confirmed}
	for range 2 {
		if info, err := f.Read(t.Context(), confirmed, peek); err != nil || info.Strategy != region.StrategyLeader {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	f.group.set(func() {
		if f.group.proofs[region.StrategyLeader] != 2 {
			t.Errorf("two reads asked %v", f.group.proofs)
		}
		f.group.leading = false
	})
	if info, err := f.Read(t.Context(), confirmed, peek); err != nil || info.Strategy != region.StrategyFollower {
		t.Fatalf("%+v, %v", info, err)
	}
	f.group.set(func() { f.group.unproved = region.ErrNoQuorum })
	if _, err := f.Read(t.Context(), confirmed, peek); !errors.Is(err, region.ErrNoQuorum) {
		t.Fatalf("without proof: %v", err)
	}
}
