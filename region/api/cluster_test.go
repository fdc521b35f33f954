package api

import (
	"testing"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

func TestTopology(t *testing.T) {
	r := setup(t, 4, 8, 3)
	r.groups[2].lead("")
	c := atollv1connect.NewClusterClient(r.conn("eu-1"))
	res, err := c.Topology(testContext(t), &atollv1.TopologyRequest{})
	noError(t, err)
	top := res.GetTopology()
	equal(t, "cluster", top.GetCluster(), "test")
	equal(t, "region", top.GetRegion(), "eu")
	equal(t, "nodes", len(top.GetNodes()), 4)
	equal(t, "address", top.GetNodes()[3].GetAddress(), r.cluster.Regions[0].Nodes[3].API)
	equal(t, "partitions", len(top.GetPartitions()), 8)
	for i, p := range top.GetPartitions() {
		equal(t, "partition", p.GetPartition(), uint32(i))
		equal(t, "replicas", len(p.GetReplicas()), 3)
		equal(t, "first replica", p.GetReplicas()[0], string(r.servers["eu-1"].replicas(topology.PartitionID(i))[0]))
		_, err := r.servers["eu-1"].hosted(topology.PartitionID(i))
		want := string(r.groups[i].leader)
		if err != nil {
			want = "" // nobody has told
		}
		equal(t, "leader", p.GetLeader(), want)
		equal(t, "active", p.GetState() == atollv1.PartitionState_PARTITION_STATE_ACTIVE, want != "")
		equal(t, "term", p.GetTerm(), map[bool]uint64{true: 7}[err == nil])
	}
	r.groups[2].lead(topology.NodeID(top.GetPartitions()[2].GetReplicas()[0]))
	fill(t, r.kv("eu-1"), 50, "v") // this tells who leads the others
	res, err = c.Topology(testContext(t), &atollv1.TopologyRequest{})
	noError(t, err)
	for i, p := range res.GetTopology().GetPartitions() {
		equal(t, "leader", p.GetLeader(), string(r.groups[i].leader))
	}
}

func TestWatchTopologyTellsOfNewLeaders(t *testing.T) {
	r := setup(t, 3, 4, 0, func(c *Config) { c.Clock = time.Now })
	c := atollv1connect.NewClusterClient(r.conn("eu-1"))
	w, err := c.WatchTopology(testContext(t), &atollv1.WatchTopologyRequest{})
	noError(t, err)
	defer func() { _ = w.Close() }()
	for _, leader := range []topology.NodeID{"eu-0", "eu-2", "", "eu-1"} {
		r.groups[3].lead(leader)
		for {
			msg, err := w.Receive()
			noError(t, err)
			if msg.GetTopology().GetPartitions()[3].GetLeader() == string(leader) {
				break
			}
		}
	}
	r.servers["eu-1"].Drain()
	_, err = w.Receive()
	wantReason(t, err, reasonShuttingDown)
}
