package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// testNow is the instant at which all tests take place.
func testNow() hlc.Time { return hlc.At(1_800_000_000_000, 0) }

func testClock() time.Time { return testNow().Wall() }

// testRegion is a region of several nodes in this process.
type testRegion struct {
	t       *testing.T
	cluster *topology.Cluster
	groups  []*fakeGroup
	servers map[topology.NodeID]*Server
	web     map[topology.NodeID]*httptest.Server
}

// setup makes a region of nodes eu-0, eu-1, ...; eu-0 leads the partitions that it holds. Every node holds every
// partition if replicas is 0.
func setup(t *testing.T, nodes int, partitions uint32, replicas int, change ...func(*Config)) *testRegion {
	t.Helper()
	r := &testRegion{t: t, servers: map[topology.NodeID]*Server{}, web: map[topology.NodeID]*httptest.Server{}}
	eu := topology.Region{ID: 1, Name: "eu"}
	handlers := make([]http.Handler, nodes)
	for i := range nodes {
		web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handlers[i].ServeHTTP(w, q) }))
		web.Config.Protocols = new(http.Protocols)
		web.Config.Protocols.SetHTTP1(true)
		web.Config.Protocols.SetUnencryptedHTTP2(true)
		web.Start()
		t.Cleanup(web.Close)
		id := topology.NodeID(fmt.Sprintf("eu-%d", i))
		r.web[id] = web
		eu.Nodes = append(eu.Nodes, topology.Node{ID: id, API: web.Listener.Addr().String()})
	}
	if replicas == 0 {
		replicas = min(nodes, topology.MaxReplicas)
	}
	us := topology.Region{ID: 2, Name: "us", Nodes: []topology.Node{{ID: "us-0"}, {ID: "us-1"}, {ID: "us-2"}}}
	r.cluster = &topology.Cluster{Name: "test", Partitions: partitions, ReplicationFactor: replicas, Regions: []topology.Region{eu, us}}
	for range partitions {
		r.groups = append(r.groups, &fakeGroup{
			memory: replica.NewMemory(), actor: eu.Actor(), leader: "eu-0",
			known: map[string][]replica.Outcome{}, lies: map[topology.NodeID]topology.NodeID{}, age: map[topology.NodeID]time.Duration{},
		})
	}
	placement := r.cluster.Placement(&eu)
	for p, g := range r.groups {
		if !slices.Contains(placement[p], g.leader) {
			g.leader = placement[p][0]
		}
	}
	for i, n := range eu.Nodes {
		config := Config{
			Cluster: r.cluster, Region: eu.ID, Self: n.ID, Clock: testClock,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Hosted: func(p topology.PartitionID) (Partition, error) {
				if slices.Contains(placement[p], n.ID) {
					return &fakeReplica{r.groups[p], n.ID}, nil
				}
				return nil, fmt.Errorf("partition %d: %w", p, region.ErrNotHosted)
			},
		}
		for _, c := range change {
			c(&config)
		}
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		r.servers[n.ID], handlers[i] = s, s.Handler()
	}
	return r
}

// url returns a node's base URL.
func (r *testRegion) url(id topology.NodeID) string { return r.web[id].URL }

func (r *testRegion) conn(id topology.NodeID, options ...connecthttp.Option) *connect.Client {
	h := &http.Client{Transport: &http.Transport{}}
	r.t.Cleanup(h.CloseIdleConnections)
	return connect.NewClient(connecthttp.NewTransport(h, r.url(id), append(options, connecthttp.WithReadMaxBytes(16<<20))...))
}

func (r *testRegion) kv(id topology.NodeID) atollv1connect.KVClient {
	return atollv1connect.NewKVClient(r.conn(id))
}

func (r *testRegion) regions(id topology.NodeID) atollv1connect.RegionsClient {
	return atollv1connect.NewRegionsClient(r.conn(id))
}

// group returns the partition that holds a key of the default namespace.
func (r *testRegion) group(key string) *fakeGroup {
	return r.groups[r.cluster.PartitionOf(defaultNamespace, key)]
}

// lead makes a node the leader of a partition.
func (g *fakeGroup) lead(id topology.NodeID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leader = id
}

// verdict returns the failure that an RPC's error carries, and fails the test if there is none.
func verdict(t *testing.T, err error) *failure {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("error is %T: %v", err, err)
	}
	f := failureOfPeer(e)
	if f == nil {
		t.Fatalf("error without a reason: %v", err)
	}
	return f
}

func wantReason(t *testing.T, err error, want reason) *failure {
	t.Helper()
	f := verdict(t, err)
	if f.reason != want {
		t.Fatalf("reason is %s (%s), want %s", f.reason, f.message, want)
	}
	return f
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// equal fails the test if what was got is not what was wanted.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
