package raftgroup

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// ready waits until a group leads and says so.
func (c *cluster) ready(g *Group) {
	c.t.Helper()
	c.eventually(10*time.Second, func() error {
		if leading, _ := g.Leadership(); !leading {
			return errors.New("not leading")
		}
		return nil
	})
}

// lead has a node win an election.
func (c *cluster) lead(n *node) {
	c.t.Helper()
	g := n.groups[0]
	c.eventually(10*time.Second, func() error {
		if g.raft().State() == raft.Leader {
			return nil
		}
		if g.raft().State() == raft.Follower {
			g.trans().timeoutNow(c.t.Context())
		}
		return errors.New("not elected")
	})
}

// A leader whose state lacks entries of its predecessors is not ready to be one.
func TestLeadershipWaitsForWhatEarlierLeadersCommitted(t *testing.T) {
	c := newClusterWith(t, 3, 1, 5*time.Minute)
	old, next := c.nodes[0], c.nodes[1]
	c.lead(old)
	c.ready(old.groups[0])
	c.must(old.groups[0].Propose(t.Context(), []byte("one")))
	c.converge(0, 1)
	gate := make(chan struct{})
	next.machines[0].gate.Store(&gate)
	open := func() {
		if next.machines[0].gate.Swap(nil) != nil {
			close(gate)
		}
	}
	defer open()
	c.must(old.groups[0].Propose(t.Context(), []byte("two")))
	c.eventually(10*time.Second, func() error {
		if next.groups[0].raft().LastIndex() < old.groups[0].raft().LastIndex() {
			return errors.New("not replicated")
		}
		return nil
	})
	leading, changed := next.groups[0].Leadership()
	if leading {
		t.Fatal("leads from the beginning")
	}
	c.lead(next)
	early := time.NewTimer(300 * time.Millisecond)
	defer early.Stop()
	select {
	case <-changed:
		t.Fatal("ready before what was committed is applied")
	case <-early.C:
	}
	open()
	<-changed
	if leading, _ := next.groups[0].Leadership(); !leading {
		t.Error("not leading after all is applied")
	}
	if count, _, _ := next.machines[0].figures(); count != 2 {
		t.Errorf("ready with %d of 2 commands applied", count)
	}
	if leading, _ := old.groups[0].Leadership(); leading {
		t.Error("the deposed leader says that it leads")
	}
}
