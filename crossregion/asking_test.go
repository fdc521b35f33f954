package crossregion_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// askable is a region that another asks for events.
func askable(t *testing.T) (asker *crossregion.Replicator, wanted chan hlc.Time) {
	t.Helper()
	d := deploy(t, 2)
	d.stop()
	d = &deployment{t: t, memory: d.memory, regions: d.regions}
	wanted = make(chan hlc.Time, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, region := range d.regions {
		c := d.config(region, 0)
		if i == 0 {
			c.WantEvent = func(_ topology.PartitionID, past hlc.Time) error { wanted <- past; return nil }
		}
		r, err := crossregion.New(c)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = r.Run(ctx) })
		asker = r
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return asker, wanted
}

// TestAnotherRegionIsAskedForAnEvent: requests get through, and one for the same is not repeated at once.
func TestAnotherRegionIsAskedForAnEvent(t *testing.T) {
	asker, wanted := askable(t)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(10 * time.Second)
	for asked := 1; ; asked++ {
		asker.AskEvent(2, 1, 77)
		asker.AskEvent(2, 9, 77) // no such region
		select {
		case past := <-wanted:
			if past != 77 {
				t.Errorf("asked for %d", past)
			}
			if rest := len(wanted); rest > 0 {
				t.Errorf("asked %d more times at once", rest)
			}
			return
		case <-again.C:
		case <-deadline:
			t.Fatalf("not heard in %d tries", asked)
		}
	}
}

// TestWritersHearSoonOfOtherRegions: who waits for a watermark gets it long before it would come by itself, which
// is 200 ms after the merge.
func TestWritersHearSoonOfOtherRegions(t *testing.T) {
	d := deploy(t, 3)
	d.write(1)
	d.converge() // the streams are open
	origin := d.replicators[0]
	if _, _, known := d.replicators[1].Reached(0, 1); known {
		t.Error("a node that does not lead knows")
	}
	d.regions[0].Write(0, []byte("x"))
	state, _ := d.regions[0].Node(0).Outbox(0)
	d.until("two regions have it", func() bool {
		origin.AskWatermarks(0, state.Head)
		n, changed, known := origin.Reached(0, state.Head)
		if !known {
			t.Fatal("the leader does not know")
		}
		if n == 2 {
			return true
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		}
		return false
	})
	if n, _, _ := origin.Reached(0, state.Head+1); n != 0 {
		t.Errorf("%d regions have what was never written", n)
	}
}
