package api

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/topology"
)

type fakeReplication func(topology.PartitionID) []Flow

func (f fakeReplication) Flows(p topology.PartitionID) []Flow { return f(p) }

func (f fakeReplication) Refused() []Refused {
	return []Refused{
		{Source: 2, Partition: 3, Reason: "forged", Count: 7},
		{AllPartitions: true, Reason: "other-cluster", Count: 1},
	}
}

// Audit tells how much it was asked for, as ranges.
func (f fakeReplication) Audit(p topology.PartitionID, with topology.RegionID, start bool) (Audit, error) {
	switch {
	case p == 3:
		return Audit{}, ErrNoAudits
	case start:
		return Audit{Number: 70 + uint64(p)}, nil
	}
	a := Audit{Number: 70, State: AuditDiffers, Ranges: uint64(with), Differing: 1, More: true, Why: "why", Attempts: 2}
	a.Vector.Set(topology.Actor(2, 0), 5)
	a.Values = []replica.Difference{{Name: replica.Name{Namespace: "n", Key: "k", Type: crdt.TypeAWSet}, OnlyHere: 1, OnlyThere: 2, Changed: 3}}
	return a, nil
}

// TestAuditIsAskedOfLeaders, whichever node is asked, and what it found is shown.
func TestAuditIsAskedOfLeaders(t *testing.T) {
	r := setup(t, 3, 4, 1, func(c *Config) {
		c.Replication = fakeReplication(func(topology.PartitionID) []Flow { return nil })
	})
	res, err := r.regions("eu-1").Audit(testContext(t), &atollv1.AuditRequest{Region: "us", Start: true})
	if err != nil || len(res.GetPartitions()) != 4 {
		t.Fatalf("%v, %v", res, err)
	}
	for i, p := range res.GetPartitions() {
		if bad := i == 3; p.GetPartition() != uint32(i) || (p.GetError() != nil) != bad || !bad && p.GetNumber() != 70+uint64(i) {
			t.Errorf("partition %d: %v", i, p)
		}
	}
	res, err = r.regions("eu-1").Audit(testContext(t), &atollv1.AuditRequest{Region: "us", Partitions: []uint32{2}})
	if err != nil || len(res.GetPartitions()) != 1 {
		t.Fatalf("%v, %v", res, err)
	}
	want := &atollv1.PartitionAudit{
		Partition: 2, Number: 70, State: atollv1.AuditState_AUDIT_STATE_DIFFERENT, Vector: []*atollv1.VectorEntry{{Region: "us", Seq: 5}},
		Ranges: 2, DifferingRanges: 1, More: true, Why: "why", Attempts: 2,
		Values: []*atollv1.DifferingValue{{
			Namespace: "n", Key: "k", Type: atollv1.Type_TYPE_AW_SET, OnlyHere: 1, OnlyThere: 2, Changed: 3,
		}},
	}
	if p := res.GetPartitions()[0]; !proto.Equal(p, want) {
		t.Errorf("%v, want %v", p, want)
	}
	for _, bad := range []*atollv1.AuditRequest{{}, {Region: "eu"}, {Region: "xx"}, {Region: "us", Partitions: []uint32{4}}} {
		if _, err := r.regions("eu-1").Audit(testContext(t), bad); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestStatusGathersFromLeaders(t *testing.T) {
	r := setup(t, 3, 4, 1, func(c *Config) {
		c.Replication = fakeReplication(func(topology.PartitionID) []Flow {
			return []Flow{
				{Source: 1, Destination: 2, Applied: 3, Head: 7, Heard: testClock().Add(-time.Second), Behind: 2 * time.Second,
					First: 2, OutboxBytes: 60, LagBytes: 50, BytesKnown: true, Diverged: "differ", Audit: Audit{State: AuditRunning, Items: 6}},
				{Source: 2, Destination: 1, Applied: 9, Unknown: true, Stuck: "lost"},
			}
		})
	})
	for i := range 20 {
		mustPut(t, r.kv("eu-0"), string(rune('a'+i)), "v")
	}
	r.groups[1].evicted, r.groups[2].evicted = &region.Eviction{Region: 2, Seq: 3}, &region.Eviction{Region: 2, Seq: 3, ServedFrom: 9}
	res, err := r.regions("eu-1").Status(testContext(t), &atollv1.StatusRequest{})
	noError(t, err)
	equal(t, "region", res.GetRegion(), "eu")
	equal(t, "node", res.GetNode(), "eu-1")
	equal(t, "cluster", res.GetCluster(), "test")
	equal(t, "partitions", len(res.GetPartitions()), 4)
	equal(t, "flows", len(res.GetFlows()), 8)
	events := uint64(0)
	for i, p := range res.GetPartitions() {
		equal(t, "partition", p.GetPartition(), uint32(i))
		equal(t, "leader", p.GetLeader(), string(r.groups[i].leader))
		equal(t, "error", p.GetError(), nil)
		equal(t, "unshipped", p.GetUnshipped(), p.GetOutboxEntries())
		for _, v := range p.GetVector() {
			equal(t, "actor", v.GetRegion(), "eu")
			events += v.GetSeq()
		}
	}
	equal(t, "events in the vectors", events, 20)
	known, lost := res.GetFlows()[0], res.GetFlows()[1]
	equal(t, "flow", known.GetSource()+" to "+known.GetDestination(), "eu to us")
	equal(t, "operations behind", known.GetLag().GetOperations(), 4)
	equal(t, "bytes behind", known.GetLag().GetBytes(), 100)
	for i, want := range []string{"", "which had event 3", "events from 9 on are kept for us", ""} {
		if stuck := res.GetFlows()[2*i].GetStuck(); !strings.Contains(stuck, want) || strings.HasPrefix(stuck, "NEEDS_RESYNC") != (want != "") {
			t.Errorf("partition %d: stuck %q, want %q", i, stuck, want)
		}
	}
	equal(t, "unknown bytes", lost.GetLag().Bytes, nil)
	equal(t, "time behind", known.GetLag().GetTime().AsDuration(), 2*time.Second)
	equal(t, "last heard", known.GetLastHeard().AsDuration(), time.Second)
	equal(t, "outbox", fmt.Sprint(known.GetOutboxFirst(), known.GetOutboxBytes()), "2 60")
	garbage := res.GetPartitions()[1].GetGarbage()
	equal(t, "garbage", fmt.Sprint(garbage.GetHeldBy(), garbage.GetSince().AsDuration(), garbage.GetCount(), garbage.GetBytes(), garbage.GetMore()), "us1m0s 3 90 false")
	equal(t, "diverged", known.GetDiverged()+"|"+lost.GetDiverged(), "differ|")
	if known.GetAudit().GetState() != atollv1.AuditState_AUDIT_STATE_RUNNING || known.GetAudit().GetItems() != 6 || lost.Audit != nil {
		t.Errorf("%v and %v", known.GetAudit(), lost.GetAudit())
	}
	equal(t, "unshipped", known.GetUnshipped(), res.GetPartitions()[0].GetOutboxEntries()) // nobody has acknowledged
	equal(t, "unshipped of another region", lost.Unshipped, nil)
	equal(t, "refused", fmt.Sprint(res.GetRefused()), fmt.Sprint([]*atollv1.Refused{
		{Source: "us", Partition: proto.Uint32(3), Reason: "forged", Count: 7}, {Reason: "other-cluster", Count: 1},
	}))
	equal(t, "unknown", lost.GetLag().GetUnknown(), true)
	equal(t, "unknown operations", lost.GetLag().Operations, nil)
	equal(t, "unknown time", lost.GetLag().GetTime(), nil)
	equal(t, "stuck", known.GetStuck()+"|"+lost.GetStuck(), "|lost")
	equal(t, "never heard", lost.GetLastHeard(), nil)
	if us := res.GetRegions()[1]; us.GetName() != "us" || us.GetState() != atollv1.RegionState_REGION_STATE_ACTIVE || len(us.GetNodes()) != 3 {
		t.Errorf("region: %v", us)
	}
}

// TestWatchStatusGoesOn: the state is told again and again, and the watch ends when the node does.
func TestWatchStatusGoesOn(t *testing.T) {
	r := setup(t, 3, 4, 1)
	w, err := r.regions("eu-1").WatchStatus(testContext(t), &atollv1.WatchStatusRequest{})
	noError(t, err)
	seen := 0
	for ; seen < 2; seen++ {
		msg, err := w.Receive()
		noError(t, err)
		equal(t, "partitions", len(msg.GetStatus().GetPartitions()), 4)
		mustPut(t, r.kv("eu-0"), "k", "v")
	}
	r.servers["eu-1"].Drain()
	for err == nil {
		_, err = w.Receive()
	}
	if !errors.Is(err, io.EOF) && connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("after the node was drained: %v", err)
	}
}

func TestStatusWithoutLeaders(t *testing.T) {
	r := setup(t, 3, 4, 2, func(c *Config) {
		c.Replication = fakeReplication(func(topology.PartitionID) []Flow { return nil })
	})
	for _, g := range r.groups {
		g.lead("")
	}
	res, err := r.regions("eu-0").Status(testContext(t), &atollv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(res.GetFlows()); n != 8 {
		t.Errorf("%d flows, which must be there and unknown", n)
	}
	for _, f := range res.GetFlows() {
		if !f.GetLag().GetUnknown() {
			t.Errorf("without a leader: %v", f)
		}
	}
	for i, p := range res.GetPartitions() {
		if p.GetLeader() != "" || p.GetError() != nil {
			t.Errorf("partition %d: %v", i, p)
		}
	}
	if us := res.GetRegions()[1]; us.GetState() != atollv1.RegionState_REGION_STATE_UNREACHABLE {
		t.Errorf("region: %v", us)
	}
	r.web["eu-1"].Close()
	r.web["eu-2"].Close()
	res, err = r.regions("eu-0").Status(testContext(t), &atollv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range res.GetPartitions() {
		_, hostErr := r.servers["eu-0"].hosted(topology.PartitionID(i))
		if (hostErr == nil) == (p.GetError() != nil) {
			t.Errorf("partition %d: %v", i, p)
		}
	}
}

func TestDigest(t *testing.T) {
	r := setup(t, 3, 4, 1)
	keys := fill(t, r.kv("eu-0"), 50, "v")
	for _, id := range []topology.NodeID{"eu-0", "eu-2"} {
		res, err := r.regions(id).Digest(testContext(t), &atollv1.DigestRequest{})
		noError(t, err)
		equal(t, "partitions", len(res.GetPartitions()), 4)
		items := uint64(0)
		for i, p := range res.GetPartitions() {
			equal(t, "partition", p.GetPartition(), uint32(i))
			equal(t, "digest bytes", len(p.GetDigest()), 16)
			equal(t, "vector entries", len(p.GetVector()), 1)
			equal(t, "error", p.GetError(), nil)
			items += p.GetItems()
		}
		equal(t, "items", items, uint64(len(keys)))
	}
	res, err := r.regions("eu-0").Digest(testContext(t), &atollv1.DigestRequest{Partitions: []uint32{2}})
	if err != nil || len(res.GetPartitions()) != 1 || res.GetPartitions()[0].GetPartition() != 2 {
		t.Errorf("got %v, %v", res, err)
	}
	_, err = r.regions("eu-0").Digest(testContext(t), &atollv1.DigestRequest{Partitions: []uint32{4}})
	wantReason(t, err, reasonInvalidArgument)
	r.groups[1].onRead = func() error { return &store.CorruptError{} }
	res, err = r.regions("eu-0").Digest(testContext(t), &atollv1.DigestRequest{Partitions: []uint32{0, 1}})
	if err != nil || res.GetPartitions()[0].GetError() != nil || res.GetPartitions()[1].GetError().GetReason() != "CORRUPT" {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestExplain(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 1, 0)
	kv, regions := r.kv("eu-1"), r.regions("eu-1")
	mustPut(t, kv, "r", "x")
	mustUpdate(t, kv, "c", counterAdd(3))
	mustUpdate(t, kv, "s", setAdd("e"))
	// Another region made a counter under the same key at the same time.
	g := r.groups[0]
	us, err := replica.Open(replica.NewMemory(), topology.Actor(2, 0))
	noError(t, err)
	_, deltas, err := us.Execute(testNow(), []replica.Op{{Kind: replica.OpCounterAdd, Namespace: "default", Key: "r", Type: crdt.TypeCounter, Delta: 1}})
	noError(t, err)
	eu, err := replica.Open(g.memory, g.actor)
	noError(t, err)
	_, err = eu.Merge(us.Self(), deltas)
	noError(t, err)
	noError(t, eu.Flush())
	explain := func(key string) *atollv1.ExplainResponse {
		res, err := regions.Explain(ctx, &atollv1.ExplainRequest{Key: key})
		if err != nil || res.GetRegion() != "eu" || len(res.GetVector()) != 2 {
			t.Fatalf("%s: %v, %v", key, res, err)
		}
		return res
	}
	both := explain("r").GetObjects()
	equal(t, "types under one key", len(both), 2)
	equal(t, "winner", both[0].GetRegister().GetWinner().GetRegion(), "eu")
	equal(t, "value", string(both[0].GetRegister().GetValue()), "x")
	equal(t, "counter's region", both[1].GetCounter().GetParts()[0].GetLast().GetRegion(), "us")
	counter := explain("c").GetObjects()[0].GetCounter()
	equal(t, "counter", counter.GetValue(), 3)
	equal(t, "part", counter.GetParts()[0].GetEffective(), 3)
	equal(t, "part's event", counter.GetParts()[0].GetLast().GetSeq(), 2)
	set := explain("s").GetObjects()[0].GetSet()
	equal(t, "size", set.GetSize(), 1)
	equal(t, "element", string(set.GetElements()[0].GetElement()), "e")
	equal(t, "element's event", set.GetElements()[0].GetDots()[0].GetSeq(), 3)
	equal(t, "objects under an absent key", len(explain("absent").GetObjects()), 0)
}
