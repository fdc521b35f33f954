package jetstream

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// testLog keeps what is logged for a test that fails.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func startServer(t *testing.T, cfg ServerConfig) *Server {
	t.Helper()
	cfg.Logger = testLog(t)
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// freeAddress returns an address that was free a moment ago: servers must know each other's first.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// runLink runs a link until the returned function is called, at the latest until the test ends.
func runLink(t *testing.T, cfg Config) (*Link, func()) {
	t.Helper()
	cfg.Logger = testLog(t)
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	l, err := NewLink(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, func(ctx context.Context) { _ = l.Run(ctx) })
	return l, stop
}

func background(t *testing.T, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func until(t *testing.T, what string, patience time.Duration, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("no %s after %v", what, patience)
		case <-ticker.C:
		}
	}
}

func urls(s *Server) []string { return []string{"nats://" + s.Addr()} }

func TestLinkContract(t *testing.T) {
	one := startServer(t, ServerConfig{Name: "n1", Region: "eu", StoreDir: t.TempDir(), Password: "secret"})
	two := startServer(t, ServerConfig{Name: "n2", Region: "us", StoreDir: t.TempDir(), Password: "secret"})
	origin, _ := runLink(t, Config{Region: 1, Node: "n1", Server: one, Password: "secret"})
	destination, _ := runLink(t, Config{
		Region: 2, Node: "n2", Server: two, Password: "secret",
		Remotes: []Remote{{ID: 1, Name: "eu", URLs: urls(one)}},
	})
	linktest.Run(t, linktest.Pair{
		Origin: origin, Destination: destination, OriginID: 1, DestinationID: 2,
		Wipe: func() {
			_, js, err := origin.outlet.conn.get()
			if err == nil {
				err = js.DeleteStream(t.Context(), streamName(1))
			}
			if err != nil {
				t.Error(err)
			}
		},
	})
}

// region is a region of one node in memory, with its server and replicator.
type region struct {
	*linktest.Region
	name   string
	dir    string
	listen string
	server *Server
	stop   func()

	replicator *crossregion.Replicator
}

// knowsAll says whether the region tells of no flow that it is unknown.
func (r *region) knowsAll() bool {
	flows := r.replicator.Flows()
	return len(flows) > 0 && !slices.ContainsFunc(flows, func(f protocol.Flow) bool { return f.Unknown })
}

// knowsNothing says whether the region tells of every flow that it is unknown.
func (r *region) knowsNothing() bool {
	for _, f := range r.replicator.Flows() {
		if !f.Unknown || f.Behind == 0 {
			return false
		}
	}
	return true
}

const testPartitions = 4

func newRegion(t *testing.T, id topology.RegionID, name string, others ...topology.RegionID) *region {
	return &region{
		Region: linktest.NewRegion(id, testPartitions, others...), name: name,
		dir: t.TempDir(), listen: freeAddress(t),
	}
}

// start starts the region's node; at overrides where others are reached.
func (r *region) start(t *testing.T, at map[topology.RegionID]string, others ...*region) {
	t.Helper()
	r.server = startServer(t, ServerConfig{Name: "n-" + r.name, Region: r.name, StoreDir: r.dir, Listen: r.listen})
	link := Config{Region: r.ID, Node: topology.NodeID("n-" + r.name), Server: r.server}
	repl := crossregion.Config{
		Cluster: "test", Self: r.ID, Node: link.Node, Actor: r.Actor, Partitions: testPartitions,
		Source: r.Node(0), Sink: r.Node(0), State: r.Node(0), Clock: time.Now, Logger: testLog(t),
		Fold: linktest.Fold, Derive: func(purpose string) [32]byte { return sha256.Sum256([]byte(purpose)) },
	}
	for _, o := range others {
		address := o.listen
		if at[o.ID] != "" {
			address = at[o.ID]
		}
		link.Remotes = append(link.Remotes, Remote{ID: o.ID, Name: o.name, URLs: []string{"nats://" + address}})
		repl.Regions = append(repl.Regions, crossregion.RemoteRegion{ID: o.ID, Name: o.name, Actor: o.Actor})
	}
	l, stopLink := runLink(t, link)
	repl.Link = l
	replicator, err := crossregion.New(repl)
	if err != nil {
		t.Fatal(err)
	}
	r.replicator = replicator
	stopReplicator := background(t, func(ctx context.Context) { _ = replicator.Run(ctx) })
	r.stop = func() { stopReplicator(); stopLink(); r.server.Stop() }
	t.Cleanup(r.stop)
}

func (r *region) write(n, size int) {
	for i := range n {
		data := make([]byte, max(size, 32))
		copy(data, fmt.Sprintf("%d of %d by %d", i, n, r.ID))
		r.Write(topology.PartitionID(i%testPartitions), data)
	}
}

func converge(t *testing.T, patience time.Duration, regions ...*region) {
	t.Helper()
	until(t, "convergence", patience, func() bool {
		for _, dst := range regions {
			for _, origin := range regions {
				if dst != origin && dst.Missing(origin.Region) > 0 {
					return false
				}
			}
			for p := range topology.PartitionID(testPartitions) {
				if dst.Kept(p) > 0 {
					return false
				}
			}
		}
		return true
	})
	for _, dst := range regions {
		for _, origin := range regions {
			if dst == origin {
				continue
			}
			for _, f := range dst.Faults(origin.Region) {
				t.Error(f)
			}
		}
	}
}

func TestRegionsConverge(t *testing.T) {
	eu, us := newRegion(t, 1, "eu", 2), newRegion(t, 2, "us", 1)
	eu.start(t, nil, us)
	us.start(t, nil, eu)
	eu.write(20000, 300)
	us.write(5000, 300)
	eu.write(5, 5<<20) // more than fits beside anything else in a pull
	converge(t, 60*time.Second, eu, us)
}

func TestWipedStoreLosesNothing(t *testing.T) {
	eu, us := newRegion(t, 1, "eu", 2), newRegion(t, 2, "us", 1)
	eu.start(t, nil, us)
	us.start(t, nil, eu)
	eu.write(500, 300)
	converge(t, 60*time.Second, eu, us)
	before, err := incarnationOf(t, eu)
	if err != nil {
		t.Fatal(err)
	}
	us.stop() // so that what follows is in the stream and nowhere else
	eu.write(500, 300)
	eu.stop()
	if err := os.RemoveAll(eu.dir); err != nil {
		t.Fatal(err)
	}
	eu.start(t, nil, us)
	eu.write(500, 300)
	us.start(t, nil, eu)
	us.write(500, 300)
	converge(t, 60*time.Second, eu, us)
	if after, err := incarnationOf(t, eu); err != nil || after == before {
		t.Errorf("the stream was %s and is %s: %v", before, after, err)
	}
}

func incarnationOf(t *testing.T, r *region) (string, error) {
	t.Helper()
	l, stop := runLink(t, Config{Region: r.ID, Node: "probe", Server: r.server})
	defer stop()
	var state protocol.StreamState
	var err error
	until(t, "stream", 20*time.Second, func() bool {
		state, err = l.Outlet().Stream(t.Context())
		return err == nil
	})
	return state.Incarnation, err
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	taken := startServer(t, ServerConfig{Name: "n1", Region: "eu", StoreDir: t.TempDir()})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		cfg  ServerConfig
		want string
	}{
		"address taken": {ServerConfig{Listen: taken.Addr(), StoreDir: t.TempDir()}, taken.Addr()},
		"cluster address taken": {ServerConfig{
			Listen: "127.0.0.1:0", StoreDir: t.TempDir(), ClusterListen: taken.Addr(),
			Routes: []string{taken.Addr(), freeAddress(t), freeAddress(t)},
		}, taken.Addr()},
		"store not usable": {ServerConfig{Listen: "127.0.0.1:0", StoreDir: filepath.Join(file, "nats")}, file},
	}
	for name, c := range cases {
		c.cfg.Name, c.cfg.Region, c.cfg.Logger = "n2", "eu", slog.New(slog.DiscardHandler)
		s, err := NewServer(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Start(t.Context())
		if err == nil {
			s.Stop()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := NewServer(ServerConfig{Listen: ":4222", ClusterListen: "127.0.0.1:1", Routes: []string{"a"}})
	if err == nil {
		t.Fatal("a configuration full of faults passed")
	}
	for _, want := range []string{"name", "client address", "3 routes", "store directory", "logger"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("fault %q is not named in: %v", want, err)
		}
	}
}
