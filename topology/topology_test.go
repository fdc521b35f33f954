package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func testCluster(nodes int) *Cluster {
	c := &Cluster{Name: "t", Partitions: 256}
	r := Region{ID: 1, Name: "eu"}
	for i := range nodes {
		r.Nodes = append(r.Nodes, Node{ID: NodeID(fmt.Sprintf("eu-%d", i)), Zone: string(rune('a' + i%3))})
	}
	c.Regions = []Region{r}
	return c
}

func TestValidateNamesEveryFault(t *testing.T) {
	c := &Cluster{Partitions: 3, Regions: []Region{
		{ID: 1, Name: "eu", Nodes: []Node{{ID: "a"}, {ID: "a"}}},
		{ID: 1, Name: "eu"},
		{ID: 64, Name: "us", Nodes: []Node{{ID: "b"}}},
	}}
	err := c.Validate()
	if err == nil {
		t.Fatal("a description full of faults passed")
	}
	for _, want := range []string{"no name", "power of two", `"a" is empty or used twice`, "same id 1", "has no nodes", "id is 64"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("fault %q is not named in: %v", want, err)
		}
	}
	if err := testCluster(3).Validate(); err != nil {
		t.Errorf("a good description: %v", err)
	}
}

func TestNamespacesAreChecked(t *testing.T) {
	c := testCluster(1)
	c.Namespaces = []Namespace{
		{Name: "carts", Type: crdt.TypeAWSet, GrowOnly: true}, {Name: "plays", Type: crdt.TypeCounterZSet}, {Name: "clicks", Type: crdt.TypeCounter, GrowOnly: true},
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	for _, n := range []Namespace{
		{Type: crdt.TypeAWSet}, {Name: "carts", Type: crdt.TypeLWWMap}, {Name: strings.Repeat("n", MaxNamespaceBytes+1), Type: crdt.TypeAWSet},
		{Name: "x"}, {Name: "y", Type: 200}, {Name: "z", Type: crdt.TypeLWWRegister, GrowOnly: true},
	} {
		bad := testCluster(1)
		bad.Namespaces = append(slices.Clone(c.Namespaces), n)
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v passed", n)
		}
	}
}

func TestPartitionsAreEvenAndStable(t *testing.T) {
	counts := make([]int, 16)
	for i := range 16000 {
		counts[PartitionOf("default", fmt.Sprint("key-", i), 16)]++
	}
	for p, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("partition %d holds %d of 16000 keys", p, n)
		}
	}
	// The hash is part of the disk format: a key must never change its partition.
	if got := PartitionOf("default", "hello", 4096); got != 3375 {
		t.Errorf("PartitionOf(default, hello, 4096) = %d", got)
	}
	if PartitionOf("a", "b", 1) != 0 {
		t.Error("one partition holds everything")
	}
}

func TestPlacementSpreadsOverNodesAndZones(t *testing.T) {
	c := testCluster(6)
	zoneOf := map[NodeID]string{}
	for _, n := range c.Regions[0].Nodes {
		zoneOf[n.ID] = n.Zone
	}
	share := map[NodeID]int{}
	for p, nodes := range c.Placement(&c.Regions[0]) {
		zones := map[string]bool{}
		for _, n := range nodes {
			share[n]++
			zones[zoneOf[n]] = true
		}
		if len(nodes) != 3 || len(zones) != 3 {
			t.Fatalf("partition %d is on %v", p, nodes)
		}
	}
	for n, s := range share {
		if s < 64 || s > 192 { // 128 each if it were perfect
			t.Errorf("node %s holds %d of 768 replicas", n, s)
		}
	}
}

func TestPlacementMovesLittleWhenANodeJoins(t *testing.T) {
	before, after := testCluster(5), testCluster(6)
	for i := range after.Regions[0].Nodes {
		after.Regions[0].Nodes[i].Zone = ""
	}
	for i := range before.Regions[0].Nodes {
		before.Regions[0].Nodes[i].Zone = ""
	}
	was, is := before.Placement(&before.Regions[0]), after.Placement(&after.Regions[0])
	moved := 0
	for p := range is {
		for _, n := range is[p] {
			if !slices.Contains(was[p], n) {
				moved++
			}
		}
	}
	if moved == 0 || moved > 768/6*2 {
		t.Errorf("%d of 768 replicas moved for one node of six", moved)
	}
}

func TestActorRoundTrip(t *testing.T) {
	for _, id := range []RegionID{1, 7, MaxRegionID} {
		for _, e := range []Epoch{0, 1, MaxEpoch} {
			if gotID, gotE := ActorRegion(Actor(id, e)); gotID != id || gotE != e {
				t.Errorf("Actor(%d, %d) came back as %d, %d", id, e, gotID, gotE)
			}
		}
	}
	if Actor(MaxRegionID, 1) > 127 {
		t.Error("actors of the first epochs must encode in one byte")
	}
}
