package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/internal/wan"
	"github.com/atolldb/atoll/topology"
)

// locksAt gives all of a deployment a namespace with a home.
func locksAt(configs []Config, home topology.RegionID) {
	configs[0].Cluster.Namespaces = []topology.Namespace{{Name: "locks", Type: crdt.TypeLWWRegister, Home: home}}
}

// witnessed adds a witness to a deployment, and runs it.
func witnessed(t *testing.T, configs []Config) {
	t.Helper()
	c := configs[0].Cluster
	c.Witness = topology.Witness{Name: "third", Address: testkit.FreeAddrs(t, 1)[0]}
	runWitness(t, WitnessConfig{Cluster: c, DataDir: filepath.Join(t.TempDir(), "witness"), Logger: configs[0].Logger})
}

// cable is all that leads from one region to the others, and back.
type cable []*wan.Link

func (c cable) cut() {
	for _, l := range c {
		l.Cut()
	}
}

func (c cable) heal() {
	for _, l := range c {
		l.Heal()
	}
}

// island has all that a region and the others say to each other go through a cable.
func island(t *testing.T, configs []Config, id topology.RegionID) cable {
	t.Helper()
	var c cable
	links, ctx := errgroup.WithContext(t.Context())
	to := func(address string) string {
		l, err := wan.Listen(ctx, wan.Config{Listen: "127.0.0.1:0", Target: address})
		if err != nil {
			t.Fatal(err)
		}
		links.Go(func() error { return l.Run(ctx) })
		c = append(c, l)
		return l.Addr()
	}
	t.Cleanup(func() { _ = links.Wait() }) // the test's context has ended
	for i := range configs {
		cluster := *configs[i].Cluster
		cluster.Regions = slices.Clone(cluster.Regions)
		_, own, _ := cluster.Node(configs[i].Node)
		ownID := own.ID
		configs[i].RemoteURLs = map[topology.RegionID][]string{}
		for j := range cluster.Regions {
			if r := &cluster.Regions[j]; r.ID != ownID && (r.ID == id || ownID == id) {
				r.Membership = to(r.Membership)
				r.Nodes = slices.Clone(r.Nodes)
				for k := range r.Nodes {
					r.Nodes[k].API = to(r.Nodes[k].API)
				}
				configs[i].RemoteURLs[r.ID] = []string{"nats://" + to(r.Nodes[0].NATS)}
			}
		}
		configs[i].Cluster = &cluster
	}
	return c
}

// tries writes to both partitions once, and returns what became of the last.
func tries(ctx context.Context, c *client.Client, value string) error {
	for i := range 10 {
		if _, err := c.Put(ctx, fmt.Sprint("k", i), []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

// refuses waits until each partition refuses writes for a reason.
func refuses(t *testing.T, c *client.Client, why client.Reason) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		for i := range 10 {
			_, err := c.Put(t.Context(), fmt.Sprint("k", i), []byte("refused"))
			if failed, ok := errors.AsType[*client.Error](err); !ok || failed.Reason != why {
				return fmt.Errorf("a write answers %w", err)
			}
		}
		return nil
	})
}

// A home that is cut off decides nothing any more once its lease has run out, at all of its nodes, and takes other writes. When
// it is back it goes on, or, if the others have given it up, does not.
func TestAHomeThatIsCutOffStopsDeciding(t *testing.T) {
	configs := deployment(t, 1, 1, 2)
	locksAt(configs, 3)
	c := island(t, configs, 3)
	var nodes []*Node
	for _, cfg := range configs {
		n, stop := serveNode(t, cfg)
		defer stop()
		nodes = append(nodes, n)
	}
	plain := dial(t, configs[3], client.WithMaxAttempts(1))
	locks := plain.Namespace("locks")
	testkit.Eventually(t, patience, func() error { return tries(t.Context(), locks, "first") })

	c.cut()
	began := time.Now()
	if err := tries(t.Context(), locks, "under the lease"); err != nil {
		t.Errorf("under the lease: %v", err)
	}
	refuses(t, locks, client.ReasonNoLease)
	if took := time.Since(began); took > membership.LeaseTime+5*time.Second {
		t.Errorf("it decided for %v", took)
	}
	if _, err := locks.Get(t.Context(), "k0", client.WithHome()); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("a read at the home answers %v", err)
	}
	if err := tries(t.Context(), plain, "plain"); err != nil {
		t.Errorf("in a namespace without a home: %v", err)
	}
	for _, cfg := range configs[2:] {
		if status, err := dial(t, cfg).Status(t.Context()); err != nil || status.GetHomeLease().GetHeld() || status.GetHomeLease().GetWithout() == nil {
			t.Errorf("the status is %+v, %v", status.GetHomeLease(), err)
		}
	}

	c.heal()
	testkit.Eventually(t, patience, func() error { return tries(t.Context(), locks, "again") })

	c.cut()
	far := dial(t, configs[0])
	testkit.Eventually(t, patience, func() error {
		_, err := far.FenceRegion(t.Context(), client.RegionChange{Region: "r3", Note: "a test"})
		return err
	})
	refuses(t, locks, client.ReasonNoLease)
	if err := tries(t.Context(), plain, "not heard of it"); err != nil {
		t.Errorf("in a namespace without a home: %v", err)
	}
	becomes(t, nodes[0], 3, membership.Closed)
	c.heal()
	refuses(t, locks, client.ReasonFenced)
}
