package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

// Conditions hold for all regions where a namespace has a home, also while that moves, and when it is gone nothing
// is done.
func TestAHomeDecidesForAllRegions(t *testing.T) {
	configs := deployment(t, 1, 2)
	configs[0].Cluster.Namespaces = []topology.Namespace{{Name: "locks", Type: crdt.TypeLWWRegister, Home: 2}}
	var nodes []*Node
	var stops []func()
	for _, cfg := range configs {
		n, stop := serveNode(t, cfg)
		nodes, stops = append(nodes, n), append(stops, stop)
	}
	defer stops[0]()
	far := dial(t, configs[0]).Namespace("locks")
	near := dial(t, configs[1], client.WithUnary()).Namespace("locks")
	for i := range 10 {
		takeOnce(t, near, far, fmt.Sprint("k", i))
		takeOnce(t, far, near, fmt.Sprint("l", i))
	}
	if _, err := far.Put(t.Context(), "k", []byte("v"), client.WithLocalDurability()); !errors.Is(err, client.ErrInvalidArgument) {
		t.Errorf("one node acknowledges: %v", err)
	}
	moveHome(t, nodes[1:], 1)
	for i, c := range []*client.Client{near, far} {
		key := fmt.Sprint("k", i)
		var wrote client.Info
		_, err := c.Put(t.Context(), key, []byte("moved"), client.IfValue([]byte("mine")), client.WithInfo(&wrote))
		if err != nil || wrote.Region != "r1" {
			t.Errorf("after the move: %v, by %q", err, wrote.Region)
		}
	}
	stops[1]()
	stops[2]()
	if _, err := far.Put(t.Context(), "k0", []byte("alone"), client.IfValue([]byte("moved"))); err != nil {
		t.Errorf("the home alone: %v", err)
	}
}

// A home that moved is found by nodes that have no replica, when the region that the configuration names is gone.
func TestAMovedHomeIsFoundEverywhere(t *testing.T) {
	configs := deployment(t, 1, 2)
	configs[0].Cluster.Namespaces = []topology.Namespace{{Name: "locks", Type: crdt.TypeLWWRegister, Home: 1}}
	var nodes []*Node
	var stops []func()
	for _, cfg := range configs {
		n, stop := serveNode(t, cfg)
		nodes, stops = append(nodes, n), append(stops, stop)
	}
	defer stops[1]()
	defer stops[2]()
	first := dial(t, configs[0]).Namespace("locks")
	for i := range 10 {
		if _, err := first.Put(t.Context(), fmt.Sprint("k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	moveHome(t, nodes[:1], 2)
	stops[0]()
	for _, cfg := range configs[1:] {
		c := dial(t, cfg, client.WithUnary(), client.WithMaxAttempts(1)).Namespace("locks")
		for i := range 10 {
			if _, err := c.Put(t.Context(), fmt.Sprint("k", i), []byte("v"), client.IfValue([]byte("v"))); err != nil {
				t.Errorf("node %s: %v", cfg.Node, err)
			}
		}
	}
}

// takeOnce has one region take a key that is free, and another one find it taken.
func takeOnce(t *testing.T, one, other *client.Client, key string) {
	t.Helper()
	var wrote client.Info
	if _, err := one.Put(t.Context(), key, []byte("mine"), client.IfAbsent(), client.WithInfo(&wrote)); err != nil || wrote.Region != "r2" {
		t.Fatalf("%v, by %q", err, wrote.Region)
	}
	if _, err := other.Put(t.Context(), key, []byte("yours"), client.IfAbsent()); !errors.Is(err, client.ErrAlreadyExists) {
		t.Fatalf("%s is taken twice: %v", key, err)
	}
	if got, err := other.Get(t.Context(), key, client.WithHome()); err != nil || string(got.Bytes) != "mine" {
		t.Fatalf("%s reads %q, %v", key, got.Bytes, err)
	}
}

// moveHome moves the home of both partitions away from a region of nodes.
func moveHome(t *testing.T, nodes []*Node, to topology.RegionID) {
	t.Helper()
	for p := range topology.PartitionID(2) { // one of them holds it
		testkit.Eventually(t, patience, func() error {
			var err error
			for _, n := range nodes {
				held, missing := n.data.Partition(p)
				if missing == nil {
					err = held.MoveHome(t.Context(), "locks", to)
				}
			}
			return err
		})
	}
}

// A write that cannot get to the home is not done, and says where it would have been.
func TestAHomeThatIsGoneRefuses(t *testing.T) {
	configs := deployment(t, 1, 1)
	configs[0].Cluster.Namespaces = []topology.Namespace{{Name: "locks", Type: crdt.TypeLWWRegister, Home: 2}}
	_, stop := serveNode(t, configs[0])
	defer stop()
	far := dial(t, configs[0], client.WithMaxAttempts(1)).Namespace("locks")
	_, err := far.Put(t.Context(), "k", []byte("v"))
	var failed *client.Error
	if !errors.As(err, &failed) || failed.Reason != client.ReasonNoLeader || failed.Metadata["region_to_use"] != "r2" {
		t.Errorf("without its home a write answers %v: %+v", err, failed)
	}
	if _, err := far.Get(t.Context(), "k"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a read here answers %v", err)
	}
	if _, err := dial(t, configs[0]).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("another namespace: %v", err)
	}
}
