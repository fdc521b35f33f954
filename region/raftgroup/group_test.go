package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
)

func TestGroupsReplicateAndSurviveTheirLeaders(t *testing.T) {
	c := newCluster(t, 3, 3)
	counts := make([]uint64, c.groups)
	var leader *node
	for g := range c.groups {
		for i := range 5 {
			leader = c.propose(g, fmt.Sprint("before", g, i))
			counts[g]++
		}
		c.converge(g, counts[g])
	}
	for g := range c.groups {
		id, term, known := leader.groups[g].Leader()
		if !known || id == "" || term == 0 {
			t.Errorf("group %d: leader %q in term %d", g, id, term)
		}
	}
	stopped := time.Now()
	c.stopNode(leader)
	for g := range c.groups {
		c.propose(g, "after")
		counts[g]++
	}
	took := time.Since(stopped)
	t.Logf("first write to every group after its leader stopped: %s", took)
	if took > 10*time.Second { // 3 s on a machine of its own
		t.Errorf("too slow")
	}
	c.start(leader)
	for g := range c.groups {
		c.converge(g, counts[g])
	}
}

func TestRestartAppliesNothingTwice(t *testing.T) {
	c := newCluster(t, 3, 1)
	var count uint64
	for round := range 3 {
		for i := range 10 {
			c.propose(0, fmt.Sprint(round, i))
			count++
		}
		c.converge(0, count)
		for _, n := range c.nodes {
			if round == 1 {
				c.must(n.machines[0].Flush())
			}
			durable := n.machines[0].Durable()
			c.stopNode(n) // what is not flushed is lost, as in a crash
			c.start(n)
			if after := n.machines[0].Position(); after.Index < durable.Index || after.Term < durable.Term {
				t.Fatalf("position went back from %+v to %+v", durable, after)
			}
		}
	}
	for _, n := range c.nodes { // all at once
		c.stopNode(n)
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	c.propose(0, "last")
	c.converge(0, count+1)
}

// A follower that lags behind the leader's log gets the leader's file.
func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "first")
	c.converge(0, 1)
	lagging := c.nodes[0]
	if lagging == leader {
		lagging = c.nodes[1]
	}
	c.stopNode(lagging)
	last := lagging.machines[0].Position().Index
	const proposals = 600
	var writers sync.WaitGroup
	for w := range 20 {
		writers.Go(func() {
			for i := range proposals / 20 {
				if err := leader.groups[0].Propose(t.Context(), fmt.Appendf(nil, "entry %d %d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	for _, n := range c.nodes {
		if n == lagging {
			continue
		}
		g := n.groups[0]
		c.cut(g, 100)
		if first := g.log.FirstIndex(); first <= last+1 {
			t.Fatalf("the log still begins at %d, the follower is at %d", first, last)
		}
	}
	c.start(lagging)
	c.converge(0, proposals+1)
	if lagging.machines[0].installs.Load() == 0 {
		t.Fatal("no snapshot was installed")
	}
	// What came with the snapshot is a full member again: it can be restarted, and it can lead.
	c.stopNode(lagging)
	c.start(lagging)
	c.stopNode(leader)
	c.propose(0, "after")
	c.start(leader)
	c.converge(0, proposals+2)
}

// cut has a node cut its log as far as it may, but for the last entries.
func (c *cluster) cut(g *Group, keep uint64) {
	c.t.Helper()
	reload := g.raft().ReloadableConfig()
	reload.TrailingLogs = keep
	c.must(g.raft().ReloadConfig(reload))
	c.eventually(10*time.Second, func() error { return g.raft().Snapshot().Error() })
}

// The log may be cut where the last entries mean something to Raft alone.
func TestBarriersAloneDoNotOutrunTheState(t *testing.T) {
	c := newCluster(t, 1, 1)
	n := c.propose(0, "one")
	g := n.groups[0]
	for range 300 {
		c.must(g.Barrier(t.Context()))
	}
	c.cut(g, 10)
	if first := g.log.FirstIndex(); first < 200 || first > n.machines[0].Durable().Index+1 {
		t.Fatalf("the log begins at %d, the state is at %d", first, n.machines[0].Durable().Index)
	}
	c.stopNode(n)
	c.start(n)
	c.propose(0, "two")
	c.converge(0, 2)
}

// What was applied but not flushed comes from the log again, however the log was cut meanwhile.
func TestACrashLosesNothingThatWasNotFlushed(t *testing.T) {
	c := newCluster(t, 3, 1)
	for i := range 200 {
		c.propose(0, fmt.Sprint("first", i))
	}
	c.converge(0, 200)
	for _, n := range c.nodes {
		if d := n.machines[0].Durable().Index; d != 0 {
			t.Fatalf("node %s flushed up to %d unasked", n.id, d)
		}
		c.cut(n.groups[0], 50)
		if first, d := n.groups[0].log.FirstIndex(), n.machines[0].Durable().Index; first < 100 || first > d+1 {
			t.Errorf("node %s: the log begins at %d, durable is %d", n.id, first, d)
		}
	}
	for i := range 30 {
		c.propose(0, fmt.Sprint("second", i))
	}
	c.converge(0, 230)
	for _, n := range c.nodes {
		c.stopNode(n)
	}
	for _, n := range c.nodes {
		c.start(n)
		if p := n.machines[0].Position().Index; p >= 230 {
			t.Errorf("node %s starts at %d: nothing was lost", n.id, p)
		}
	}
	c.propose(0, "last")
	c.converge(0, 231)
}

func TestPreVoteIsOn(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	for _, n := range c.nodes {
		g := n.groups[0]
		if _, ok := raft.Transport(g.trans()).(raft.WithPreVote); !ok {
			t.Error("the transport cannot ask for pre-votes")
		}
		if _, ok := raft.Transport(g.trans()).(raft.WithClose); !ok {
			t.Error("the transport cannot be closed")
		}
	}
	// A member that cannot reach the others asks in vain, and its term stays where it was. A real
	// election would raise it with every try.
	lonely := c.nodes[0]
	if lonely == leader {
		lonely = c.nodes[1]
	}
	for _, n := range c.nodes {
		if n != lonely {
			c.stopNode(n)
		}
	}
	g := lonely.groups[0]
	c.eventually(10*time.Second, func() error {
		if g.raft().State() != raft.Candidate {
			return errors.New("no election")
		}
		return nil
	})
	// It may have stood once without asking, because its leader's process had ended.
	elections := time.NewTicker(3 * (electionTimeout + electionStagger))
	defer elections.Stop()
	<-elections.C
	before := g.raft().CurrentTerm()
	<-elections.C
	if after := g.raft().CurrentTerm(); after != before {
		t.Errorf("the term went from %d to %d without a quorum", before, after)
	}
}

func TestOnlyTheLeaderConfirms(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	c.ready(leader.groups[0])
	for _, n := range c.nodes {
		g := n.groups[0]
		err := g.Barrier(t.Context())
		leading, _ := g.Leadership()
		if n == leader && (err != nil || !leading) {
			t.Errorf("leader: leading %v, barrier: %v", leading, err)
		}
		if n != leader && (!errors.Is(err, region.ErrNotLeader) || leading) {
			t.Errorf("follower: leading %v, barrier: %v", leading, err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Barrier(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled barrier: %v", err)
		}
	}
}

func TestALeaderWithoutFollowersConfirmsNothing(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	c.ready(leader.groups[0])
	_, changed := leader.groups[0].Leadership()
	for _, n := range c.nodes {
		if n != leader {
			c.stopNode(n)
		}
	}
	if err := leader.groups[0].Barrier(t.Context()); !errors.Is(err, region.ErrNotLeader) {
		t.Errorf("barrier without followers: %v", err)
	}
	err := leader.groups[0].Propose(t.Context(), []byte("in vain"))
	if !errors.Is(err, region.ErrNotLeader) && !errors.Is(err, region.ErrOutcomeUnknown) {
		t.Errorf("proposal without followers: %v", err)
	}
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case <-changed:
	case <-deadline.Done():
		t.Error("the loss of the lead was not told")
	}
	if leading, _ := leader.groups[0].Leadership(); leading {
		t.Error("still leading")
	}
}

// However a group ends, nobody waits for ever, and nobody is told that a write failed that may not have.
func TestProposalsEndWithTheGroup(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	g := leader.groups[0]
	var proposers sync.WaitGroup
	results := make(chan error, 1000)
	for range 50 {
		proposers.Go(func() {
			for {
				err := g.Propose(context.WithoutCancel(t.Context()), []byte("x"))
				if err != nil {
					results <- err
					return
				}
			}
		})
	}
	c.eventually(10*time.Second, func() error {
		if count, _, err := leader.machines[0].figures(); err != nil || count < 20 {
			return fmt.Errorf("%d applied, %w", count, err)
		}
		return nil
	})
	c.stopNode(leader)
	proposers.Wait()
	close(results)
	for err := range results {
		if !errors.Is(err, region.ErrOutcomeUnknown) && !errors.Is(err, region.ErrShuttingDown) && !errors.Is(err, region.ErrNotLeader) {
			t.Errorf("proposal at the end: %v", err)
		}
	}
	if err := g.Propose(t.Context(), nil); !errors.Is(err, region.ErrShuttingDown) {
		t.Errorf("proposal after the end: %v", err)
	}
	if err := g.Barrier(t.Context()); !errors.Is(err, region.ErrShuttingDown) {
		t.Errorf("barrier after the end: %v", err)
	}
}

// After the state machine's storage has failed, it is told once and nothing is acknowledged.
func TestStorageFailureStopsAcknowledgements(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	broken := errors.New("injected failure")
	leader.machines[0].failure.Store(&broken)
	for range 3 {
		if err := leader.groups[0].Propose(t.Context(), []byte("two")); !errors.Is(err, region.ErrOutcomeUnknown) {
			t.Fatalf("proposal: %v", err)
		}
	}
	leader.machines[0].failure.Store(nil) // too late
	if err := leader.groups[0].Propose(t.Context(), []byte("three")); !errors.Is(err, region.ErrOutcomeUnknown) {
		t.Fatalf("proposal after recovery: %v", err)
	}
	if err := leader.groups[0].Barrier(t.Context()); err == nil {
		t.Fatal("barrier confirmed")
	}
	if err := <-leader.failures; !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if len(leader.failures) != 0 {
		t.Fatal("told more than once")
	}
}
