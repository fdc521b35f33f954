package api

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

type fakeReplication func(topology.PartitionID) []Flow

func (f fakeReplication) Flows(p topology.PartitionID) []Flow { return f(p) }

func TestStatusGathersFromLeaders(t *testing.T) {
	r := setup(t, 3, 4, 1, func(c *Config) {
		c.Replication = fakeReplication(func(topology.PartitionID) []Flow {
			return []Flow{
				{Source: 1, Destination: 2, Applied: 3, Head: 7, Heard: testClock().Add(-time.Second), Behind: 2 * time.Second},
				{Source: 2, Destination: 1, Applied: 9, Unknown: true},
			}
		})
	})
	for i := range 20 {
		mustPut(t, r.kv("eu-0"), string(rune('a'+i)), "v")
	}
	res, err := r.regions("eu-1").Status(testContext(t), &atollv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if res.GetRegion() != "eu" || res.GetNode() != "eu-1" || res.GetCluster() != "test" || len(res.GetPartitions()) != 4 || len(res.GetFlows()) != 8 {
		t.Fatalf("got %v", res)
	}
	events := uint64(0)
	for i, p := range res.GetPartitions() {
		if p.GetPartition() != uint32(i) || p.GetLeader() != string(r.groups[i].leader) || p.GetError() != nil {
			t.Errorf("partition %d: %v", i, p)
		}
		for _, v := range p.GetVector() {
			if v.GetRegion() != "eu" || v.GetHlc() == 0 {
				t.Errorf("partition %d: vector %v", i, v)
			}
			events += v.GetSeq()
		}
		if p.GetUnshipped() != p.GetOutboxEntries() {
			t.Errorf("partition %d: %v", i, p)
		}
	}
	if events != 20 {
		t.Errorf("%d events in the vectors, want 20", events)
	}
	known, lost := res.GetFlows()[0], res.GetFlows()[1]
	if known.GetSource() != "eu" || known.GetDestination() != "us" || known.GetLag().GetOperations() != 4 ||
		known.GetLag().GetTime().AsDuration() != 2*time.Second || known.GetLastHeard().AsDuration() != time.Second {
		t.Errorf("flow: %v", known)
	}
	if !lost.GetLag().GetUnknown() || lost.GetLag().Operations != nil || lost.GetLag().GetTime() != nil || lost.GetLastHeard() != nil {
		t.Errorf("unknown flow: %v", lost)
	}
	if us := res.GetRegions()[1]; us.GetName() != "us" || us.GetState() != atollv1.RegionState_REGION_STATE_ACTIVE || len(us.GetNodes()) != 3 {
		t.Errorf("region: %v", us)
	}
}

func TestStatusWithoutLeaders(t *testing.T) {
	r := setup(t, 3, 4, 2)
	for _, g := range r.groups {
		g.lead("")
	}
	res, err := r.regions("eu-0").Status(testContext(t), &atollv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
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
		if err != nil || len(res.GetPartitions()) != 4 {
			t.Fatalf("got %v, %v", res, err)
		}
		items := uint64(0)
		for i, p := range res.GetPartitions() {
			if p.GetPartition() != uint32(i) || len(p.GetDigest()) != 16 || p.GetError() != nil || len(p.GetVector()) != 1 {
				t.Errorf("%s: %v", id, p)
			}
			items += p.GetItems()
		}
		if items != uint64(len(keys)) {
			t.Errorf("%s: %d items", id, items)
		}
	}
	res, err := r.regions("eu-0").Digest(testContext(t), &atollv1.DigestRequest{Partitions: []uint32{2}})
	if err != nil || len(res.GetPartitions()) != 1 || res.GetPartitions()[0].GetPartition() != 2 {
		t.Errorf("got %v, %v", res, err)
	}
	_, err = r.regions("eu-0").Digest(testContext(t), &atollv1.DigestRequest{Partitions: []uint32{4}})
	wantReason(t, err, reasonInvalidArgument)
	r.groups[1].onRead = func() error { return region.ErrShuttingDown }
	res, err = r.regions("eu-0").Digest(testContext(t), &atollv1.DigestRequest{Partitions: []uint32{0, 1}})
	if err != nil || res.GetPartitions()[0].GetError() != nil || res.GetPartitions()[1].GetError().GetReason() != "SHUTTING_DOWN" {
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
	if err != nil {
		t.Fatal(err)
	}
	_, deltas, err := us.Execute(testNow(), []replica.Op{{Kind: replica.OpCounterAdd, Namespace: "default", Key: "r", Type: crdt.TypeCounter, Delta: 1}})
	if err != nil {
		t.Fatal(err)
	}
	eu, err := replica.Open(g.memory, g.actor)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eu.Merge(us.Self(), deltas); err != nil {
		t.Fatal(err)
	}
	if err := eu.Flush(); err != nil {
		t.Fatal(err)
	}
	explain := func(key string) *atollv1.ExplainResponse {
		res, err := regions.Explain(ctx, &atollv1.ExplainRequest{Key: key})
		if err != nil || res.GetRegion() != "eu" || len(res.GetVector()) != 2 {
			t.Fatalf("%s: %v, %v", key, res, err)
		}
		return res
	}
	both := explain("r").GetObjects()
	if len(both) != 2 || both[0].GetRegister().GetWinner().GetRegion() != "eu" || both[0].GetRegister().GetWinner().GetHlc() == 0 ||
		string(both[0].GetRegister().GetValue()) != "x" || both[1].GetCounter().GetParts()[0].GetLast().GetRegion() != "us" {
		t.Errorf("two types: %v", both)
	}
	if c := explain("c").GetObjects()[0].GetCounter(); c.GetValue() != 3 || c.GetParts()[0].GetEffective() != 3 || c.GetParts()[0].GetLast().GetSeq() != 2 {
		t.Errorf("counter: %v", c)
	}
	if s := explain("s").GetObjects()[0].GetSet(); s.GetSize() != 1 || string(s.GetElements()[0].GetElement()) != "e" || s.GetElements()[0].GetDots()[0].GetSeq() != 3 {
		t.Errorf("set: %v", s)
	}
	if o := explain("absent").GetObjects(); len(o) > 0 {
		t.Errorf("absent key: %v", o)
	}
}
