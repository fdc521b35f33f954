package api

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/internal/testkit"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

const (
	linearizable = atollv1.Consistency_CONSISTENCY_LINEARIZABLE
	bounded      = atollv1.Consistency_CONSISTENCY_BOUNDED
	eventual     = atollv1.Consistency_CONSISTENCY_EVENTUAL

	byLeader   = atollv1.Strategy_STRATEGY_LEADER
	byFollower = atollv1.Strategy_STRATEGY_FOLLOWER
	byMajority = atollv1.Strategy_STRATEGY_MAJORITY
)

// getWith reads a key at a node.
func (r *testRegion) getWith(ctx context.Context, id topology.NodeID, key string, o *atollv1.ReadOptions) (*atollv1.GetResponse, error) {
	return r.kv(id).Get(ctx, &atollv1.GetRequest{Key: key, Options: o})
}

func TestStrategiesChooseWhoServes(t *testing.T) {
	r := setup(t, 3, 1, 0) // eu-0 leads
	mustPut(t, r.kv("eu-0"), "k", "x")
	for _, tc := range []struct {
		asked, served atollv1.Strategy
		node          string
	}{
		{atollv1.Strategy_STRATEGY_AUTO, byLeader, "eu-0"},
		{byLeader, byLeader, "eu-0"},
		{byFollower, byFollower, "eu-1"},
		{byMajority, byMajority, "eu-1"},
	} {
		got, err := r.getWith(testContext(t), "eu-1", "k", &atollv1.ReadOptions{Strategy: tc.asked})
		noError(t, err)
		info := got.GetInfo()
		equal(t, "value", string(got.GetValue()), "x")
		equal(t, "node", info.GetNode(), tc.node)
		equal(t, "served", info.GetServed(), linearizable)
		equal(t, "strategy", info.GetStrategy(), tc.served)
		equal(t, "staleness", info.GetStaleness().AsDuration(), 0)
		equal(t, "staleness is known", info.GetStaleness() != nil, true)
		equal(t, "stale", info.GetStale(), false)
	}
	got, err := r.getWith(testContext(t), "eu-1", "k", &atollv1.ReadOptions{Consistency: eventual})
	noError(t, err)
	equal(t, "served", got.GetInfo().GetServed(), eventual)
	equal(t, "staleness", got.GetInfo().GetStaleness(), nil)
}

func TestReadsGoOnWithoutALeader(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 4, 1, 3) // one node has no replica
	mustPut(t, r.kv("eu-0"), "k", "x")
	r.groups[0].lead("")
	results := make(chan *atollv1.GetResponse, len(r.servers))
	for id := range r.servers {
		go func() {
			got, err := r.getWith(ctx, id, "k", nil)
			if err != nil {
				t.Errorf("%s: %v", id, err)
			}
			results <- got
		}()
	}
	for range r.servers {
		got := <-results
		equal(t, "value", string(got.GetValue()), "x")
		equal(t, "served", got.GetInfo().GetServed(), linearizable)
		equal(t, "strategy", got.GetInfo().GetStrategy(), byMajority)
	}
	short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	_, err := r.getWith(short, "eu-0", "k", &atollv1.ReadOptions{Strategy: byLeader})
	equal(t, "code without a leader", connect.CodeOf(err), connect.CodeDeadlineExceeded)
}

func TestReadWithoutLeaderAndMajorityIsNoQuorum(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].lead("")
	r.groups[0].noQuorum = true
	_, err := r.getWith(testContext(t), "eu-0", "k", nil)
	wantReason(t, err, reasonNoQuorum)
}

func TestUnreachableLeaderIsDoneWithout(t *testing.T) {
	r := setup(t, 3, 1, 0)
	mustPut(t, r.kv("eu-0"), "k", "x")
	r.web["eu-0"].Close()
	got, err := r.getWith(testContext(t), "eu-1", "k", nil)
	noError(t, err)
	equal(t, "value", string(got.GetValue()), "x")
	equal(t, "node", got.GetInfo().GetNode(), "eu-1")
	equal(t, "strategy", got.GetInfo().GetStrategy(), byMajority)
}

func TestCutOffLeaderIsDoneWithout(t *testing.T) {
	r := setup(t, 3, 1, 0)
	mustPut(t, r.kv("eu-0"), "k", "x")
	r.groups[0].cutOff = true
	got, err := r.getWith(testContext(t), "eu-1", "k", nil)
	noError(t, err)
	equal(t, "node", got.GetInfo().GetNode(), "eu-1")
	equal(t, "strategy", got.GetInfo().GetStrategy(), byMajority)
	_, err = r.getWith(testContext(t), "eu-0", "k", nil)
	wantReason(t, err, reasonNoQuorum) // it would find no majority either
}

func TestBoundedReads(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 3, 1, 0)
	mustPut(t, r.kv("eu-0"), "k", "x")
	ask := func(on atollv1.OnStale) (*atollv1.GetResponse, error) {
		return r.getWith(ctx, "eu-1", "k", &atollv1.ReadOptions{Consistency: bounded, MaxStaleness: durationpb.New(time.Second), OnStale: on})
	}
	r.groups[0].aged("eu-1", 900*time.Millisecond)
	for on := range atollv1.OnStale_name {
		got, err := ask(atollv1.OnStale(on))
		noError(t, err)
		equal(t, "node", got.GetInfo().GetNode(), "eu-1")
		equal(t, "served", got.GetInfo().GetServed(), bounded)
		equal(t, "staleness", got.GetInfo().GetStaleness().AsDuration(), 900*time.Millisecond)
		equal(t, "stale", got.GetInfo().GetStale(), false)
	}
	r.groups[0].aged("eu-1", 3*time.Second)

	_, err := ask(atollv1.OnStale_ON_STALE_FAIL)
	equal(t, "lag", wantReason(t, err, reasonStale).metadata["lag_ms"], "3000")

	got, err := ask(atollv1.OnStale_ON_STALE_SERVE)
	noError(t, err)
	equal(t, "stale", got.GetInfo().GetStale(), true)
	equal(t, "served", got.GetInfo().GetServed(), eventual)
	equal(t, "node", got.GetInfo().GetNode(), "eu-1")
	equal(t, "value", string(got.GetValue()), "x")

	got, err = ask(atollv1.OnStale_ON_STALE_REDIRECT)
	noError(t, err)
	equal(t, "node", got.GetInfo().GetNode(), "eu-0")
	equal(t, "served", got.GetInfo().GetServed(), linearizable)

	waited := make(chan error, 1)
	before := r.groups[0].readsTried()
	go func() {
		got, err := ask(atollv1.OnStale_ON_STALE_WAIT)
		equal(t, "served", got.GetInfo().GetServed(), bounded)
		waited <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() error {
		if r.groups[0].readsTried() < before+2 {
			return errNotYet
		}
		return nil
	})
	r.groups[0].aged("eu-1", time.Second)
	noError(t, <-waited)
}

func TestReadOptionsSurviveTheWayToAnotherNode(t *testing.T) {
	for _, o := range []*atollv1.ReadOptions{
		nil,
		{Consistency: linearizable, Strategy: byFollower},
		{Consistency: linearizable, Strategy: byMajority, OnStale: atollv1.OnStale_ON_STALE_FAIL},
		{Consistency: bounded, MaxStaleness: durationpb.New(3 * time.Millisecond), OnStale: atollv1.OnStale_ON_STALE_SERVE},
		{Consistency: eventual},
		{Consistency: atollv1.Consistency_CONSISTENCY_SESSION, Session: []byte("s"), OnStale: atollv1.OnStale_ON_STALE_REDIRECT},
		{Consistency: linearizable, WantSession: true},
	} {
		how, f := checkReadOptions(o)
		if f != nil {
			t.Fatal(f)
		}
		again, f := checkReadOptions(how.options())
		if f != nil || again != how {
			t.Errorf("%v becomes %+v, %v, want %+v", o, again, f, how)
		}
	}
}
