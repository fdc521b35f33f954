package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/wan"
	"github.com/atolldb/atoll/region"
)

// led returns a linked cluster of three whose first node leads, and has committed one command.
func led(t *testing.T) *cluster {
	c := newLinkedCluster(t, 3)
	c.lead(c.nodes[0])
	c.ready(c.nodes[0].groups[0])
	c.must(c.nodes[0].groups[0].Propose(t.Context(), []byte("first")))
	c.converge(0, 1)
	return c
}

func count(n *node) uint64 {
	count, _, _ := n.machines[0].figures()
	return count
}

// within fails the test unless a confirmation returns in time what it must.
func (c *cluster) within(d time.Duration, what string, confirm func(context.Context) error, want error) {
	c.t.Helper()
	began := time.Now()
	if err := confirm(c.t.Context()); !errors.Is(err, want) {
		c.t.Errorf("%s: %v, want %v", what, err, want)
	}
	if took := time.Since(began); took > d {
		c.t.Errorf("%s took %v", what, took)
	}
}

// Every replica reads every acknowledged write, at once, and without writing to the log.
func TestEveryReplicaConfirmsEveryWrite(t *testing.T) {
	c := led(t)
	leader := c.nodes[0].groups[0]
	began := time.Now()
	for i := uint64(2); i <= 40; i++ {
		c.must(leader.Propose(t.Context(), fmt.Append(nil, i)))
		last := leader.raft().LastIndex()
		n := c.nodes[i%3]
		g := n.groups[0]
		switch {
		case n == c.nodes[0]:
			c.within(time.Second, "leader", g.ConfirmLeader, nil)
		case i%2 == 0:
			c.within(time.Second, "follower", g.ConfirmFollower, nil)
		default:
			c.within(time.Second, "majority", g.ConfirmMajority, nil)
		}
		if got := count(n); got < i {
			t.Fatalf("node %s reads %d of %d writes", n.id, got, i)
		}
		if leader.raft().LastIndex() != last {
			t.Fatal("confirming wrote to the log")
		}
		if n != c.nodes[0] {
			c.within(time.Second, "not leading", g.ConfirmLeader, region.ErrNotLeader)
		}
	}
	// Raft tells followers of a commit half a second later, if nothing is written meanwhile.
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("39 reads took %v: followers wait to hear what the leader has said", took)
	}
	if err := leader.askTerms(t.Context(), leader.raft().CurrentTerm()-1, leader.servers()); err == nil {
		t.Error("voters of a later term confirmed")
	}
	c.within(time.Second, "the leader as follower", leader.ConfirmFollower, nil)
	c.within(time.Second, "the leader by majority", leader.ConfirmMajority, nil)
}

// What a follower has served, the leader serves too, though it applies later.
func TestLeaderWaitsForWhatFollowersMayHaveServed(t *testing.T) {
	c := led(t)
	leader := c.nodes[0]
	gate := make(chan struct{})
	leader.machines[0].gate.Store(&gate)
	proposed := make(chan error, 1)
	go func() { proposed <- leader.groups[0].Propose(t.Context(), []byte("second")) }()
	c.eventually(10*time.Second, func() error {
		if count(c.nodes[1]) < 2 {
			return errors.New("not applied by a follower")
		}
		return nil
	})
	confirmed := make(chan error, 1)
	go func() { confirmed <- leader.groups[0].ConfirmLeader(t.Context()) }()
	early := time.NewTimer(200 * time.Millisecond)
	defer early.Stop()
	select {
	case err := <-confirmed:
		t.Errorf("confirmed before it applied what a follower has served: %v", err)
		confirmed <- err
	case <-early.C:
	}
	leader.machines[0].gate.Store(nil)
	close(gate)
	if err := errors.Join(<-confirmed, <-proposed); err != nil || count(leader) != 2 {
		t.Errorf("%v with %d commands applied", err, count(leader))
	}
}

// A leader that was paused, and deposed meanwhile, finds in its sockets the answers that were given
// while it led. They prove nothing.
func TestDeposedLeaderDoesNotConfirm(t *testing.T) {
	c := led(t)
	old, next := c.nodes[0], c.nodes[1]
	paused := time.Now()
	for _, n := range c.nodes[1:] {
		c.link(old, n).CutWay(wan.Back)
		c.link(n, old).Cut()
	}
	// The followers take one more message each, and their answers wait.
	c.eventually(10*time.Second, func() error {
		for _, n := range c.nodes[1:] {
			if !n.groups[0].raft().LastContact().After(paused) {
				return fmt.Errorf("node %s has heard nothing", n.id)
			}
		}
		return nil
	})
	for _, n := range c.nodes[1:] {
		c.link(old, n).CutWay(wan.There)
	}
	c.lead(next)
	c.ready(next.groups[0])
	c.must(next.groups[0].Propose(t.Context(), []byte("second")))
	if !old.groups[0].leads(old.groups[0].raft().CurrentTerm()) {
		t.Fatal("the old leader knows already")
	}
	confirmed := make(chan error, 1)
	go func() { confirmed <- old.groups[0].ConfirmLeader(t.Context()) }()
	asked := time.NewTimer(100 * time.Millisecond)
	defer asked.Stop()
	<-asked.C
	for _, n := range c.nodes[1:] {
		c.link(old, n).HealWay(wan.Back)
	}
	if err := <-confirmed; err == nil {
		t.Error("a deposed leader confirmed, and lacks an acknowledged write")
	}
	c.isolate(old, false)
	c.within(10*time.Second, "the deposed leader", old.groups[0].ConfirmLeader, region.ErrNotLeader)
	c.converge(0, 2)
}

// With the leader out of reach, followers still find out what was acknowledged.
func TestMajorityConfirmsWithoutALeader(t *testing.T) {
	c := led(t)
	c.isolate(c.nodes[0], true)
	for _, n := range c.nodes[1:] {
		c.within(2*time.Second, "majority", n.groups[0].ConfirmMajority, nil)
	}
}

// What a majority may have acknowledged, but has not told of, waits for the next leader.
func TestMajorityWaitsForWhatIsInDoubt(t *testing.T) {
	c := led(t)
	old, next, behind := c.nodes[0], c.nodes[1], c.nodes[2]
	c.link(old, behind).Cut()
	c.must(old.groups[0].Propose(t.Context(), []byte("second"))) // behind does not have it
	c.isolate(old, true)
	g := behind.groups[0]
	c.within(10*time.Second, "follower without a leader", g.ConfirmFollower, region.ErrNoQuorum)
	if err := g.ConfirmMajority(t.Context()); err == nil {
		t.Errorf("confirmed with %d of 2 writes", count(behind))
	}
	c.lead(next)
	c.within(2*time.Second, "majority", g.ConfirmMajority, nil)
	if got := count(behind); got != 2 {
		t.Errorf("read %d of 2 writes", got)
	}
	c.isolate(behind, true)
	c.within(10*time.Second, "alone by majority", g.ConfirmMajority, region.ErrNoQuorum)
	c.within(10*time.Second, "leading without followers", next.groups[0].ConfirmLeader, region.ErrNoQuorum)
}

// Entries that mean something to Raft alone keep nobody waiting: not when a state's position is on
// one, and not after a restart.
func TestConfirmingDoesNotWaitForEntriesWithoutCommands(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "first")
	c.converge(0, 1)
	for range 300 {
		c.must(leader.groups[0].Barrier(t.Context()))
	}
	c.cut(leader.groups[0], 100) // moves the leader's position to its last barrier
	if p := leader.machines[0].Position().Index; p < 300 {
		t.Fatalf("the leader is at %d", p)
	}
	confirm := func() {
		t.Helper()
		for _, n := range c.nodes {
			c.within(time.Second, "follower", n.groups[0].ConfirmFollower, nil)
			c.within(time.Second, "majority", n.groups[0].ConfirmMajority, nil)
		}
	}
	confirm()
	for _, n := range c.nodes {
		c.stopNode(n)
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	c.eventually(10*time.Second, func() error { return c.nodes[0].groups[0].ConfirmFollower(t.Context()) })
	confirm()
	c.converge(0, 1)
}

func TestAloneAGroupConfirmsAtOnce(t *testing.T) {
	c := newCluster(t, 1, 1)
	n := c.propose(0, "first")
	c.ready(n.groups[0])
	c.within(time.Second, "leader", n.groups[0].ConfirmLeader, nil)
	c.within(time.Second, "follower", n.groups[0].ConfirmFollower, nil)
	c.within(time.Second, "majority", n.groups[0].ConfirmMajority, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, confirm := range []func(context.Context) error{n.groups[0].ConfirmLeader, n.groups[0].ConfirmMajority} {
		if err := confirm(cancelled); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	c.stopNode(n)
	for _, confirm := range []func(context.Context) error{
		n.groups[0].ConfirmLeader, n.groups[0].ConfirmFollower, n.groups[0].ConfirmMajority,
	} {
		c.within(time.Second, "after the end", confirm, region.ErrShuttingDown)
	}
}
