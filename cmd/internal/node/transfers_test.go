package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// threeRegions are of one node and one partition each.
func threeRegions(t *testing.T) []Config {
	t.Helper()
	first := config(t)
	a := testkit.FreeAddrs(t, 4)
	first.Cluster.Partitions = 1
	first.Cluster.Regions = append(first.Cluster.Regions, topology.Region{ID: 3, Name: "ap", Nodes: []topology.Node{{
		ID: "ap-1", API: a[0], Raft: a[1], NATS: a[2], NATSCluster: a[3],
	}}})
	all := make([]Config, len(first.Cluster.Regions))
	for i := range all {
		all[i] = first
		all[i].Node, all[i].DataDir = first.Cluster.Regions[i].Nodes[0].ID, filepath.Join(t.TempDir(), "data")
	}
	return all
}

// stateOf returns the vector and the digest of a node's first partition.
func stateOf(ctx context.Context, n *Node) (v crdt.VersionVector, d replica.Digest, err error) {
	p, err := n.data.Partition(0)
	if err != nil {
		return v, d, err
	}
	_, err = p.Read(ctx, region.ReadOptions{Level: region.Eventual}, func(r *replica.Replica, _ hlc.Time) (err error) {
		v = r.Vector()
		d, err = r.Digest()
		return err
	})
	return v, d, err
}

func sameState(ctx context.Context, nodes ...*Node) error {
	first, want, err := stateOf(ctx, nodes[0])
	for _, n := range nodes[1:] {
		v, d, otherErr := stateOf(ctx, n)
		if err != nil || otherErr != nil || !v.Equal(first) || d != want {
			return fmt.Errorf("%v %x, %v %x, %v, %v", first.Entries(), want.Sum, v.Entries(), d.Sum, err, otherErr)
		}
	}
	return nil
}

// away is a deployment of three regions of which the second was evicted from the first one's outbox.
type away struct {
	all   []Config
	nodes []*Node
	stops []func()
	eu    *region.Partition
}

// sendAway writes more in the first region while the second is away than its outbox may keep.
func sendAway(t *testing.T) *away {
	a := &away{all: threeRegions(t)}
	for i := range a.all {
		a.all[i].OutboxQuotaBytes = 2 << 20
		n, stop := serveNode(t, a.all[i])
		a.nodes, a.stops = append(a.nodes, n), append(a.stops, stop)
	}
	for _, cfg := range a.all {
		awaitReady(t, cfg)
	}
	var err error
	if a.eu, err = a.nodes[0].data.Partition(0); err != nil {
		t.Fatal(err)
	}
	eu := dial(t, a.all[0])
	mustPut(t, eu, "before", 20, 10)
	testkit.Eventually(t, time.Minute, func() error { return sameState(t.Context(), a.nodes...) })
	a.stops[1]()
	if _, err := eu.Counter("counter").Add(t.Context(), 5, client.WithOpID("repeated")); err != nil {
		t.Fatal(err)
	}
	for i := range 6 { // in all more than the third region, which keeps up, can pass on
		mustPut(t, eu, fmt.Sprint("while away ", i, " "), 100, 8<<10)
		a.await(t, func(d *region.OutboxDestination) bool { return d.Region == 2 || d.Eviction == nil && d.Events == 0 })
	}
	a.await(t, func(d *region.OutboxDestination) bool { return (d.Eviction != nil) == (d.Region == 2) })
	return a
}

// await waits until something is so of all destinations of the first region's outbox.
func (a *away) await(t *testing.T, is func(*region.OutboxDestination) bool) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() error {
		destinations, err := a.eu.Destinations()
		for i := range destinations {
			if !is(&destinations[i]) {
				err = fmt.Errorf("%+v", destinations[i])
			}
		}
		return err
	})
}

// mustPut writes values that cannot be compressed.
func mustPut(t *testing.T, c *client.Client, key string, n, size int) {
	t.Helper()
	value := make([]byte, size)
	for i := range n {
		if _, err := rand.Read(value); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(t.Context(), fmt.Sprint(key, i), value); err != nil {
			t.Fatal(err)
		}
	}
}

// A region that is away while others write more than their outboxes may keep takes over the state when it is back,
// keeps what it had written itself, and knows again the writes that a client repeats. Nobody else notices.
func TestRegionThatWasAwayTooLongTakesOverTheState(t *testing.T) {
	a := sendAway(t)
	a.nodes[1], a.stops[1] = serveNode(t, a.all[1])
	awaitReady(t, a.all[1])
	us := dial(t, a.all[1])
	mustPut(t, us, "own", 1, 10)
	stuck := ""
	testkit.Eventually(t, time.Minute, func() error {
		for _, f := range a.nodes[1].replicator.Load().Flows() {
			if f.Source == 1 && f.Stuck != "" {
				stuck = f.Stuck
			}
		}
		return sameState(t.Context(), a.nodes...)
	})
	if !strings.Contains(stuck, "state transfer") {
		t.Errorf("it was stuck with %q", stuck)
	}
	if s := a.nodes[1].replicator.Load().Stats(); s.Transfers == 0 || s.TransferBytes == 0 {
		t.Errorf("no state was taken over: %+v", s)
	}
	if s := a.nodes[2].replicator.Load().Stats(); s.Transfers != 0 || s.Trimmed != 0 {
		t.Errorf("another region had to take over a state, too: %+v", s)
	}
	if _, err := us.Counter("counter").Add(t.Context(), 5, client.WithOpID("repeated")); err != nil {
		t.Fatal(err)
	}
	if n, err := us.Counter("counter").Value(t.Context()); err != nil || n != 5 {
		t.Errorf("after the repetition the counter is %d, %v", n, err)
	}
	a.await(t, func(d *region.OutboxDestination) bool { return d.Eviction == nil && d.Events == 0 })
	for _, stop := range a.stops {
		stop()
	}
}
