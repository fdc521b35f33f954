package crossregion_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/linktest"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deployment is some regions of two nodes each, over a link in memory.
type deployment struct {
	t           *testing.T
	memory      *linktest.Memory
	regions     []*linktest.Region
	replicators []*crossregion.Replicator
	stop        func()
}

const testPartitions = 4

func deploy(t *testing.T, regions int) *deployment {
	return deployWith(t, regions, func(*crossregion.Config) {})
}

// deployWith is deploy, but for what change does to each node's configuration.
func deployWith(t *testing.T, regions int, change func(*crossregion.Config), tune ...func(*protocol.Tuning)) *deployment {
	d := &deployment{t: t, memory: &linktest.Memory{}}
	ids := make([]topology.RegionID, regions)
	for i := range ids {
		ids[i] = topology.RegionID(i + 1)
	}
	for _, id := range ids {
		var others []topology.RegionID
		for _, o := range ids {
			if o != id {
				others = append(others, o)
			}
		}
		d.regions = append(d.regions, linktest.NewRegion(id, testPartitions, others...))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, region := range d.regions {
		for n := range 2 {
			cfg := d.config(region, n)
			change(&cfg)
			r, err := crossregion.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			crossregion.Hasten(r, tune...)
			d.replicators = append(d.replicators, r)
			wg.Go(func() {
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	d.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(d.stop)
	return d
}

// derive makes keys that are no secret.
func derive(purpose string) [32]byte { return sha256.Sum256([]byte(purpose)) }

func (d *deployment) config(region *linktest.Region, node int) crossregion.Config {
	c := crossregion.Config{
		Cluster: "test", Self: region.ID, Node: topology.NodeID(fmt.Sprintf("n%d-%d", region.ID, node)),
		Actor: region.Actor, Partitions: testPartitions, Source: region.Node(node), Sink: region.Node(node), State: region.Node(node),
		Derive: derive, Link: d.memory.Link(region.ID), Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
	}
	if node == 0 { // as while programs are being replaced
		c.Fold = linktest.Fold
	}
	for _, o := range d.regions {
		if o != region {
			c.Regions = append(c.Regions, crossregion.RemoteRegion{ID: o.ID, Name: fmt.Sprint("r", o.ID), Actor: o.Actor})
		}
	}
	return c
}

func (d *deployment) until(what string, ok func() bool) {
	d.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			for _, r := range d.replicators {
				d.t.Logf("%+v %+v", r.Stats(), r.Flows())
			}
			d.t.Fatalf("waited in vain: %s", what)
		case <-ticker.C:
		}
	}
}

func (d *deployment) pause(t time.Duration) {
	timer := time.NewTimer(t)
	defer timer.Stop()
	<-timer.C
}

// converge waits until everything is everywhere and trimmed, and checks that it is right.
func (d *deployment) converge() {
	d.t.Helper()
	d.until("every region has everything", func() bool {
		for _, dst := range d.regions {
			for _, origin := range d.regions {
				if origin != dst && dst.Missing(origin) > 0 {
					return false
				}
			}
		}
		return true
	})
	d.until("outboxes are empty", func() bool {
		for _, origin := range d.regions {
			for p := range topology.PartitionID(testPartitions) {
				if origin.Kept(p) > 0 {
					return false
				}
			}
		}
		return true
	})
	for _, dst := range d.regions {
		for _, origin := range d.regions {
			if origin == dst {
				continue
			}
			for _, f := range dst.Faults(origin) {
				d.t.Errorf("region %d from %d: %s", dst.ID, origin.ID, f)
			}
		}
	}
}

func (d *deployment) write(n int) {
	for i := range n {
		r := d.regions[i%len(d.regions)]
		r.Write(topology.PartitionID(i/len(d.regions)%testPartitions), fmt.Appendf(nil, "%d of %d by %d", i, n, r.ID))
	}
}

func TestRegionsConverge(t *testing.T) {
	d := deploy(t, 3)
	d.write(3000)
	d.converge()
	var folded uint64
	for _, r := range d.replicators {
		s := r.Stats()
		if s.Refused+s.BadBatches+s.Trimmed > 0 {
			t.Errorf("without any fault: %+v", s)
		}
		folded += s.Folded
	}
	if folded == 0 {
		t.Error("nothing was folded")
	}
}

// TestFetchAnswersAsAsked: a region that knows no codec gets records one by one.
func TestFetchAnswersAsAsked(t *testing.T) {
	d := deploy(t, 2)
	d.regions[1].Lead(3, -1) // nothing is acknowledged
	for i := range 50 {
		d.regions[0].Write(3, fmt.Appendf(nil, "record %d", i))
	}
	link := d.memory.Link(2)
	for codec, want := range []uint32{0, 0, 1} {
		request := crossregion.FetchFrame(d.replicators[2], 3, d.regions[0].Actor, uint32(codec))
		var response []byte
		d.until("somebody leads there", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var err error
			response, err = link.Inlet(1).Fetch(ctx, 3, request)
			return err == nil
		})
		if got, records := crossregion.FetchedCodec(d.replicators[2], response); got != want || records == 0 {
			t.Errorf("asked for codec %d, got %d with %d records", codec, got, records)
		}
	}
}

// TestFoldedOutboxesConverge: outboxes have records that stand for several, with others behind them.
func TestFoldedOutboxesConverge(t *testing.T) {
	d := deploy(t, 3)
	for range 20 {
		d.write(300)
		for p := range topology.PartitionID(testPartitions) {
			d.regions[0].FoldOutbox(p)
		}
		d.memory.Wipe(d.regions[0].ID)
	}
	d.converge()
	d.regions[1].Lead(3, -1)
	for i := range 50 {
		d.regions[0].Write(3, fmt.Appendf(nil, "record %d", i))
	}
	d.regions[0].FoldOutbox(3)
	d.regions[0].Write(3, []byte("behind"))
	for codec, want := range []string{"trimmed", "trimmed", "records"} {
		got, response := "", []byte(nil)
		d.until("somebody leads there", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var err error
			response, err = d.memory.Link(2).Inlet(1).Fetch(ctx, 3, crossregion.FetchFrameFrom(d.replicators[2], 3, d.regions[0].Actor, uint32(codec), d.regions[0].Begin(3)))
			return err == nil
		})
		if got = "records"; crossregion.FetchedTrimmedTo(d.replicators[2], response) != 0 {
			got = "trimmed"
		}
		if got != want {
			t.Errorf("codec %d: %s, want %s", codec, got, want)
		}
	}
}

func TestLeadersChangeAndStreamsAreLost(t *testing.T) {
	d := deploy(t, 3)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		d.write(60)
		switch region := d.regions[rng.IntN(3)]; rng.IntN(3) {
		case 0:
			d.memory.Wipe(region.ID)
		default:
			region.Lead(topology.PartitionID(rng.IntN(testPartitions)), rng.IntN(3)-1)
		}
		d.pause(time.Duration(rng.IntN(30)) * time.Millisecond) // so that all that can be under way is
	}
	for _, region := range d.regions {
		for p := range topology.PartitionID(testPartitions) {
			region.Lead(p, 1)
		}
	}
	d.converge()
}

func TestCutRegionCatchesUp(t *testing.T) {
	d := deploy(t, 2)
	d.write(100)
	d.converge()
	d.memory.Cut(1, 2, true)
	d.memory.Cut(2, 1, true)
	d.write(2000)
	d.memory.Wipe(1)
	d.until("both sides know that they do not know", func() bool {
		unknown := 0
		for _, r := range d.replicators {
			for _, f := range r.Flows() {
				if f.Unknown && f.Destination != f.Source {
					unknown++
				}
			}
		}
		return unknown == 2*2*testPartitions
	})
	if missing := d.regions[0].Missing(d.regions[1]) + d.regions[1].Missing(d.regions[0]); missing != 2000 {
		t.Errorf("%d of 2000 records crossed a cut link", 2000-missing)
	}
	d.memory.Cut(1, 2, false)
	d.memory.Cut(2, 1, false)
	d.converge()
}

func TestFlowsTellTheTruth(t *testing.T) {
	d := deploy(t, 2)
	d.write(80)
	d.converge()
	d.until("every flow is known and complete", func() bool {
		n := 0
		for _, r := range d.replicators {
			for _, f := range r.Flows() {
				if !f.Unknown && f.Lag() == 0 && f.Behind == 0 && f.Applied == 10 && f.Stuck == "" {
					n++
				}
			}
		}
		return n == 2*2*testPartitions
	})
}

func TestStrangersAreRefused(t *testing.T) {
	d := deploy(t, 2)
	stranger := d.config(d.regions[0], 0)
	stranger.Cluster = "another"
	r, err := crossregion.New(stranger)
	if err != nil {
		t.Fatal(err)
	}
	crossregion.Hasten(r)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	d.write(100)
	d.until("strange frames are refused", func() bool { return d.replicators[2].Stats().Refused > 0 && r.Stats().Refused > 0 })
	d.until("all is merged", func() bool { return d.regions[1].Missing(d.regions[0]) == 0 })
	if faults := d.regions[1].Faults(d.regions[0]); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	_, err := crossregion.New(crossregion.Config{Self: 1, Regions: []crossregion.RemoteRegion{{ID: 1, Name: "us"}}})
	if err == nil {
		t.Fatal("an empty configuration passed")
	}
	for _, want := range []string{"must be named", "partitions is 0", `region id 1 of "us"`, "actor 0", "required"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("fault %q is not named in: %v", want, err)
		}
	}
}
