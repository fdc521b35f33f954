package api

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

func TestAnyNodeServesAnyKey(t *testing.T) {
	r := setup(t, 4, 8, 3) // each partition has a node without a replica
	for p := range r.groups {
		r.groups[p].leader = r.servers["eu-0"].replicas(topology.PartitionID(p))[1]
	}
	ctx := testContext(t)
	for id := range r.servers {
		kv := r.kv(id)
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			put, err := kv.Put(ctx, &atollv1.PutRequest{Key: key, Value: []byte(id)})
			if err != nil {
				t.Fatalf("%s puts %s: %v", id, key, err)
			}
			if want := r.group(key).leader; put.GetInfo().GetNode() != string(want) {
				t.Errorf("%s puts %s: node %s answered, want %s", id, key, put.GetInfo().GetNode(), want)
			}
			got, err := kv.Get(ctx, &atollv1.GetRequest{Key: key})
			if err != nil || string(got.GetValue()) != string(id) {
				t.Fatalf("%s gets %s: %v, %v", id, key, got, err)
			}
		}
	}
}

func TestEventualReadsAreServedByAnyReplica(t *testing.T) {
	r := setup(t, 4, 8, 3)
	mustPut(t, r.kv("eu-0"), "k", "x")
	r.group("k").lead("") // no leader at all
	for id := range r.servers {
		got, err := r.kv(id).Get(testContext(t), &atollv1.GetRequest{
			Key: "k", Options: &atollv1.ReadOptions{Consistency: atollv1.Consistency_CONSISTENCY_EVENTUAL},
		})
		if err != nil || string(got.GetValue()) != "x" || got.GetInfo().GetServed() != atollv1.Consistency_CONSISTENCY_EVENTUAL {
			t.Errorf("%s: %v, %v", id, got, err)
		}
	}
}

func TestRequestWaitsForALeader(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].lead("")
	done := make(chan error, 1)
	kv, ctx := r.kv("eu-1"), testContext(t)
	go func() {
		_, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k"})
		done <- err
	}()
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case err := <-done:
		t.Fatalf("answered without a leader: %v", err)
	case <-timer.C:
	}
	r.groups[0].lead("eu-2")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestNoLeaderIsNotDoneAndDeadlineBeforeTheProposalIsDeadline(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].lead("")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.kv("eu-0").Put(ctx, &atollv1.PutRequest{Key: "k"})
	if c := connect.CodeOf(err); c != connect.CodeDeadlineExceeded {
		t.Errorf("code is %v: %v", c, err)
	}
	if r.groups[0].writes > 0 {
		t.Error("a write was done")
	}
}

func TestForwardedRequestIsNotForwardedAgain(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].leader = "eu-2"
	ctx, info := connect.NewClientContext(testContext(t))
	info.RequestHeader().Set(hopsHeader, "1")
	_, err := r.kv("eu-0").Put(ctx, &atollv1.PutRequest{Key: "k"})
	f := wantReason(t, err, reasonNotOwner)
	if n, _ := r.cluster.Regions[0].Node("eu-2"); f.metadata["node"] != "eu-2" || f.metadata["address"] != n.API {
		t.Errorf("metadata is %v", f.metadata)
	}
}

func TestRedirectIsFollowed(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].leader = "eu-2"
	r.groups[0].lies["eu-0"] = "eu-1" // which knows better
	if got := mustPut(t, r.kv("eu-0"), "k", "x"); got.GetInfo().GetNode() != "eu-2" {
		t.Errorf("answered by %s", got.GetInfo().GetNode())
	}
}

func TestDeadLeaderIsReplaced(t *testing.T) {
	r := setup(t, 3, 1, 0)
	r.groups[0].leader = "eu-2"
	r.web["eu-2"].Close()
	done := make(chan error, 1)
	kv, ctx := r.kv("eu-0"), testContext(t)
	go func() {
		_, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k"})
		done <- err
	}()
	r.groups[0].lead("eu-1")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// breaking is a transport that breaks the connection after the request was served.
type breaking struct {
	http.RoundTripper
	broken atomic.Int32
	left   atomic.Int32
}

func (b *breaking) RoundTrip(q *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(q)
	if err == nil && b.left.Add(-1) >= 0 {
		b.broken.Add(1)
		_ = res.Body.Close()
		return nil, http.ErrServerClosed
	}
	return res, err
}

func withBreaking(t *testing.T) (*breaking, func(*Config)) {
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	b := &breaking{RoundTripper: base}
	return b, func(c *Config) { c.Transport = b }
}

func TestUnansweredForwardedWriteIsUnknown(t *testing.T) {
	b, change := withBreaking(t)
	r := setup(t, 2, 1, 0, change)
	b.left.Store(1)
	_, err := r.kv("eu-1").Put(testContext(t), &atollv1.PutRequest{Key: "k"})
	wantReason(t, err, reasonOutcomeUnknown)
	if r.groups[0].writes != 1 {
		t.Errorf("%d writes, want 1: without an op_id it must not be repeated", r.groups[0].writes)
	}
}

func TestUnansweredForwardedWriteIsRepeatedWithItsOpID(t *testing.T) {
	b, change := withBreaking(t)
	r := setup(t, 2, 1, 0, change)
	b.left.Store(1)
	res, err := r.kv("eu-1").Update(testContext(t), &atollv1.UpdateRequest{
		Key: "k", Op: counterAdd(1), Options: &atollv1.WriteOptions{OpId: "id"},
	})
	if err != nil || res.GetResult().GetCounter().GetValue() != 1 {
		t.Fatalf("got %v, %v", res, err)
	}
	if r.groups[0].writes != 2 || b.broken.Load() != 1 {
		t.Errorf("%d writes", r.groups[0].writes)
	}
}

func TestUnknownStaysUnknownWhenTheLeaderIsLost(t *testing.T) {
	b, change := withBreaking(t)
	r := setup(t, 2, 1, 0, change)
	b.left.Store(1)
	g := r.groups[0]
	g.afterDo = func() error {
		g.leader = "" // the lock is held
		return region.ErrOutcomeUnknown
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	s := r.servers["eu-1"]
	_, err := (*kvService)(s).Put(ctx, &atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{OpId: "id"}})
	if f := failureOf(err); f.reason != reasonOutcomeUnknown || f.metadata["op_id"] != "id" {
		t.Errorf("got %v, %v", f, f.metadata)
	}
}

func TestUnansweredForwardedReadIsRepeated(t *testing.T) {
	b, change := withBreaking(t)
	r := setup(t, 2, 1, 0, change)
	mustPut(t, r.kv("eu-0"), "k", "x")
	b.left.Store(2)
	got, err := r.kv("eu-1").Get(testContext(t), &atollv1.GetRequest{Key: "k"})
	if err != nil || string(got.GetValue()) != "x" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestPeersVerdictKeepsReasonAndMetadata(t *testing.T) {
	r := setup(t, 2, 1, 0)
	put := mustPut(t, r.kv("eu-1"), "k", "x")
	_, err := r.kv("eu-1").Put(testContext(t), &atollv1.PutRequest{
		Key: "k", Condition: &atollv1.Condition{Test: &atollv1.Condition_IfAbsent{IfAbsent: true}},
	})
	f := wantReason(t, err, reasonAlreadyExists)
	if f.metadata["version"] != put.GetVersion() || f.code != connect.CodeAlreadyExists || f.message == "" {
		t.Errorf("got %+v", f)
	}
}

func TestDeadlineAfterTheProposalIsUnknown(t *testing.T) {
	r := setup(t, 1, 1, 0)
	r.groups[0].onWrite = func(ctx context.Context) error {
		<-ctx.Done()
		return region.ErrOutcomeUnknown
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := (*kvService)(r.servers["eu-0"]).Put(ctx, &atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{OpId: "id"}})
	if f := failureOf(err); f.reason != reasonOutcomeUnknown || f.metadata["op_id"] != "id" {
		t.Errorf("got %v, %v", f, f.metadata)
	}
}

func TestShuttingDownNodeSaysSo(t *testing.T) {
	r := setup(t, 1, 1, 0)
	r.groups[0].onWrite = func(context.Context) error { return region.ErrShuttingDown }
	_, err := r.kv("eu-0").Put(testContext(t), &atollv1.PutRequest{Key: "k"})
	if f := wantReason(t, err, reasonShuttingDown); f.retry == 0 {
		t.Error("no hint when to retry")
	}
}

func TestLeaderOfAForeignPartitionIsRemembered(t *testing.T) {
	r := setup(t, 2, 8, 1)
	var foreign topology.PartitionID
	for p := range r.groups {
		id := topology.PartitionID(p)
		r.groups[p].leader = r.servers["eu-0"].replicas(id)[0]
		if r.groups[p].leader == "eu-1" {
			foreign = id
		}
	}
	s := r.servers["eu-0"]
	key := ""
	for i := 0; key == ""; i++ {
		if k := string(rune('a' + i)); r.cluster.PartitionOf(defaultNamespace, k) == foreign {
			key = k
		}
	}
	mustPut(t, r.kv("eu-0"), key, "x")
	if leader := s.leaders[foreign].Load(); leader == nil || leader.id != "eu-1" {
		t.Errorf("remembers %v", leader)
	}
}
