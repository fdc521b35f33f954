package raftgroup

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
)

func (g *Group) restarts() int {
	g.dog.mu.Lock()
	defer g.dog.mu.Unlock()
	return g.dog.mu.count
}

// restarted waits until a group has started the library anew.
func (c *cluster) restarted(g *Group) {
	c.t.Helper()
	c.eventually(10*time.Second, func() error {
		if g.restarts() == 0 {
			return errors.New("not started anew")
		}
		return nil
	})
}

// healthy fails the test if a node was told that its disk has failed.
func (c *cluster) healthy() {
	c.t.Helper()
	for _, n := range c.nodes {
		select {
		case err := <-n.failures:
			c.t.Errorf("node %s: %v", n.id, err)
		default:
		}
	}
}

// With an election timeout of minutes, and a node that still listens, only a leader that hands over
// can be succeeded.
func TestLeaderHandsOverBeforeItEnds(t *testing.T) {
	c := newClusterWith(t, 3, 1, 5*time.Minute)
	old := c.nodes[0]
	c.lead(old)
	c.ready(old.groups[0])
	c.must(old.groups[0].Propose(t.Context(), []byte("one")))
	began := time.Now()
	old.quit()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("ending took %v", took)
	}
	c.eventually(5*time.Second, func() error {
		for _, n := range c.nodes[1:] {
			if leading, _ := n.groups[0].Leadership(); leading {
				return n.groups[0].Propose(t.Context(), []byte("two"))
			}
		}
		return errors.New("nobody leads")
	})
}

// A deposed leader whose entries a snapshot contradicts goes on, without its process ending.
func TestConflictWithASnapshotIsHealedInPlace(t *testing.T) {
	c := newClusterWith(t, 3, 1, 5*time.Minute)
	old, next := c.nodes[0], c.nodes[1]
	c.lead(old)
	c.ready(old.groups[0])
	c.must(old.groups[0].Propose(t.Context(), []byte("first")))
	c.converge(0, 1)
	for _, n := range c.nodes[1:] {
		c.stopNode(n)
	}
	var writers sync.WaitGroup
	for i := range 300 {
		writers.Go(func() {
			if err := old.groups[0].Propose(t.Context(), fmt.Append(nil, "never", i)); !errors.Is(err, region.ErrOutcomeUnknown) {
				t.Errorf("proposal of a leader alone: %v", err)
			}
		})
	}
	c.eventually(10*time.Second, func() error {
		if last := old.groups[0].log.LastIndex(); last < 300 {
			return fmt.Errorf("the old leader has %d entries", last)
		}
		return nil
	})
	c.stopNode(old)
	writers.Wait()
	for _, n := range c.nodes[1:] {
		c.start(n)
	}
	c.lead(next)
	c.ready(next.groups[0])
	for i := range 150 {
		c.must(next.groups[0].Propose(t.Context(), fmt.Append(nil, i)))
	}
	c.cut(next.groups[0], 10)
	c.start(old)
	c.converge(0, 151)
	c.restarted(old.groups[0])
	if old.machines[0].installs.Load() == 0 {
		t.Error("no snapshot was installed")
	}
	c.healthy()
	// It is a full member again.
	c.lead(old)
	c.ready(old.groups[0])
	c.must(old.groups[0].Propose(t.Context(), []byte("last")))
	c.converge(0, 152)
	if _, err := old.groups[0].current.Load().term(); err != nil {
		t.Errorf("the new instance does not tell its term: %v", err)
	}
}

// A transfer of leadership can leave a mark that makes the library refuse proposals for ever.
func TestLeaderStuckInATransferIsHealed(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	c.ready(leader.groups[0])
	field := reflect.ValueOf(leader.groups[0].raft()).Elem().FieldByName("leaderState").FieldByName("leadershipTransferInProgress")
	atomic.StoreInt32((*int32)(unsafe.Pointer(field.UnsafeAddr())), 1)
	if err := leader.groups[0].Propose(t.Context(), []byte("two")); !errors.Is(err, region.ErrNotLeader) {
		t.Fatalf("during a transfer: %v", err)
	}
	c.restarted(leader.groups[0])
	c.propose(0, "two")
	c.converge(0, 2)
	c.healthy()
}

// A transfer that takes its time is left alone.
func TestOneRefusalIsNotStuck(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "one")
	c.ready(leader.groups[0])
	leader.groups[0].dog.refused()
	leader.groups[0].dog.checkTransfer()
	c.must(leader.groups[0].Propose(t.Context(), []byte("two")))
	if n := leader.groups[0].restarts() + len(leader.groups[0].dog.restarts); n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// What a follower believes of its log can differ from what is there. It refuses everything then.
func TestFollowerThatRefusesEverythingIsHealed(t *testing.T) {
	c := led(t)
	leader, follower := c.nodes[0], c.nodes[2]
	follower.groups[0].dog.mu.Lock()
	follower.groups[0].dog.patience = 500 * time.Millisecond
	follower.groups[0].dog.mu.Unlock()
	for i := range 20 {
		c.must(leader.groups[0].Propose(t.Context(), fmt.Append(nil, i)))
	}
	c.converge(0, 21)
	log := follower.groups[0].log
	c.must(log.DeleteRange(log.LastIndex()-5, log.LastIndex()))
	c.must(leader.groups[0].Propose(t.Context(), []byte("last")))
	c.converge(0, 22)
	if follower.groups[0].restarts() == 0 {
		t.Error("it healed by itself")
	}
	c.healthy()
}

// Looking for where two logs agree takes many refusals, each of which comes closer.
func TestSearchingIsNotStuck(t *testing.T) {
	d := &watchdog{}
	d.init(nil)
	defer d.append.Stop()
	refuse := func(previous uint64) {
		d.appended(&raft.AppendEntriesRequest{Term: 2, PrevLogEntry: previous}, &raft.AppendEntriesResponse{Term: 2, NoRetryBackoff: true})
	}
	stuck := func() bool {
		d.checkAppend()
		select {
		case <-d.restarts:
			return true
		default:
			return false
		}
	}
	for previous := uint64(100); previous > 50; previous-- {
		refuse(previous)
	}
	if stuck() {
		t.Error("stuck while it comes closer")
	}
	for i := 1; i <= stuckRefusals; i++ { // each long after the one before
		refuse(51)
		if stuck() != (i == stuckRefusals) {
			t.Errorf("%d refusals in one place are taken wrongly", i)
		}
	}
	refuse(51)
	d.appended(&raft.AppendEntriesRequest{Term: 2}, &raft.AppendEntriesResponse{Term: 2, Success: true})
	for range 10 {
		refuse(0)
	}
	if stuck() {
		t.Error("stuck after a success")
	}
	for range 10 {
		refuse(0)
	}
	if !stuck() {
		t.Error("not stuck at the log's beginning")
	}
}
