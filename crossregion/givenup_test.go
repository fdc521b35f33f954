package crossregion_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// TestARegionThatWasGivenUpIsNotHeard: nothing that it sends is taken, and what is asked of it by its neighbours is not
// asked; what others have of it goes on its way, at once: nobody waits for what it might give.
func TestARegionThatWasGivenUpIsNotHeard(t *testing.T) {
	var given atomic.Bool
	d := deployWith(t, 3, func(c *crossregion.Config) {
		c.GivenUp = func(id topology.RegionID) bool { return id == 1 && given.Load() && c.Self != 1 }
	}, func(tuning *protocol.Tuning) { tuning.RelayAfter = time.Hour })
	d.write(60)
	d.converge()
	d.memory.Cut(1, 3, true)
	d.regions[0].Write(2, []byte("heard by the second"))
	d.until("the second region has it", func() bool { return d.regions[1].Missing(d.regions[0]) == 0 })
	given.Store(true)
	d.memory.Cut(1, 3, false)
	d.until("the third has it from the second", func() bool { return d.regions[2].Missing(d.regions[0]) == 0 })
	had := d.regions[2].Node(0).Applied(2, topology.Actor(1, 1))
	d.regions[0].Write(2, []byte("late"))
	d.until("what is late is refused", func() bool { return refusals(d, protocol.ReasonGivenUp) > 5 })
	if now := d.regions[2].Node(0).Applied(2, topology.Actor(1, 1)); now != had {
		t.Errorf("applied up to %d, was %d", now, had)
	}
}

// transfersTo counts the views that are asked for, and opens none.
type transfersTo struct {
	crossregion.Transfers
	opened atomic.Int64
}

func (t *transfersTo) Transfer(topology.PartitionID) (protocol.Transfer, bool) {
	return protocol.Transfer{}, false
}
func (t *transfersTo) Lacks(topology.PartitionID) bool { return false }

func (t *transfersTo) OpenView(context.Context, topology.PartitionID, topology.RegionID) (uint64, []byte, error) {
	t.opened.Add(1)
	return 0, nil, errors.New("none is opened")
}

// TestARegionThatWasGivenUpGetsNoState: to open a view has the outbox keep events for who asks.
func TestARegionThatWasGivenUpGetsNoState(t *testing.T) {
	var given atomic.Bool
	var transfers transfersTo
	d := deployWith(t, 2, func(c *crossregion.Config) {
		c.GivenUp = func(id topology.RegionID) bool { return id == 1 && given.Load() }
		c.Transfers = &transfers
	})
	keys := protocol.NewKeys("test", topology.Actor(1, 1), nil, derive)
	ask := func() bool {
		request, err := keys.EncodeResyncRequest(3, 2, protocol.ResyncRequest{Want: protocol.WantView, Nonce: 1, MaxBytes: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		answer, err := d.memory.Link(1).Inlet(2).Fetch(ctx, 3, request)
		return err == nil && len(answer) > 0
	}
	d.until("it is told to come again, and a view is opened", func() bool { return ask() && transfers.opened.Load() > 0 })
	given.Store(true)
	opened := transfers.opened.Load()
	if ask() {
		t.Error("a region that was given up is answered")
	}
	if now := transfers.opened.Load(); now > opened+1 { // one may have been asked for before
		t.Errorf("%d views were opened for it", now-opened)
	}
}

// TestAPeerThatKnowsMoreIsReported: a region whose outbox never had what another says it has applied is told of that.
func TestAPeerThatKnowsMoreIsReported(t *testing.T) {
	var lost atomic.Uint64
	d := deployWith(t, 2, func(c *crossregion.Config) {
		if c.Self == 1 {
			c.Lost = func(_ topology.PartitionID, by topology.RegionID, seq uint64) {
				if by == 2 {
					lost.Store(seq)
				}
			}
		}
	})
	d.write(20)
	d.converge()
	if n := lost.Load(); n != 0 {
		t.Fatalf("event %d is said to be lost", n)
	}
	ahead := []protocol.Position{{Partition: 0, Actor: topology.Actor(1, 1), Seq: 1 << 20}}
	frame, err := protocol.NewKeys("test", topology.Actor(2, 1), nil, derive).EncodeWatermarks(1, ahead)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.memory.Link(2).Inlet(1).Report(frame); err != nil {
		t.Fatal(err)
	}
	d.until("it is told", func() bool { return lost.Load() == 1<<20 })
}

func refusals(d *deployment, reason protocol.Reason) (n uint64) {
	for _, r := range d.replicators {
		for _, refused := range r.Stats().Refusals {
			if refused.Reason == reason {
				n += refused.Count
			}
		}
	}
	return n
}
