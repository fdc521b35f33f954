package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// fakeRegion is nodes n0, n1, ... that all tell the same topology.
type fakeRegion struct {
	atollv1connect.UnimplementedClusterHandler
	mu       sync.Mutex
	topology *atollv1.Topology
	changed  chan struct{}              // closed at the next change
	leader   atomic.Pointer[regionNode] // who really leads
	asked    atomic.Int64
	nodes    []*regionNode
}

// regionNode answers gets and puts with its name, but says that the leader did, as one that sent them on
// would. It counts what it is asked.
type regionNode struct {
	name    string
	address string
	served  atomic.Int64
	refuse  atomic.Pointer[error]
	stop    func()
}

func (f *fakeRegion) Topology(context.Context, *atollv1.TopologyRequest) (*atollv1.TopologyResponse, error) {
	f.asked.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	return &atollv1.TopologyResponse{Topology: f.topology}, nil
}

func (f *fakeRegion) WatchTopology(ctx context.Context, _ *atollv1.WatchTopologyRequest, s atollv1connect.ClusterWatchTopologyServerStream) error {
	for {
		f.mu.Lock()
		now, changed := f.topology, f.changed
		f.mu.Unlock()
		if err := s.Send(&atollv1.WatchTopologyResponse{Topology: now}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// lead makes the nth node the leader of all partitions, and lets everybody know.
func (f *fakeRegion) lead(n int, term uint64) {
	f.leader.Store(f.nodes[n])
	f.mu.Lock()
	defer f.mu.Unlock()
	t := &atollv1.Topology{Cluster: "test", Region: "eu", Epoch: 1}
	var replicas []string
	for _, node := range f.nodes {
		replicas = append(replicas, node.name)
		t.Nodes = append(t.Nodes, &atollv1.TopologyNode{Name: node.name, Address: strings.TrimPrefix(node.address, "http://")})
	}
	for p := range uint32(4) {
		t.Partitions = append(t.Partitions, &atollv1.TopologyPartition{
			Partition: p, Leader: f.nodes[n].name, Term: term, Replicas: replicas, State: atollv1.PartitionState_PARTITION_STATE_ACTIVE,
		})
	}
	f.topology = t
	close(f.changed)
	f.changed = make(chan struct{})
}

// region starts a region of three nodes that the first leads.
func region(t *testing.T, streams bool) *fakeRegion {
	f := &fakeRegion{changed: make(chan struct{})}
	for i := range 3 {
		node := &regionNode{name: fmt.Sprint("n", i)}
		info := func() *atollv1.ReplyInfo {
			return &atollv1.ReplyInfo{Region: "eu", Node: f.leader.Load().name}
		}
		refuse := func() error {
			node.served.Add(1)
			if err := node.refuse.Load(); err != nil {
				return *err
			}
			return nil
		}
		s := start(t, &fakeServer{
			get: func(_ context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
				return &atollv1.GetResponse{Found: true, Value: []byte(node.name), Info: info()}, refuse()
			},
			put: func(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error) {
				return &atollv1.PutResponse{Version: node.name, Info: info()}, refuse()
			},
		}, f, streams)
		node.address = s.URL
		node.stop = func() {
			s.CloseClientConnections()
			s.Close()
		}
		f.nodes = append(f.nodes, node)
	}
	f.lead(0, 1)
	return f
}

// servedBy waits until a write is served by a node.
func servedBy(t *testing.T, c *Client, node *regionNode) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() error {
		by, err := c.Put(testContext(t), "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		if by != node.name {
			return fmt.Errorf("served by %s, want %s", by, node.name)
		}
		return nil
	})
}

func eachRegion(t *testing.T, test func(t *testing.T, f *fakeRegion)) {
	t.Run("streams", func(t *testing.T) { test(t, region(t, true)) })
	t.Run("unary", func(t *testing.T) { test(t, region(t, false)) })
}

func TestRequestsGoToTheLeader(t *testing.T) {
	eachRegion(t, func(t *testing.T, f *fakeRegion) {
		f.lead(2, 1)
		c := newClient(t, []string{f.nodes[0].address})
		servedBy(t, c, f.nodes[2])
		f.lead(1, 2)
		servedBy(t, c, f.nodes[1])
		before := f.nodes[1].served.Load()
		for range 10 {
			if v, err := c.Get(testContext(t), "other"); err != nil || string(v.Bytes) != "n1" {
				t.Fatalf("got %s, %v", v.Bytes, err)
			}
		}
		if n := f.nodes[1].served.Load() - before; n != 10 {
			t.Errorf("the leader got %d of 10 reads", n)
		}
	})
}

func TestOlderTermsDoNotUndoLaterOnes(t *testing.T) {
	f := region(t, true)
	f.lead(1, 5)
	c := newClient(t, []string{f.nodes[0].address})
	servedBy(t, c, f.nodes[1])
	f.lead(2, 4)
	s := c.shared
	s.install(f.topology)
	if l := s.place("", "k").leader.Load(); l == nil || l.name != "n1" {
		t.Errorf("a node that is behind made %v the leader", l)
	}
}

func TestTheReplyTellsOfANewLeader(t *testing.T) {
	eachRegion(t, func(t *testing.T, f *fakeRegion) {
		c := newClient(t, []string{f.nodes[0].address})
		servedBy(t, c, f.nodes[0])
		f.leader.Store(f.nodes[2])
		servedBy(t, c, f.nodes[2])
		refusal := refusal(connect.CodeFailedPrecondition, ReasonNotOwner, 0, "node", "n1")
		f.leader.Store(f.nodes[1])
		f.nodes[2].refuse.Store(&refusal)
		servedBy(t, c, f.nodes[1])
	})
}

func TestDeadLeaderIsReplaced(t *testing.T) {
	eachRegion(t, func(t *testing.T, f *fakeRegion) {
		c := newClient(t, []string{f.nodes[0].address})
		servedBy(t, c, f.nodes[0])
		testkit.Eventually(t, 10*time.Second, func() error {
			if c.shared.directory.Load() == nil {
				return errors.New("nothing learned")
			}
			return nil
		})
		f.nodes[0].stop()
		if by, err := c.Put(testContext(t), "k", nil); err != nil || by == "n0" {
			t.Fatalf("served by %q, %v", by, err)
		}
		f.lead(1, 2)
		servedBy(t, c, f.nodes[1])
	})
}

func TestEventualReadsGoToAllReplicas(t *testing.T) {
	eachRegion(t, func(t *testing.T, f *fakeRegion) {
		c := newClient(t, []string{f.nodes[0].address})
		testkit.Eventually(t, 10*time.Second, func() error {
			seen := map[string]int{}
			for range 3 * readsPerTurn {
				v, err := c.Get(testContext(t), "k", Eventual())
				if err != nil {
					t.Fatal(err)
				}
				seen[string(v.Bytes)]++
			}
			if seen["n0"] != readsPerTurn || seen["n1"] != readsPerTurn || seen["n2"] != readsPerTurn {
				return fmt.Errorf("served by %v", seen)
			}
			return nil
		})
	})
}

func TestAddressesOutOfReachCostNothing(t *testing.T) {
	f := region(t, true)
	f.nodes[1].address, f.nodes[2].address = deadAddress(t), "http://192.0.2.1:9" // an address for documentation
	f.lead(2, 1)
	c := newClient(t, []string{f.nodes[0].address}, WithTimeout(time.Second), WithMaxAttempts(1))
	for range 200 {
		if by, err := c.Put(t.Context(), "k", nil); err != nil || by != "n0" {
			t.Fatalf("served by %q, %v", by, err)
		}
	}
}

func TestNonsenseTopologyIsIgnored(t *testing.T) {
	f := region(t, true)
	c := newClient(t, []string{f.nodes[0].address})
	for name, change := range map[string]func(*atollv1.Topology){
		"none":     func(t *atollv1.Topology) { t.Partitions = nil },
		"three":    func(t *atollv1.Topology) { t.Partitions = t.Partitions[:3] },
		"disorder": func(t *atollv1.Topology) { t.Partitions[0].Partition = 7 },
	} {
		f.lead(0, 1)
		change(f.topology)
		if c.shared.install(f.topology); c.shared.directory.Load() != nil {
			t.Errorf("%s: installed", name)
		}
	}
	f.lead(0, 1)
	f.topology.Nodes[0].Address = "not an address"
	f.topology.Partitions[0].Replicas = []string{"n9"}
	c.shared.install(f.topology)
	servedBy(t, c, f.nodes[0])
}

func TestRefreshesAreLimited(t *testing.T) {
	f := region(t, true)
	c := newClient(t, []string{f.nodes[0].address})
	servedBy(t, c, f.nodes[0])
	for range 1000 {
		c.shared.wantTopology()
	}
	testkit.Eventually(t, 5*time.Second, func() error {
		if f.asked.Load() == 0 {
			return fmt.Errorf("not asked")
		}
		return nil
	})
	if n := f.asked.Load(); n > 3 {
		t.Errorf("asked %d times", n)
	}
}

func TestTopologyIsReadAndWatched(t *testing.T) {
	f := region(t, true)
	c := newClient(t, []string{f.nodes[0].address})
	now, err := c.Topology(testContext(t))
	noError(t, err)
	equal(t, "leader", now.GetPartitions()[3].GetLeader(), "n0")
	var seen []string
	for now, err := range c.WatchTopology(testContext(t)) {
		noError(t, err)
		if seen = append(seen, now.GetPartitions()[0].GetLeader()); len(seen) == 2 {
			break
		}
		f.lead(1, 2)
	}
	equal(t, "leaders", strings.Join(seen, " "), "n0 n1")
	old := newClient(t, []string{serve(t, &fakeServer{})})
	for _, err := range old.WatchTopology(testContext(t)) {
		equal(t, "refused by an older server", errors.Is(err, ErrInvalidArgument), true)
	}
}

func TestPartitionOfIsTheServers(t *testing.T) {
	// The vector that package topology's tests hold too.
	if got := partitionOf("default", "hello", 4096); got != 3375 {
		t.Errorf("partition %d, want 3375", got)
	}
	if partitionOf("", "hello", 4096) != 3375 || partitionOf("a", "b", 1) != 0 {
		t.Error("the default namespace or one partition is wrong")
	}
	if long := strings.Repeat("x", 1000); partitionOf(long, long, 16) > 15 {
		t.Error("out of range")
	}
}
