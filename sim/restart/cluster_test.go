package restart

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// cluster is three nodes.
type cluster struct {
	t         *testing.T
	nodes     []*node
	proposals atomic.Uint64

	mu      sync.Mutex
	serving map[topology.NodeID]*node // those that run
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, serving: map[topology.NodeID]*node{}}
	for i := range 3 {
		c.nodes = append(c.nodes, &node{t: t, id: topology.NodeID(fmt.Sprintf("n%d", i+1)), dir: t.TempDir()})
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	return c
}

func (c *cluster) members() []topology.NodeID { return []topology.NodeID{"n1", "n2", "n3"} }

// proposer returns a number that no process had before.
func (c *cluster) proposer() uint64 { return c.proposals.Add(1) }

func (c *cluster) resolve(id topology.NodeID) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, ok := c.serving[id]; ok {
		return n.mux.Addr().String(), true
	}
	return "127.0.0.1:1", true // nobody listens
}

func (c *cluster) start(n *node) {
	c.t.Helper()
	if err := n.open(c); err != nil {
		c.t.Fatalf("start node %s: %v", n.id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving[n.id] = n
}

// end stops or crashes nodes, all at once.
func (c *cluster) end(nodes []*node, end func(*node) error) {
	c.t.Helper()
	c.mu.Lock()
	for _, n := range nodes {
		delete(c.serving, n.id)
	}
	c.mu.Unlock()
	var ends errgroup.Group
	for _, n := range nodes {
		ends.Go(func() error {
			if err := end(n); err != nil {
				return fmt.Errorf("end node %s: %w", n.id, err)
			}
			return nil
		})
	}
	if err := ends.Wait(); err != nil {
		c.t.Fatal(err)
	}
}

// partitions returns the partitions that are served, in random order.
func (c *cluster) partitions() []*region.Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*region.Partition
	for _, n := range c.serving {
		all = append(all, n.partition)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// leader calls fn with the partition that leads.
func (c *cluster) leader(fn func(*region.Partition) error) error {
	for _, p := range c.partitions() {
		if leading, _ := p.Leadership(); leading {
			return fn(p)
		}
	}
	return region.ErrNotLeader
}

func (c *cluster) submitQueued(ctx context.Context, writes [][]byte) error {
	return c.leader(func(p *region.Partition) error { return p.SubmitQueued(ctx, writes) })
}

// contents returns a hash of all that a node keeps, its outbox, counters and position included.
func (n *node) contents() (sum [sha256.Size]byte, outbox region.OutboxState, err error) {
	h := sha256.New()
	err = n.state.View(func(kv replica.KV) error {
		return kv.Scan(nil, nil, func(key, value []byte) (bool, error) {
			fmt.Fprintf(h, "%d %d ", len(key), len(value))
			h.Write(key)
			h.Write(value)
			return true, nil
		})
	})
	h.Sum(sum[:0])
	return sum, n.machine.View().Outbox, err
}

var errBehind = errors.New("not yet")

// agree returns nil once all nodes are at the same entry and have the same contents, and fails the test
// if they are at the same entry and differ.
func (c *cluster) agree(least uint64) error {
	index := c.nodes[0].machine.Position().Index
	for _, n := range c.nodes {
		if at := n.machine.Position().Index; at != index || at < least {
			return fmt.Errorf("%w: node %s is at %d, %s at %d, want %d", errBehind, c.nodes[0].id, index, n.id, at, least)
		}
	}
	want, outbox, err := c.nodes[0].contents()
	if err != nil {
		return err
	}
	for _, n := range c.nodes[1:] {
		got, other, err := n.contents()
		if err != nil {
			return err
		}
		if n.machine.Position().Index != index || c.nodes[0].machine.Position().Index != index {
			return errBehind
		}
		if got != want || outbox != other {
			c.t.Fatalf("at entry %d the nodes differ: outbox %+v and %+v, contents %x and %x", index, outbox, other, want, got)
		}
	}
	return nil
}
