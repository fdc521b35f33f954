package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.NodeLeftovers()...) }

// config is that of eu-1 in a deployment of two regions of one node each.
func config(t *testing.T) Config {
	t.Helper()
	c := &topology.Cluster{Name: "test", Partitions: 4}
	for i, name := range []string{"eu", "us"} {
		a := testkit.FreeAddrs(t, 4)
		c.Regions = append(c.Regions, topology.Region{ID: topology.RegionID(i + 1), Name: name, Nodes: []topology.Node{{
			ID: topology.NodeID(name + "-1"), API: a[0], Raft: a[1], NATS: a[2], NATSCluster: a[3],
		}}})
	}
	return Config{
		Cluster: c, Node: "eu-1", DataDir: filepath.Join(t.TempDir(), "data"),
		NATS: NATS{MaxStoreBytes: 64 << 20}, Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
	}
}

// serve runs a node until the returned function is called.
func serve(t *testing.T, cfg Config) (stop func()) {
	t.Helper()
	_, stop = serveNode(t, cfg)
	return stop
}

// serveNode is serve that returns the node, too.
func serveNode(t *testing.T, cfg Config) (n *Node, stop func()) {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return n, func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	}
}

func dial(t *testing.T, cfg Config, opts ...client.Option) *client.Client {
	t.Helper()
	self, _, _ := cfg.Cluster.Node(cfg.Node)
	c, err := client.New([]string{self.API}, append(opts, client.WithTimeout(time.Minute))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestNodeServesKeepsAndStops(t *testing.T) {
	cfg := config(t)
	stop := serve(t, cfg)
	if _, err := dial(t, cfg).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	stop()
	stop = serve(t, cfg)
	defer stop()
	if v, err := dial(t, cfg).Get(t.Context(), "k"); err != nil || string(v.Bytes) != "v" {
		t.Errorf("after a restart: %q, %v", v.Bytes, err)
	}
}

func TestSecondServerOnADataDirectoryIsRefused(t *testing.T) {
	cfg := config(t)
	stop := serve(t, cfg)
	defer stop()
	if n, err := Open(t.Context(), cfg); !errors.Is(err, ErrDataDirLocked) {
		t.Errorf("a second server: %v, %v", n, err)
	}
	if _, err := dial(t, cfg).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("the first server after that: %v", err)
	}
}

func TestForeignDataDirectoryIsRefused(t *testing.T) {
	cfg := config(t)
	serve(t, cfg)()
	for name, change := range map[string]func(c *Config){
		"another node":       func(c *Config) { c.Node = "us-1" },
		"another deployment": func(c *Config) { c.Cluster.Name = "other" },
		"more partitions":    func(c *Config) { c.Cluster.Partitions = 8 },
		"another node more": func(c *Config) {
			eu := &c.Cluster.Regions[0]
			eu.Nodes = append(eu.Nodes[:1:1], topology.Node{ID: "eu-2"})
		},
		"another epoch":              func(c *Config) { c.Cluster.Regions[0].Epoch = 1 },
		"another replication factor": func(c *Config) { c.Cluster.ReplicationFactor = 2 },
	} {
		foreign := cfg
		cluster := *cfg.Cluster
		cluster.Regions = slices.Clone(cluster.Regions)
		foreign.Cluster = &cluster
		change(&foreign)
		if _, err := Open(t.Context(), foreign); !errors.Is(err, ErrForeignDataDir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(cfg.DataDir, "identity.json")
	for _, damage := range []func() error{
		func() error { return os.Truncate(file, 10) },
		func() error { return os.Remove(file) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrForeignDataDir) {
			t.Errorf("with a damaged or missing identity: %v", err)
		}
	}
}

func TestDamagedDataIsRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		check  func(err error) bool
	}{
		"truncated state file": {
			func(dir string) error { return os.Truncate(filepath.Join(dir, "partitions", "0002.db"), 8192) },
			func(err error) bool {
				var corrupt *store.CorruptError
				return errors.As(err, &corrupt) && strings.HasSuffix(corrupt.Path, "0002.db")
			},
		},
		"empty state file": {
			func(dir string) error { return os.Truncate(filepath.Join(dir, "partitions", "0001.db"), 0) },
			func(err error) bool { var corrupt *store.CorruptError; return errors.As(err, &corrupt) },
		},
		"log deleted": {
			func(dir string) error { return os.RemoveAll(filepath.Join(dir, "log")) },
			func(err error) bool { return errors.Is(err, errLogMissing) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			stop := serve(t, cfg)
			for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
				if _, err := dial(t, cfg).Put(t.Context(), key, []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
			stop()
			if err := c.damage(cfg.DataDir); err != nil {
				t.Fatal(err)
			}
			n, err := Open(t.Context(), cfg)
			if !c.check(err) {
				t.Errorf("opened as %v with %v", n, err)
			}
			// Nothing is held after a refusal: the lock, the ports and the files are free.
			if _, again := Open(t.Context(), cfg); again == nil || again.Error() != err.Error() {
				t.Errorf("the second try answers %v, the first %v", again, err)
			}
		})
	}
}

// trio is one region of three nodes.
func trio(t *testing.T) []Config {
	t.Helper()
	first := config(t)
	first.Cluster.Regions = first.Cluster.Regions[:1]
	eu := &first.Cluster.Regions[0]
	all := []Config{first}
	for _, id := range []topology.NodeID{"eu-2", "eu-3"} {
		a := testkit.FreeAddrs(t, 4)
		eu.Nodes = append(eu.Nodes, topology.Node{ID: id, API: a[0], Raft: a[1], NATS: a[2], NATSCluster: a[3]})
		next := first
		next.Node, next.DataDir = id, filepath.Join(t.TempDir(), "data")
		all = append(all, next)
	}
	return all
}

// overwrite writes nonsense into the middle of the largest of the files that match.
func overwrite(t *testing.T, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	name := slices.MaxFunc(files, func(a, b string) int { return cmp.Compare(size(a), size(b)) })
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("nonsense"), 64), max(0, size(name)/2-256))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Damage of the log may show when it is opened, or only where a group reads its entries. The node
// gives the log up in either case, and the others take it in as another member.
func TestNodeWithADamagedLogJoinsAnew(t *testing.T) {
	all := trio(t)
	stops := make([]func(), len(all))
	for i, cfg := range all {
		stops[i] = serve(t, cfg)
	}
	writer, reader := dial(t, all[0]), dial(t, all[2], client.WithUnary()) // who asks the one node alone
	key := func(i int) string { return fmt.Sprint("key", i) }
	value := bytes.Repeat([]byte("v"), 500)
	written := 0
	write := func() {
		t.Helper()
		for range 100 {
			if _, err := writer.Put(t.Context(), key(written), value); err != nil {
				t.Fatal(err)
			}
			written++
		}
	}
	dir := all[2].DataDir
	for _, damaged := range []string{"MANIFEST-*", "*.sst", "*.sst"} {
		write()
		stops[2]()
		serve(t, all[2])() // what was in the log's journal is in a table now
		write()            // what the node will lack
		overwrite(t, filepath.Join(dir, "log", damaged))
		stops[2] = serve(t, all[2])
		awaitReady(t, all[2])
		for i := range written {
			testkit.Eventually(t, time.Minute, func() error {
				v, err := reader.Get(t.Context(), key(i), client.Eventual())
				if err == nil && !bytes.Equal(v.Bytes, value) {
					err = fmt.Errorf("%q", v.Bytes)
				}
				return err
			})
		}
		if _, err := os.Stat(filepath.Join(dir, "log"+damagedSuffix)); err != nil {
			t.Errorf("%s: the log was not given up: %v", damaged, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "log"+damagedSuffix)); err != nil {
			t.Fatal(err)
		}
	}
	// Its vote counts: without another node the two are a majority.
	stops[1]()
	write()
	stops[1] = serve(t, all[1])
	for _, stop := range stops {
		stop()
	}
}

// JetStream's directory may be deleted at any time while the node is stopped.
func TestDeletedJetStreamIsMadeAnew(t *testing.T) {
	cfg := config(t)
	serve(t, cfg)()
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, "nats")); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, cfg)
	defer stop()
	if _, err := dial(t, cfg).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Error(err)
	}
}

func TestTakenPortIsRefused(t *testing.T) {
	cfg := config(t)
	for i, address := range []string{cfg.Cluster.Regions[0].Nodes[0].API, cfg.Cluster.Regions[0].Nodes[0].Raft, cfg.Cluster.Regions[0].Nodes[0].NATS} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), address) {
			t.Errorf("port %d taken: %v, want %s named", i, err, address)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, cfg)() // and all is free again
}

func TestExternalNATSThatIsNotThereIsRefused(t *testing.T) {
	cfg := config(t)
	cfg.NATS.URL = "nats://" + testkit.FreeAddrs(t, 1)[0]
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), cfg.NATS.URL) {
		t.Errorf("a NATS server that is not there: %v", err)
	}
}

// A node is ready when its partitions have had leaders, and not before.
// readiness asks a node whether it is ready.
func readiness(cfg Config) (status int, err error) {
	self, _, _ := cfg.Cluster.Node(cfg.Node)
	r, err := http.Get("http://" + self.API + "/readyz")
	if err != nil {
		return 0, err
	}
	return r.StatusCode, r.Body.Close()
}

// awaitReady waits until a node is ready.
func awaitReady(t *testing.T, cfg Config) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() error {
		if code, err := readiness(cfg); err != nil || code != http.StatusOK {
			return fmt.Errorf("status %d, %w", code, err)
		}
		return nil
	})
}

func TestReadiness(t *testing.T) {
	alone := config(t)
	defer serve(t, alone)()
	awaitReady(t, alone)
	third := trio(t)[0] // the others never start
	defer serve(t, third)()
	if code, err := readiness(third); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("one node of three answers %d, %v", code, err)
	}
}

// Damage of the log that shows while a node runs ends it, and the next start gives the log up; one that
// has too few others to learn from keeps it.
func TestDamageOfTheLogWhileRunningIsNoted(t *testing.T) {
	for name, c := range map[string]struct {
		cfg         Config
		incarnation uint32
	}{"three replicas": {trio(t)[0], 1}, "one replica": {config(t), 0}} {
		n, err := Open(t.Context(), c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		n.fail(&raftlog.CorruptError{Dir: "log", Detail: "injected"})
		if err := n.Run(t.Context()); err == nil || errors.Is(err, errGivenUp) != (c.incarnation > 0) {
			t.Errorf("%s: it ends with %v", name, err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if n, err = Open(t.Context(), c.cfg); err != nil {
			t.Fatal(err)
		}
		if n.incarnation != c.incarnation {
			t.Errorf("%s: incarnation %d", name, n.incarnation)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A batch takes as much as the API says, whichever way it becomes durable.
func TestTheLargestBatchIsWritten(t *testing.T) {
	cfg := config(t)
	cfg.Cluster.Partitions = 1 // all of it is one command
	defer serve(t, cfg)()
	c := dial(t, cfg)
	for name, opts := range map[string][]client.WriteOption{"quorum": nil, "local": {client.WithLocalDurability()}} {
		key := func(i int) string { return fmt.Sprintf("%s/%05d", name, i) }
		value := bytes.Repeat([]byte("v"), 390) // some 410 B an item, of which there are 10 000
		writes := make([]client.Write, 10_000)
		for i := range writes {
			writes[i] = client.NewPut(key(i), value, client.WithTTL(time.Hour))
		}
		if _, err := c.Batch(t.Context(), writes, opts...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		testkit.Eventually(t, time.Minute, func() error {
			got, err := c.Get(t.Context(), key(len(writes)-1))
			if err == nil && !bytes.Equal(got.Bytes, value) {
				err = fmt.Errorf("%d bytes", len(got.Bytes))
			}
			return err
		})
	}
}
