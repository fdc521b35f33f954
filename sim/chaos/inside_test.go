package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/wan"
	"github.com/atolldb/atoll/sim/check"
)

func scenarioNamed(t *testing.T, name string) scenario {
	t.Helper()
	s, known := scenarioOf(name)
	if !known {
		t.Fatalf("no scenario %s", name)
	}
	return s
}

func TestOneRegionHasItsNodesAndNoOther(t *testing.T) {
	s := &settings{configs: examples, scenario: scenarioNamed(t, "kill"), partitions: 8}
	d, err := newDeployment(context.Background(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintln(d.regions, d.members[0].name, d.members[1].name, d.members[2].name, d.partitions); got != "[eu] eu-1 eu-2 eu-3 8\n" || len(d.members) != 3 {
		t.Errorf("the deployment is %s with %d members", got, len(d.members))
	}
	raft := map[string]int{}
	for _, m := range d.members {
		if len(m.config.GetCluster().GetRegions()) != 1 {
			t.Errorf("%s knows %d regions", m.name, len(m.config.GetCluster().GetRegions()))
		}
		for _, n := range m.config.GetCluster().GetRegions()[0].GetNodes() {
			raft[n.GetRaft()]++
		}
	}
	if len(raft) != 3 {
		t.Errorf("without links the nodes have %d Raft addresses: %v", len(raft), raft)
	}
}

func TestNodesReachEachOtherThroughLinks(t *testing.T) {
	s := &settings{configs: examples, scenario: scenarioNamed(t, "stale"), partitions: 8, replyDelay: time.Millisecond}
	d, err := newDeployment(context.Background(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = d.run(context.Background(), func(context.Context) error {
		if len(d.links) != 6 {
			t.Errorf("%d links, want one for each node and each other", len(d.links))
		}
		for _, m := range d.members {
			for _, n := range m.config.GetCluster().GetRegions()[0].GetNodes() {
				i := slices.IndexFunc(d.links, func(l link) bool { return l.Addr() == n.GetRaft() })
				if own := n.GetName() == m.name; own != (i < 0) || !own && (d.links[i].from != m.name || d.links[i].to != n.GetName()) {
					t.Errorf("%s reaches %s at %s, link %d", m.name, n.GetName(), n.GetRaft(), i)
				}
			}
		}
		d.way("eu-1", "eu-2", wan.Back, true)
		for _, l := range d.links {
			if l.IsCut() != (l.from == "eu-1" && l.to == "eu-2") {
				t.Errorf("link %s to %s: cut is %v", l.from, l.to, l.IsCut())
			}
		}
		d.way("eu-1", "eu-2", wan.Back, false)
		if slices.ContainsFunc(d.links, func(l link) bool { return l.IsCut() }) {
			t.Error("a link is cut after healing")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAKeyInEachPartition(t *testing.T) {
	for p, key := range keyPerPartition("hot", 16) {
		if got := partitionOf(key, 16); got != p {
			t.Errorf("%s is in partition %d, not %d", key, got, p)
		}
	}
}

func TestAckClockFindsTheLongestGap(t *testing.T) {
	c := newAckClock(2)
	at := func(ms int) time.Time { return c.begin.Add(time.Duration(ms) * time.Millisecond) }
	for _, ms := range []int{100, 200, 290, 900, 1000} {
		c.partitions[0].at = append(c.partitions[0].at, at(ms).Sub(c.begin))
	}
	for _, w := range []struct {
		name             string
		begin, end, want int
	}{
		{"in the middle", 250, 1000, 610},
		{"at the beginning", 310, 1000, 590},
		{"reaches to the end", 1050, 2000, 950},
		{"none at all", 1, 99, 98},
	} {
		if got := c.gap(0, at(w.begin), at(w.end)); got != time.Duration(w.want)*time.Millisecond {
			t.Errorf("%s: %v, want %d ms", w.name, got, w.want)
		}
	}
	if worst, p := c.worst(at(250), at(1000)); p != 1 || worst != 750*time.Millisecond {
		t.Errorf("the worst is %v in partition %d, want the one without any", worst, p)
	}
	c.ack(1)
	if got := c.partitions[1].at; len(got) != 1 || got[0] <= 0 {
		t.Errorf("acknowledged at %v", got)
	}
}

func TestOutcomesOfWrites(t *testing.T) {
	for _, c := range []struct {
		err  error
		want check.Outcome
	}{
		{nil, check.Done},
		{fmt.Errorf("put: %w", client.ErrOutcomeUnknown), check.Unknown},
		{client.ErrInternal, check.Unknown},
		{client.ErrUnavailable, check.NotDone},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%v is outcome %d, want %d", c.err, got, c.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // part of the error; "" for none
	}{
		{"", ""},
		{"--scenario stale --must-fail --quick", ""},
		{"--scenario nothing", "unknown scenario"},
		{"--scenario kill --must-fail", "must fail"},
		{"extra", "unexpected"},
	} {
		s, err := parse(strings.Fields(c.args), io.Discard)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
		if err == nil && s.seed == 0 {
			t.Errorf("%q has no seed", c.args)
		}
	}
	full, err := parse([]string{"--scenario", "kill"}, io.Discard)
	if err != nil || full.cycles != 200 || full.partitions != 16 {
		t.Errorf("a full run of kill: %+v, %v", full, err)
	}
	few, err := parse([]string{"--scenario", "kill", "--cycles", "3", "--seed", "5"}, io.Discard)
	if err != nil || few.cycles != 3 || few.seed != 5 {
		t.Errorf("three kills: %+v, %v", few, err)
	}
}

func TestHotKeysGiveWay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := newHotKeys("k", 2, 3, 1)
	a, b := h.take(random), h.take(random)
	if a == nil || b == nil || a == b || h.take(random) != nil {
		t.Fatalf("took %v and %v of two keys that take one operation at a time", a, b)
	}
	h.giveBack(a, false)
	if again := h.take(random); again != a {
		t.Errorf("took %v instead of the key that is free", again)
	}
	h.giveBack(a, true) // anything unknown ends a key
	if next := h.take(random); next == a || next == b || next.slot != a.slot || next.name == a.name {
		t.Errorf("took %v after %v became unknown", next, a)
	}
	for range 2 {
		h.giveBack(b, false)
		if next := h.take(random); next != b {
			t.Fatalf("took %v instead of %v", next, b)
		}
	}
	h.giveBack(b, false)
	if next := h.take(random); next == b || next.name == b.name {
		t.Errorf("took %v after its last operation", next)
	}
}

func TestStrategiesAreNamed(t *testing.T) {
	got, err := strategiesOf("auto,majority")
	if err != nil || len(got) != 2 || got[0].String() != "STRATEGY_AUTO" || got[1].String() != "STRATEGY_MAJORITY" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "auto,", "unspecified", "x"} {
		if got, err := strategiesOf(bad); err == nil {
			t.Errorf("%q means %v", bad, got)
		}
	}
}

func TestFaultsCutTheLinksTheyName(t *testing.T) {
	s := &settings{configs: examples, scenario: scenarioNamed(t, "linearizable"), partitions: 8}
	d, err := newDeployment(context.Background(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = d.run(context.Background(), func(ctx context.Context) error {
		for _, f := range faultsInside() {
			if f.name == "kill -9" || f.name == "stop" {
				continue
			}
			m := d.members[0]
			if err := f.do(d, m); err != nil {
				return err
			}
			for _, l := range d.links {
				touches := l.from == m.name || l.to == m.name
				if f.name == "cut one pair" {
					touches = touches && (l.from == "eu-2" || l.to == "eu-2")
				}
				if l.IsCut() != touches {
					t.Errorf("%s of %s: link %s to %s is cut: %v", f.name, m.name, l.from, l.to, l.IsCut())
				}
			}
			if err := f.undo(ctx, d, m); err != nil {
				return err
			}
			if slices.ContainsFunc(d.links, func(l link) bool { return l.IsCut() }) {
				t.Errorf("%s is not undone", f.name)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
