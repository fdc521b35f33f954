package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/drift"
	"github.com/atolldb/atoll/topology"
)

// skewed reads the machine's clocks, with a wall clock that is ahead by so much.
type skewed struct{ ahead atomic.Int64 }

func (s *skewed) set(d time.Duration) { s.ahead.Store(int64(d)) }

func (s *skewed) source() hlc.Source {
	real := hlc.SourceOf(time.Now)
	return func() hlc.Reading {
		r := real()
		r.Wall = r.Wall.Add(time.Duration(s.ahead.Load()))
		return r
	}
}

// run serves a node that the test can look into, until the test ends.
func run(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	})
	return n
}

// leads returns how many partitions a node leads.
func (n *Node) leads() (led int) {
	for _, g := range n.groups {
		if leading, _ := g.Leadership(); leading {
			led++
		}
	}
	return led
}

// highest returns the latest instant of a node's state.
func (n *Node) highest() (latest hlc.Time) {
	for _, p := range n.partitions {
		latest = max(latest, p.View().HLC)
	}
	return latest
}

// TestNodeWithAWrongClockFencesItself: it gives away what it leads, the region goes on without it, and when the clock is
// right it is let in again. No instant of the wrong clock is ever in the state, nor after a jump ahead, nor after one
// back and forth.
func TestNodeWithAWrongClockFencesItself(t *testing.T) {
	all := trio(t)
	var wrong skewed
	all[0].ClockSource = wrong.source()
	nodes := []*Node{run(t, all[0]), run(t, all[1]), run(t, all[2])}
	c := dial(t, all[1])
	write := func() {
		t.Helper()
		for i := range 32 {
			if _, err := c.Put(t.Context(), fmt.Sprint("key", i), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
	}
	write()
	testkit.Eventually(t, time.Minute, func() error {
		if n := len(nodes[0].drift.Offsets()); n != 2 {
			return fmt.Errorf("%d other clocks are known", n)
		}
		return nil
	})
	for _, skew := range []time.Duration{time.Hour, -5 * time.Second, 5 * time.Second, 10 * 365 * 24 * time.Hour} {
		wrong.set(skew)
		if err := nodes[0].clockSafe(); err == nil {
			t.Fatalf("%v off, the clock is safe", skew)
		}
		testkit.Eventually(t, time.Minute, func() error {
			if n := nodes[0].leads(); n > 0 {
				return fmt.Errorf("the node with a clock %v off leads %d partitions", skew, n)
			}
			return nil
		})
		write()
		for i, n := range nodes[1:] {
			if err := n.clockSafe(); err != nil {
				t.Errorf("node %d: %v", i+1, err)
			}
		}
		wrong.set(0)
		testkit.Eventually(t, time.Minute, nodes[0].clockSafe)
		for i, n := range nodes {
			if ahead := time.Until(n.highest().Wall()); ahead > time.Second {
				t.Errorf("%v off: node %d has instants %v ahead", skew, i, ahead)
			}
		}
	}
}

// TestClocksOfOtherRegionsAreMeasured over real servers, and shown.
func TestClocksOfOtherRegionsAreMeasured(t *testing.T) {
	here := config(t)
	there := here
	there.Node, there.DataDir = "us-1", t.TempDir()
	var wrong skewed
	wrong.set(-3 * time.Second)
	there.ClockSource = wrong.source()
	run(t, here)
	run(t, there)
	c := dial(t, here)
	testkit.Eventually(t, time.Minute, func() error {
		status, err := c.Status(t.Context())
		if err != nil {
			return err
		}
		known := status.GetClocks().GetOffsets()
		if len(known) != 1 {
			return fmt.Errorf("%d clocks are known", len(known))
		}
		wrong := known[0].GetAhead().AsDuration() + 3*time.Second
		if known[0].GetRegion() != "us" || known[0].GetNode() != "us-1" || max(wrong, -wrong) > known[0].GetUncertainty().AsDuration()+time.Millisecond {
			return fmt.Errorf("known are %v", known)
		}
		return nil
	})
}

// TestLoneNodeFencesItself: nobody can confirm that the clock is right, so it waits until it is.
func TestLoneNodeFencesItself(t *testing.T) {
	cfg := config(t)
	cfg.Cluster.Regions = cfg.Cluster.Regions[:1]
	var wrong skewed
	cfg.ClockSource = wrong.source()
	n := run(t, cfg)
	c := dial(t, cfg)
	if _, err := c.Put(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	wrong.set(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := c.Put(ctx, "k", []byte("w"))
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Reason != client.ReasonClockUnsafe {
		t.Fatalf("a write answers %v", err)
	}
	if ms, err := strconv.Atoi(refused.Metadata["drift_ms"]); err != nil || ms < 3_599_000 || ms > 3_601_000 {
		t.Errorf("drift_ms is %q", refused.Metadata["drift_ms"])
	}
	if v, err := c.Get(t.Context(), "k"); err != nil || string(v.Bytes) != "v" {
		t.Errorf("a read answers %q, %v", v.Bytes, err)
	}
	wrong.set(0)
	testkit.Eventually(t, time.Minute, n.clockSafe)
	if _, err := c.Put(t.Context(), "k", []byte("x")); err != nil {
		t.Error(err)
	}
}

// A node that has only just started has not compared its clock yet. That passes, so whoever writes then must be told
// something that is tried again.
func TestUnmeasuredClockIsNoLeader(t *testing.T) {
	source := hlc.SourceOf(time.Now)
	monitor, err := drift.New(drift.Config{
		Peers: []topology.NodeID{"other"}, Source: source, Steady: hlc.NewSteady(source, time.Second),
		Ask: func(context.Context, topology.NodeID, []byte) ([]byte, error) {
			return nil, errors.New("nobody is there")
		},
		MaxOffset: time.Second, WarnOffset: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{drift: monitor}
	if err := n.clockSafe(); !errors.Is(err, region.ErrNotLeader) || errors.Is(err, region.ErrClockUnsafe) {
		t.Errorf("a clock that is not compared yet: %v", err)
	}
}
