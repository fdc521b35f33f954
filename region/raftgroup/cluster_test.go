package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/internal/wan"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.RaftLeftovers()...) }

// node is one node of a test cluster, running or not.
type node struct {
	id       topology.NodeID
	dir      string
	log      *raftlog.Log
	mux      *transport.Mux
	machines []*testMachine
	groups   []*Group
	failures chan error
	// incarnation is how often it has lost its log.
	incarnation uint32
	lost        bool   // the state files are to be fetched
	quit        func() // ends the groups, but neither the log nor the listener
	stop        func()
}

// cluster is a few nodes in this process, each with a few groups, on loopback.
type cluster struct {
	t      testing.TB
	groups int
	nodes  []*node
	// election is the nodes' election timeout; 0 means the default.
	election time.Duration

	mu        sync.Mutex
	addresses map[topology.NodeID]string
	// links lead from one node to another, if the cluster has any.
	links map[[2]topology.NodeID]*wan.Link
}

func newCluster(t testing.TB, nodes, groups int) *cluster {
	return newClusterWith(t, nodes, groups, 0)
}

func newClusterWith(t testing.TB, nodes, groups int, election time.Duration) *cluster {
	c := &cluster{t: t, groups: groups, addresses: map[topology.NodeID]string{}, election: election}
	c.startAll(nodes)
	return c
}

// newLinkedCluster returns a cluster of one group whose links can be cut. Leaders are only those that
// the test has elected.
func newLinkedCluster(t testing.TB, nodes int) *cluster {
	c := &cluster{t: t, groups: 1, addresses: map[topology.NodeID]string{}, election: 5 * time.Minute}
	c.links = map[[2]topology.NodeID]*wan.Link{}
	c.startAll(nodes)
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	for _, from := range c.nodes {
		for _, to := range c.nodes {
			link, err := wan.Listen(ctx, wan.Config{Listen: "127.0.0.1:0", Target: c.addresses[to.id]})
			c.must(err)
			c.links[[2]topology.NodeID{from.id, to.id}] = link
			running.Go(func() {
				if err := link.Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	return c
}

// link returns the link by which a node reaches another.
func (c *cluster) link(from, to *node) *wan.Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.links[[2]topology.NodeID{from.id, to.id}]
}

// isolate cuts a node off from all others, or heals that. Nobody is told.
func (c *cluster) isolate(n *node, cut bool) {
	for _, other := range c.nodes {
		for _, l := range []*wan.Link{c.link(n, other), c.link(other, n)} {
			if cut {
				l.Cut()
			} else {
				l.Heal()
			}
		}
	}
}

func (c *cluster) startAll(nodes int) {
	t := c.t
	for i := range nodes {
		c.nodes = append(c.nodes, &node{id: topology.NodeID(fmt.Sprintf("n%d", i+1)), dir: t.TempDir()})
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			c.stopNode(n)
		}
	})
}

func (c *cluster) resolve(from, to topology.NodeID) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links != nil {
		link, known := c.links[[2]topology.NodeID{from, to}]
		if !known {
			return "", false
		}
		return link.Addr(), true
	}
	address, known := c.addresses[to]
	return address, known
}

func (c *cluster) members() []topology.NodeID {
	var ids []topology.NodeID
	for _, n := range c.nodes {
		ids = append(ids, n.id)
	}
	return ids
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// start starts n with what is in its directory.
func (c *cluster) start(n *node) {
	c.t.Helper()
	c.open(n)
	ctx, cancel := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	run := func(component func(context.Context) error) {
		running.Go(func() {
			if err := component(ctx); err != nil {
				c.t.Errorf("node %s: %v", n.id, err)
			}
		})
	}
	for _, g := range n.groups {
		run(g.Run)
	}
	muxCtx, muxCancel := context.WithCancel(c.t.Context())
	muxDone := make(chan error, 1)
	go func() { muxDone <- n.mux.Run(muxCtx) }()
	n.quit = func() {
		cancel()
		running.Wait()
	}
	n.stop = func() {
		n.quit()
		muxCancel()
		c.must(<-muxDone)
		for _, m := range n.machines {
			c.must(m.store.Close())
		}
		c.must(n.log.Close())
	}
}

func (c *cluster) open(n *node) {
	c.t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", n.id)
	}
	n.failures, n.machines, n.groups = make(chan error, 8), nil, nil
	var err error
	n.log, err = raftlog.Open(filepath.Join(n.dir, "log"), raftlog.Options{Logger: logger, OnFailure: func(err error) { n.failures <- err }})
	c.must(err)
	n.mux, err = transport.Listen(transport.Config{Cluster: "test", Self: n.id, Listen: "127.0.0.1:0", Logger: logger,
		Resolve: func(to topology.NodeID) (string, bool) { return c.resolve(n.id, to) }})
	c.must(err)
	c.mu.Lock()
	c.addresses[n.id] = n.mux.Addr().String()
	c.mu.Unlock()
	temp := filepath.Join(n.dir, "tmp")
	c.must(os.MkdirAll(temp, 0o700))
	for id := range uint32(c.groups) {
		m, err := openMachine(filepath.Join(n.dir, fmt.Sprintf("state-%d.db", id)))
		c.must(err)
		log, err := n.log.Group(id)
		c.must(err)
		if n.lost {
			c.fetch(n, id, m, log)
		}
		g, err := New(Config{
			Group: id, Self: n.id, Incarnation: n.incarnation, Members: c.members(), Log: log, Layer: n.mux.Group(id), Machine: m,
			Dir: temp, Logger: logger, OnFailure: func(err error) { n.failures <- err },
			ElectionTimeout: c.election,
		})
		c.must(err)
		n.machines, n.groups = append(n.machines, m), append(n.groups, g)
	}
}

func (c *cluster) stopNode(n *node) {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

// eventually waits until check returns nil.
func (c *cluster) eventually(within time.Duration, check func() error) {
	c.t.Helper()
	deadline, ticker := time.NewTimer(within), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			c.t.Fatalf("after %s: %v", within, err)
		}
	}
}

// propose has some node accept data for a group, and returns that node.
func (c *cluster) propose(group int, data string) *node {
	c.t.Helper()
	var by *node
	c.eventually(20*time.Second, func() error {
		for _, n := range c.nodes {
			if n.stop == nil {
				continue
			}
			err := n.groups[group].Propose(c.t.Context(), []byte(data))
			if err == nil {
				by = n
				return nil
			}
			if !errors.Is(err, region.ErrNotLeader) {
				return err
			}
		}
		return region.ErrNotLeader
	})
	return by
}

// converge waits until all running nodes applied count commands of a group, the same ones.
func (c *cluster) converge(group int, count uint64) {
	c.t.Helper()
	c.eventually(20*time.Second, func() error {
		var want uint64
		for _, n := range c.nodes {
			if n.stop == nil {
				continue
			}
			got, sum, err := n.machines[group].figures()
			switch {
			case err != nil:
				return err
			case got != count:
				return fmt.Errorf("node %s applied %d of %d", n.id, got, count)
			case want != 0 && sum != want:
				c.t.Fatalf("node %s applied other commands", n.id)
			}
			want = sum
		}
		return nil
	})
}
