package raftgroup

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/topology"
)

// With an election timeout of minutes, only the news that the leader's process has ended can bring
// about a new leader.
func TestLeaderWhoseProcessEndedIsReplacedAtOnce(t *testing.T) {
	c := newClusterWith(t, 3, 1, 5*time.Minute)
	c.nodes[0].groups[0].trans().timeoutNow(t.Context())
	if leader := c.propose(0, "before"); leader != c.nodes[0] {
		t.Fatalf("node %s leads, not the one that was told to", leader.id)
	}
	c.converge(0, 1)
	c.stopNode(c.nodes[0])
	if leader := c.propose(0, "after"); leader != c.nodes[1] {
		t.Errorf("node %s leads, not the first of those left", leader.id)
	}
	c.converge(0, 2)
}

func TestNextMemberStandsIfTheFirstHasLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		state  raft.RaftState
		leader topology.NodeID
		want   bool
	}{
		{"nobody has stood yet", raft.Follower, "gone", true},
		{"the first stood and lost", raft.Follower, "", true},
		{"the first has won", raft.Follower, "first", false},
		{"stands already", raft.Candidate, "", false},
		{"leads already", raft.Leader, "self", false},
	} {
		if got := stands(c.state, c.leader, "gone"); got != c.want {
			t.Errorf("%s: stands %v", c.name, got)
		}
	}
}

// A leader that is only slow, or whose connections were cut, is not gone.
func TestLivingLeaderIsNotGone(t *testing.T) {
	c := newCluster(t, 3, 1)
	leader := c.propose(0, "x")
	for _, n := range c.nodes {
		if n != leader && n.groups[0].layer.Gone(leader.id, time.Second) {
			t.Errorf("node %s takes the leader for gone", n.id)
		}
	}
	if leader.groups[0].layer.Gone("nobody", time.Second) {
		t.Error("a node that does not exist is taken for gone")
	}
}
