package region_test

import (
	"errors"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

func peek(*replica.Replica, hlc.Time) error { return nil }

func TestBoundedReadsAskOnlyWhenTheyHaveTo(t *testing.T) {
	f := newFixture(t, testEU)
	bounded := region.ReadOptions{Level: region.Bounded, MaxStaleness: time.Second}
	proofs := func(s region.Strategy) (n int) {
		f.group.set(func() { n = f.group.proofs[s] })
		return n
	}
	if info, err := f.Read(t.Context(), region.ReadOptions{Level: region.Eventual}, peek); err != nil || info.Known {
		t.Fatalf("an eventual read knows its age before anything was proved: %+v, %v", info, err)
	}
	if _, err := f.Read(t.Context(), bounded, peek); err != nil || proofs(region.StrategyLeader) != 1 {
		t.Fatalf("%d proofs by the leader: %v", proofs(region.StrategyLeader), err)
	}
	f.clock.advance(time.Second)
	info, err := f.Read(t.Context(), bounded, peek)
	if err != nil || proofs(region.StrategyLeader) != 1 || !info.Known || info.Staleness != time.Second {
		t.Fatalf("%+v after %d proofs: %v", info, proofs(region.StrategyLeader), err)
	}
	f.clock.advance(time.Millisecond)
	if info, err := f.Read(t.Context(), bounded, peek); err != nil || proofs(region.StrategyLeader) != 2 || info.Staleness != 0 {
		t.Fatalf("%+v after %d proofs: %v", info, proofs(region.StrategyLeader), err)
	}
	if info, err := f.Read(t.Context(), region.ReadOptions{Level: region.Eventual}, peek); err != nil || !info.Known || info.Staleness != 0 {
		t.Fatalf("eventual: %+v, %v", info, err)
	}
}

func TestBoundedReadsWithoutProofFail(t *testing.T) {
	f := newFixture(t, testEU)
	f.group.set(func() { f.group.leading, f.group.leader, f.group.unproved = false, "", region.ErrNoQuorum })
	_, err := f.Read(t.Context(), region.ReadOptions{Level: region.Bounded, MaxStaleness: time.Second}, peek)
	var stale *region.StaleError
	if !errors.As(err, &stale) || stale.Known || !errors.Is(err, region.ErrNoQuorum) {
		t.Fatalf("got %v", err)
	}
	f.group.set(func() {
		if f.group.proofs[region.StrategyFollower] != 1 || f.group.proofs[region.StrategyMajority] != 1 {
			t.Errorf("asked %v", f.group.proofs)
		}
		f.group.unproved = nil
	})
	if _, err := f.Read(t.Context(), region.ReadOptions{Level: region.Bounded}, peek); err != nil {
		t.Fatal(err)
	}
}

func TestStrategiesOfLinearizableReads(t *testing.T) {
	f := newFixture(t, testEU)
	f.group.set(func() { f.group.leading, f.group.leader = false, "eu-2" })
	for _, s := range []region.Strategy{region.StrategyAuto, region.StrategyLeader} {
		_, err := f.Read(t.Context(), region.ReadOptions{Strategy: s}, peek)
		var elsewhere *region.NotLeaderError
		if !errors.As(err, &elsewhere) || elsewhere.Leader != "eu-2" {
			t.Errorf("strategy %d: %v", s, err)
		}
	}
	for _, s := range []region.Strategy{region.StrategyFollower, region.StrategyMajority} {
		info, err := f.Read(t.Context(), region.ReadOptions{Strategy: s}, peek)
		if err != nil || info.Strategy != s || info.Served != region.Linearizable || f.group.proofs[s] != 1 {
			t.Errorf("strategy %d: %+v, %v", s, info, err)
		}
	}
}
