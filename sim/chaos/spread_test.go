package main

import (
	"context"
	"io"
	"strings"
	"testing"

	configv1 "github.com/atolldb/atoll/proto/atoll/config/v1"
)

// addresses returns all addresses in a deployment, by what they are of.
func addresses(c *configv1.Cluster) map[string]string {
	found := map[string]string{}
	for _, r := range c.GetRegions() {
		found[r.GetName()] = r.GetMembership()
		for _, n := range r.GetNodes() {
			found[n.GetName()+" api"], found[n.GetName()+" raft"] = n.GetApi(), n.GetRaft()
			found[n.GetName()+" nats"], found[n.GetName()+" nats cluster"] = n.GetNats(), n.GetNatsCluster()
		}
	}
	return found
}

func TestADeploymentIsMadeOfRegionsThatVote(t *testing.T) {
	configs := spreadOf(5, 2, 4)
	if len(configs) != 10 {
		t.Fatalf("%d nodes", len(configs))
	}
	if err := relocate(configs, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for what, addr := range addresses(configs[0].GetCluster()) {
		if before, twice := seen[addr]; twice || !strings.HasPrefix(addr, "127.0.0.1:") || len(addr) < len("127.0.0.1:10000") {
			t.Errorf("%s is at %q, and so is %q", what, addr, before)
		}
		seen[addr] = what
	}
	if len(seen) != 5+4*10 {
		t.Errorf("%d addresses", len(seen))
	}
	dirs := map[string]bool{}
	for _, c := range configs {
		dirs[c.GetDataDir()] = true
		if c.GetCluster().String() != configs[0].GetCluster().String() {
			t.Errorf("%s describes another cluster", c.GetNode())
		}
	}
	if len(dirs) != 10 {
		t.Errorf("%d data directories", len(dirs))
	}
}

func TestDataAndVotesAreCutApart(t *testing.T) {
	s := &settings{scenario: scenarioNamed(t, "region"), partitions: 4, nodesEach: 1}
	d, err := newDeployment(context.Background(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cutLinks := func(votes bool) (n int) {
		for _, l := range d.links {
			if l.IsCut() && l.votes == votes {
				n++
			}
		}
		return n
	}
	err = d.run(context.Background(), func(context.Context) error {
		if len(d.links) != 2*5*4 {
			t.Errorf("%d links, want two from each region to each other", len(d.links))
		}
		d.cutBetween("eu", "ap")
		if data, votes := cutLinks(false), cutLinks(true); data != 2 || votes != 0 {
			t.Errorf("%d links to data and %d to votes are cut between two regions", data, votes)
		}
		d.healBetween("ap", "eu")
		d.deafen("us", true)
		if data, votes := cutLinks(false), cutLinks(true); data != 0 || votes != 8 {
			t.Errorf("%d links to data and %d to votes are cut of a deaf region", data, votes)
		}
		d.deafen("us", false)
		if n := cutLinks(true) + cutLinks(false); n != 0 {
			t.Errorf("%d links are cut after healing", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	checkVotes(t, d)
}

// checkVotes checks that a region reaches its own vote where that listens, and others by a link of its own.
func checkVotes(t *testing.T, d *deployment) {
	t.Helper()
	votes := map[string]link{}
	for _, l := range d.links {
		if l.votes {
			votes[l.Addr()] = l
		}
	}
	for _, m := range d.members {
		for _, r := range m.config.GetCluster().GetRegions() {
			l, linked := votes[r.GetMembership()]
			if own := r.GetName() == m.region; own == linked || linked && (l.from != m.region || l.to != r.GetName()) {
				t.Errorf("%s reaches the vote of %s at %s, from %q to %q", m.name, r.GetName(), r.GetMembership(), l.from, l.to)
			}
		}
	}
}

func TestHowManyNodesThereCanBe(t *testing.T) {
	for _, c := range []struct {
		args  string
		nodes int // 0 means that they are refused
	}{
		{"--scenario wipe", 3}, {"--scenario wipe --quick", 1}, {"--scenario wipe --nodes 2", 2}, {"--scenario wipe --nodes 10", 0}, {"--scenario wipe --nodes -1", 0},
	} {
		s, err := parse(strings.Fields(c.args), io.Discard)
		if (err == nil) != (c.nodes > 0) || err == nil && s.nodesEach != c.nodes {
			t.Errorf("%s: %+v, %v", c.args, s, err)
		}
	}
}
