package raftgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// isMember waits until all nodes know a node's present incarnation, and no other, as a voter.
func (c *cluster) isMember(n *node) {
	c.t.Helper()
	c.eventually(20*time.Second, func() error {
		for _, other := range c.nodes {
			servers := other.groups[0].servers()
			want := raft.Server{ID: serverID(n.id, n.incarnation), Address: raft.ServerAddress(n.id)}
			if len(servers) != len(c.nodes) || !slices.Contains(servers, want) {
				return fmt.Errorf("node %s knows %v", other.id, servers)
			}
		}
		return nil
	})
}

// A node that has lost its log is another member, and takes the place of the one it was: with its
// state still there, without it, and again.
func TestNodeThatLostItsLogIsReplaced(t *testing.T) {
	c := newCluster(t, 3, 1)
	var count uint64
	write := func(n uint64) {
		for range n {
			c.propose(0, fmt.Sprint(count))
			count++
		}
		c.converge(0, count)
	}
	write(40)
	n := c.nodes[0]
	for _, lost := range [][]string{{"log"}, {"log", "state-0.db"}} {
		c.must(n.machines[0].Flush())
		c.stopNode(n)
		c.propose(0, "away")
		count++
		for _, name := range lost {
			c.must(os.RemoveAll(filepath.Join(n.dir, name)))
		}
		n.incarnation++
		c.start(n)
		c.isMember(n)
		write(10)
		// Its vote counts: two are enough.
		other := c.nodes[n.incarnation]
		c.stopNode(other)
		c.propose(0, "with the new member")
		count++
		c.start(other)
		// It is the same one after a restart.
		c.stopNode(n)
		c.start(n)
		write(5)
		c.isMember(n)
	}
	c.healthy()
}

// Who asks for one incarnation does not take the word of another.
func TestIncarnationsDoNotSpeakForEachOther(t *testing.T) {
	c := newCluster(t, 3, 1)
	c.propose(0, "one")
	n, other := c.nodes[0], c.nodes[1]
	c.stopNode(n)
	c.must(os.RemoveAll(filepath.Join(n.dir, "log")))
	c.must(os.RemoveAll(filepath.Join(n.dir, "state-0.db")))
	n.incarnation = 1
	c.start(n)
	c.isMember(n)
	trans := other.groups[0].trans()
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(other.id), Addr: []byte(other.id)}
	ask := func(id raft.ServerID) (vote, append error) {
		request := &raft.RequestPreVoteRequest{RPCHeader: header, Term: 1}
		beat := &raft.AppendEntriesRequest{RPCHeader: header, Term: 1}
		return trans.RequestPreVote(id, raft.ServerAddress(n.id), request, new(raft.RequestPreVoteResponse)),
			trans.AppendEntries(id, raft.ServerAddress(n.id), beat, new(raft.AppendEntriesResponse))
	}
	if vote, append := ask("n1~1"); vote != nil || append != nil {
		t.Errorf("asked itself: %v, %v", vote, append)
	}
	for _, id := range []raft.ServerID{"n1~2", "n1~01", "n3"} {
		if vote, append := ask(id); !errors.Is(vote, errOtherSigner) || !errors.Is(append, errOtherSigner) {
			t.Errorf("asked for %s: %v, %v", id, vote, append)
		}
	}
	if vote, append := ask("n1"); vote == nil || append == nil {
		t.Errorf("the first incarnation's votes and copies were counted: %v, %v", vote, append)
	}
	old := []raft.Server{{ID: "n2", Address: "n2"}, {ID: "n1", Address: "n1"}}
	if err := other.groups[0].askTerms(t.Context(), 99, old); err == nil {
		t.Error("the first incarnation's term was told")
	}
}

// A log is one incarnation's alone.
func TestLogOfAnotherIncarnationIsRefused(t *testing.T) {
	used := newLogFixture(t, 3, region.Position{Index: 3, Term: 2}).logs.log
	if err := ClaimLog(used, 0); err != nil {
		t.Errorf("the first incarnation's own: %v", err)
	}
	if err := ClaimLog(used, 1); !errors.Is(err, errOtherLog) {
		t.Errorf("the first incarnation's, by the second: %v", err)
	}
	fresh := newLogFixture(t, 0, region.Position{}).logs.log
	for incarnation, want := range map[uint32]error{2: nil, 1: errOtherLog, 0: errOtherLog} {
		if err := ClaimLog(fresh, 2); err != nil {
			t.Fatal(err)
		}
		if err := ClaimLog(fresh, incarnation); !errors.Is(err, want) {
			t.Errorf("the third incarnation's, by %d: %v", incarnation, err)
		}
	}
}

func TestStepsOfJoining(t *testing.T) {
	voter := func(id raft.ServerID, at raft.ServerAddress) raft.Server { return raft.Server{ID: id, Address: at} }
	copies := raft.Server{ID: "c~2", Address: "c", Suffrage: raft.Nonvoter}
	for name, c := range map[string]struct {
		third    []raft.Server
		caughtUp bool
		step     string
		answer   byte
		err      error
	}{
		"the first incarnation is there": {third: []raft.Server{voter("c", "c")}, step: "remove"},
		"an older one is there":          {third: []raft.Server{voter("c~1", "c")}, step: "remove"},
		"none is there":                  {step: "add"},
		"it is behind":                   {third: []raft.Server{copies}, answer: joining},
		"it has caught up":               {third: []raft.Server{copies}, caughtUp: true, step: "give a vote"},
		"it votes":                       {third: []raft.Server{voter("c~2", "c")}, answer: joined},
		"a later one is there":           {third: []raft.Server{voter("c~10", "c")}, err: errSuperseded},
	} {
		servers := append([]raft.Server{voter("a", "a"), voter("b~7", "b")}, c.third...)
		step, err := nextStep(servers, "c", "c~2", c.caughtUp)
		if step.name != c.step || step.answer != c.answer || !errors.Is(err, c.err) || (step.change == nil) != (c.step == "") {
			t.Errorf("%s: %q, %d, %v", name, step.name, step.answer, err)
		}
		for _, id := range []raft.ServerID{"c", "b~8", "c~02", "c~", "c~x"} {
			if _, err := nextStep(servers, "c", id, true); !errors.Is(err, errQuestion) {
				t.Errorf("%s: %s joins: %v", name, id, err)
			}
		}
	}
}

func TestServerNames(t *testing.T) {
	for _, c := range []struct {
		node        topology.NodeID
		incarnation uint32
		want        raft.ServerID
	}{{"n1", 0, "n1"}, {"n1", 3, "n1~3"}, {"odd~1", 0, "odd~1"}, {"odd~1", 4, "odd~1~4"}} {
		id := serverID(c.node, c.incarnation)
		if got, ok := incarnationOf(id, raft.ServerAddress(c.node)); id != c.want || !ok || got != c.incarnation {
			t.Errorf("%+v: %s is incarnation %d, %v", c, id, got, ok)
		}
	}
}
