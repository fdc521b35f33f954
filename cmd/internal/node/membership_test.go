package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

const patience = time.Minute

// deployment returns the configurations of regions of so many nodes each, whose membership is voted on.
func deployment(t *testing.T, nodes ...int) []Config {
	t.Helper()
	c := &topology.Cluster{Name: "test", Partitions: 2, ReplicationFactor: 1}
	for i, n := range nodes {
		r := topology.Region{ID: topology.RegionID(i + 1), Name: fmt.Sprint("r", i+1), Membership: testkit.FreeAddrs(t, 1)[0]}
		for j := range n {
			a := testkit.FreeAddrs(t, 4)
			r.Nodes = append(r.Nodes, topology.Node{ID: topology.NodeID(fmt.Sprintf("r%d-%d", i+1, j+1)), API: a[0], Raft: a[1], NATS: a[2], NATSCluster: a[3]})
		}
		c.Regions = append(c.Regions, r)
	}
	var configs []Config
	for _, r := range c.Regions {
		for _, n := range r.Nodes {
			configs = append(configs, Config{
				Cluster: c, Node: n.ID, DataDir: filepath.Join(t.TempDir(), "data"), NATS: NATS{MaxStoreBytes: 64 << 20},
				Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
			})
		}
	}
	return configs
}

// A region is given up: the others close it at what they have of it, each of its nodes stops taking
// writes, and it does not start again under its epoch.
func TestAFencedRegionIsClosedByTheOthers(t *testing.T) {
	configs := deployment(t, 1, 1, 2)
	var nodes []*Node
	for _, cfg := range configs {
		n, stop := serveNode(t, cfg)
		defer stop()
		nodes = append(nodes, n)
	}
	first, last, lost := nodes[0], configs[3], configs[2]
	c := dial(t, last)
	for i := range 20 {
		if _, err := c.Put(t.Context(), fmt.Sprint("k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	here := dial(t, configs[0])
	testkit.Eventually(t, patience, func() error {
		_, err := here.Get(t.Context(), "k19")
		return err
	})
	testkit.Eventually(t, patience, func() error {
		return first.voter.Propose(t.Context(), membership.FenceCommand(3, 0, "a test"))
	})
	for _, cfg := range []Config{lost, last} { // both nodes of the region hear of it
		own := dial(t, cfg, client.WithMaxAttempts(1))
		testkit.Eventually(t, patience, func() error {
			for i := range 20 {
				if _, err := own.Put(t.Context(), fmt.Sprint("k", i), []byte("late")); !errors.Is(err, client.ErrFenced) {
					return fmt.Errorf("a write there: %w", err)
				}
			}
			return nil
		})
	}
	testkit.Eventually(t, patience, func() error {
		s, _ := first.Membership().Current()
		if r := s.Region(3); r.State != membership.Closed || !r.Actor().Released {
			return fmt.Errorf("region 3 is %+v", r)
		}
		for p := range topology.PartitionID(2) {
			held, err := first.data.Partition(p)
			if err != nil {
				return err
			}
			view := held.View()
			if cut, have := s.Region(3).Actor().Cut[p], view.Vector.Get(topology.Actor(3, 0)); have != cut || view.Facts.Epoch != s.Epoch {
				return fmt.Errorf("partition %d has %d of %d, and facts of %d of %d", p, have, cut, view.Facts.Epoch, s.Epoch)
			}
		}
		return nil
	})
	if _, err := here.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("a write elsewhere: %v", err)
	}
}

func TestAFencedRegionDoesNotStart(t *testing.T) {
	configs := deployment(t, 1, 1, 1)
	var stops []func()
	var nodes []*Node
	for _, cfg := range configs {
		n, stop := serveNode(t, cfg)
		nodes, stops = append(nodes, n), append(stops, stop)
	}
	testkit.Eventually(t, patience, func() error {
		return nodes[0].voter.Propose(t.Context(), membership.FenceCommand(3, 0, "a test"))
	})
	testkit.Eventually(t, patience, func() error {
		if s, _ := nodes[2].Membership().Current(); s.CheckStart(3, 0) == nil {
			return errors.New("region 3 does not know of it")
		}
		return nil
	})
	for _, stop := range stops {
		stop()
	}
	var refused *membership.StartError
	if n, err := Open(t.Context(), configs[2]); !errors.As(err, &refused) || refused.Do == "" {
		t.Errorf("it starts: %v, %v", n, err)
	}
	// The others start without a majority, and serve under what they know.
	_, stop := serveNode(t, configs[0])
	defer stop()
	if _, err := dial(t, configs[0]).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Errorf("a write without a majority of regions: %v", err)
	}
}

// A node that no replica was placed on serves and stops like others.
func TestANodeWithoutPartitionsStops(t *testing.T) {
	configs := deployment(t, 2)
	_, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	second, stop := serveNode(t, configs[1])
	if len(second.stores) > 0 {
		t.Errorf("%d replicas were placed there", len(second.stores))
	}
	if _, err := dial(t, configs[1]).Put(t.Context(), "k", []byte("v")); err != nil {
		t.Error(err)
	}
	stop()
}

func TestOnlyAVoteCanDeclareOthersDead(t *testing.T) {
	cfg := config(t)
	cfg.Dead.Regions = membership.SetOf(2)
	if n, err := Open(t.Context(), cfg); !errors.Is(err, errNoVote) {
		t.Errorf("opened: %v, %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "membership")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a membership: %v", err)
	}
}
