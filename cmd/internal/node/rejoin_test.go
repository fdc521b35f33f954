package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/topology"
)

// changed returns a configuration in which a region is another.
func changed(cfg Config, id topology.RegionID, change func(*topology.Region)) Config {
	c := *cfg.Cluster
	c.Regions = slices.Clone(c.Regions)
	for i := range c.Regions {
		if c.Regions[i].ID == id {
			change(&c.Regions[i])
		}
	}
	cfg.Cluster = &c
	return cfg
}

// deafToVotes is a node's configuration in which it reaches no votes of others, nor they its own.
func deafToVotes(t *testing.T, cfg Config) Config {
	for _, r := range cfg.Cluster.Regions {
		cfg = changed(cfg, r.ID, func(r *topology.Region) { r.Membership = testkit.FreeAddrs(t, 1)[0] })
	}
	return cfg
}

func put(t *testing.T, cfg Config, prefix string, n int) {
	t.Helper()
	c := dial(t, cfg)
	for i := range n {
		if _, err := c.Put(t.Context(), fmt.Sprint(prefix, i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
}

// putOnceActive is put in a region that has joined, whose partitions hear of that by and by.
func putOnceActive(t *testing.T, cfg Config, prefix string, n int) {
	t.Helper()
	c := dial(t, cfg)
	for i := range n {
		testkit.Eventually(t, patience, func() error {
			_, err := c.Put(t.Context(), fmt.Sprint(prefix, i), []byte("v"))
			if err != nil && !errors.Is(err, client.ErrFenced) {
				t.Fatal(err)
			}
			return err
		})
	}
}

// arrives waits until a region has what put wrote.
func arrives(t *testing.T, cfg Config, prefix string, n int) {
	t.Helper()
	c := dial(t, cfg)
	testkit.Eventually(t, patience, func() error {
		for i := range n {
			if _, err := c.Get(t.Context(), fmt.Sprint(prefix, i)); err != nil {
				return fmt.Errorf("%s%d in %s: %w", prefix, i, cfg.Node, err)
			}
		}
		return nil
	})
}

func decide(t *testing.T, n *Node, c membership.Command) {
	t.Helper()
	testkit.Eventually(t, patience, func() error { return n.voter.Propose(t.Context(), c) })
}

// becomes waits until a region is in a state, as a node knows it.
func becomes(t *testing.T, n *Node, id topology.RegionID, want membership.RegionState) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		s, _ := n.Membership().Current()
		if r := s.Region(id); r == nil || r.State != want {
			return fmt.Errorf("region %d is %+v, want %v", id, r, want)
		}
		return nil
	})
}

// isRefused waits until a node has refused something of a region for a reason.
func isRefused(t *testing.T, n *Node, id topology.RegionID, reason string) {
	t.Helper()
	testkit.Eventually(t, patience, func() error {
		for _, r := range (flows{n}).Refused() {
			if r.Source == id && r.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("nothing of region %d was refused: %s", id, reason)
	})
}

// A region is given up while another is down. What it had shipped is kept, also by the one that was down, which gets it
// from third regions; what it ships later is refused; and it does not come back under its epoch.
func TestARegionIsGivenUpWhileAnotherIsDown(t *testing.T) {
	configs := deployment(t, 1, 1, 1, 1, 1)
	nodes, stops := make([]*Node, 5), make([]func(), 5)
	start := func(i int, cfg Config) { nodes[i], stops[i] = serveNode(t, cfg) }
	for i, cfg := range configs {
		start(i, cfg)
	}
	first, lost, away := configs[0], configs[3], configs[4]
	put(t, lost, "early", 20)
	arrives(t, first, "early", 20)
	arrives(t, away, "early", 20)
	stops[4]()
	put(t, lost, "shipped", 20)
	for _, cfg := range configs[:3] {
		arrives(t, cfg, "shipped", 20)
	}
	stops[3]()
	decide(t, nodes[0], membership.FenceCommand(4, 0, "a test"))

	start(3, deafToVotes(t, lost)) // it does not know
	put(t, lost, "late", 20)
	isRefused(t, nodes[0], 4, "given-up")
	if s, _ := nodes[0].Membership().Current(); s.Region(4).State != membership.Fenced {
		t.Errorf("closed without the report of the region that is down: %+v", s.Region(4))
	}
	stops[3]() // or else the one that was down would take what is late, before it hears of the fence: that would count
	start(4, away)
	becomes(t, nodes[0], 4, membership.Closed)
	start(3, deafToVotes(t, lost))
	put(t, lost, "late", 20)
	isRefused(t, nodes[0], 0, "other-actor")
	for _, cfg := range []Config{configs[0], configs[1], configs[2], away} {
		arrives(t, cfg, "early", 20)
		arrives(t, cfg, "shipped", 20)
		for i := range 20 {
			if _, err := dial(t, cfg).Get(t.Context(), fmt.Sprint("late", i)); !errors.Is(err, client.ErrNotFound) {
				t.Errorf("late%d in %s: %v", i, cfg.Node, err)
			}
		}
	}
	put(t, first, "after", 5)
	arrives(t, away, "after", 5)

	stops[3]()
	start(3, lost) // now it hears of it
	becomes(t, nodes[3], 4, membership.Closed)
	if _, err := dial(t, lost, client.WithMaxAttempts(1)).Put(t.Context(), "k", []byte("v")); !errors.Is(err, client.ErrFenced) {
		t.Errorf("a write under an epoch that is over: %v", err)
	}
	for _, stop := range stops {
		stop()
	}
	startsNoMore(t, lost, 4)
}

// startsNoMore checks that a region does not start under its epoch, nor under another with what it had.
func startsNoMore(t *testing.T, lost Config, id topology.RegionID) {
	t.Helper()
	var refused *membership.StartError
	if _, err := Open(t.Context(), lost); !errors.As(err, &refused) {
		t.Errorf("it starts: %v", err)
	}
	again := changed(lost, id, func(r *topology.Region) { r.Epoch, r.Joins = 1, true })
	var over *OverError
	if _, err := Open(t.Context(), again); !errors.As(err, &over) || !errors.Is(err, ErrForeignDataDir) {
		t.Errorf("it starts with what it had under the epoch before: %v", err)
	}
}

// A region that was given up, before it ever wrote, comes back under a new epoch. It takes writes once it has what the
// others have, and not before.
func TestARegionRejoinsUnderANewEpoch(t *testing.T) {
	configs := deployment(t, 1, 1, 1)
	// The second region hears nothing of the others' writes: so they keep all of them, and the third can have them.
	deaf := configs[1]
	deaf.RemoteURLs = map[topology.RegionID][]string{}
	for id := range topology.RegionID(4) {
		deaf.RemoteURLs[id] = []string{"nats://" + testkit.FreeAddrs(t, 1)[0]}
	}
	first, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	_, stopSecond := serveNode(t, deaf)
	defer stopSecond()
	becomes(t, first, 3, membership.Active)
	put(t, configs[0], "before", 20)
	here := dial(t, configs[0])
	plan, err := here.RejoinRegion(t.Context(), client.RegionChange{Region: "r3", DryRun: true, Epoch: 1})
	if err != nil || plan.GetRefusal().GetCode() != membership.WrongState.String() {
		t.Errorf("the plan to have an active region rejoin: %v, %v", plan, err)
	}
	if plan, err = here.FenceRegion(t.Context(), client.RegionChange{Region: "r3", DryRun: true}); err != nil || len(plan.GetSteps()) == 0 ||
		plan.GetLoss().AtMost != nil {
		t.Errorf("the plan to fence a region that was never heard of: %v, %v", plan, err)
	}
	testkit.Eventually(t, patience, func() error {
		_, err := here.FenceRegion(t.Context(), client.RegionChange{Region: "r3", Note: "a test"})
		return err
	})
	becomes(t, first, 3, membership.Closed)

	back := changed(configs[2], 3, func(r *topology.Region) { r.Epoch, r.Joins = 1, true })
	back.DataDir = filepath.Join(t.TempDir(), "data")
	third, stopThird := serveNode(t, back)
	defer stopThird()
	own := dial(t, back, client.WithMaxAttempts(1))
	testkit.Eventually(t, patience, func() error {
		_, err := own.Put(t.Context(), "k", []byte("too early"))
		if !errors.Is(err, client.ErrFenced) {
			return fmt.Errorf("a write before it was taken in: %w", err)
		}
		return nil
	})
	if plan, err = here.RejoinRegion(t.Context(), client.RegionChange{Region: "r3"}); err != nil || plan.GetEpoch() != 1 {
		t.Errorf("the plan to rejoin: %v, %v", plan, err)
	}
	becomes(t, third, 3, membership.Active)
	arrives(t, back, "before", 20)
	putOnceActive(t, back, "anew", 10)
	arrives(t, configs[0], "anew", 10)
	s, _ := first.Membership().Current()
	if a := s.Region(3).Actor(); a.Epoch != 1 {
		t.Errorf("its actor is %+v", a)
	}
	if seq := first.partitions[0].View().Vector.Get(topology.Actor(3, 0)); seq != 0 {
		t.Errorf("the old epoch has %d events", seq)
	}
}

// A region is set back to an old copy of its disks. The others know more of it than it does: it stops writing at once,
// and they close it at what they have.
func TestARegionThatWasSetBackFencesItself(t *testing.T) {
	configs := deployment(t, 1, 1, 2)
	configs[2].Cluster.ReplicationFactor = 1
	var nodes []*Node
	var stops []func()
	for _, cfg := range configs {
		n, stop := serveNode(t, cfg)
		nodes, stops = append(nodes, n), append(stops, stop)
	}
	back := configs[2:]
	put(t, back[0], "kept", 10)
	becomes(t, nodes[0], 3, membership.Active)
	copies := make([]string, 2)
	for i := range copies {
		stops[2+i]()
		copies[i] = filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copies[i], os.DirFS(back[i].DataDir)); err != nil {
			t.Fatal(err)
		}
	}
	for i, cfg := range back {
		_, stops[2+i] = serveNode(t, cfg)
	}
	put(t, back[0], "lost", 20)
	arrives(t, configs[0], "lost", 20)
	for i := range back {
		stops[2+i]()
		back[i].DataDir = copies[i]
		nodes[2+i], stops[2+i] = serveNode(t, back[i])
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for _, cfg := range back { // both nodes
		own := dial(t, cfg, client.WithMaxAttempts(1))
		testkit.Eventually(t, patience, func() error {
			_, err := own.Put(t.Context(), "k", []byte("v"))
			var failed *client.Error
			if !errors.As(err, &failed) || failed.Reason != client.ReasonFenced {
				return fmt.Errorf("a write in %s: %w", cfg.Node, err)
			}
			return nil
		})
	}
	if why := nodes[2].loss.why.Load(); why == nil {
		t.Error("it does not say why")
	}
	becomes(t, nodes[0], 3, membership.Closed)
	arrives(t, configs[1], "kept", 10)
	arrives(t, configs[1], "lost", 20)
}

// A region that had written is given up and comes back. Nobody's outbox has its old events any more, nor those that it
// had of the others: it takes over another region's state, and has what it had shipped.
func TestARegionThatHadWrittenRejoins(t *testing.T) {
	configs := deployment(t, 1, 1, 1)
	first, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	_, stopSecond := serveNode(t, configs[1])
	defer stopSecond()
	_, stopThird := serveNode(t, configs[2])
	becomes(t, first, 3, membership.Active)
	put(t, configs[2], "old", 20)
	arrives(t, configs[0], "old", 20)
	arrives(t, configs[1], "old", 20)
	stopThird()
	here := dial(t, configs[0])
	if _, err := here.FenceRegion(t.Context(), client.RegionChange{Region: "r3", Note: "a test"}); err != nil {
		t.Fatal(err)
	}
	becomes(t, first, 3, membership.Closed)
	back := changed(configs[2], 3, func(r *topology.Region) { r.Epoch, r.Joins = 1, true })
	back.DataDir = filepath.Join(t.TempDir(), "data")
	third, stopBack := serveNode(t, back)
	defer stopBack()
	testkit.Eventually(t, patience, func() error {
		_, err := here.RejoinRegion(t.Context(), client.RegionChange{Region: "r3"})
		return err
	})
	becomes(t, third, 3, membership.Active)
	arrives(t, back, "old", 20)
	putOnceActive(t, back, "anew", 10)
	arrives(t, configs[1], "anew", 10)
}

// A region is added to two that have written, and gets what they have; then one of these leaves, and nothing that it
// acknowledged until then is lost.
func TestARegionIsAddedAndAnotherLeaves(t *testing.T) {
	configs := deployment(t, 1, 1, 1)
	for i := range configs {
		configs[i] = changed(configs[i], 3, func(r *topology.Region) { r.Joins = true })
	}
	first, stopFirst := serveNode(t, configs[0])
	defer stopFirst()
	second, stopSecond := serveNode(t, configs[1])
	becomes(t, first, 2, membership.Active)
	put(t, configs[0], "before", 20)
	arrives(t, configs[1], "before", 20)
	testkit.Eventually(t, patience, func() error { // its outbox is empty: the region that is added gets it another way
		for _, p := range first.partitions {
			if box := p.View().Outbox; box.First <= box.Head {
				return fmt.Errorf("the outbox has %d to %d", box.First, box.Head)
			}
		}
		return nil
	})

	added := changed(configs[2], 3, func(*topology.Region) {})
	third, stopThird := serveNode(t, added)
	defer stopThird()
	here := dial(t, configs[0])
	address := added.Cluster.Regions[2].Membership
	testkit.Eventually(t, patience, func() error {
		_, err := here.AddRegion(t.Context(), client.RegionChange{Region: "r3", ID: 3, Address: address})
		return err
	})
	becomes(t, third, 3, membership.Active)
	arrives(t, added, "before", 20)
	putOnceActive(t, added, "new", 10)
	arrives(t, configs[1], "new", 10)

	put(t, configs[1], "last", 50)
	if _, err := here.DrainRegion(t.Context(), client.RegionChange{Region: "r2"}); err != nil {
		t.Fatal(err)
	}
	becomes(t, second, 2, membership.Closed)
	leaving := dial(t, configs[1], client.WithMaxAttempts(1))
	if _, err := leaving.Put(t.Context(), "k", []byte("too late")); !errors.Is(err, client.ErrFenced) {
		t.Errorf("a write where a region has left: %v", err)
	}
	arrives(t, configs[0], "last", 50)
	arrives(t, added, "last", 50)
	stopSecond()
	testkit.Eventually(t, patience, func() error {
		_, err := here.RemoveRegion(t.Context(), client.RegionChange{Region: "r2"})
		return err
	})
	becomes(t, third, 2, membership.Removed)
	put(t, added, "without", 10)
	arrives(t, configs[0], "without", 10)
}
