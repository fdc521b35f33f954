package api

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

// topologyLook is how often a watched topology is looked at: how late its watchers may hear of a new
// leader.
const topologyLook = 100 * time.Millisecond

// topologyCache is the topology as the watchers saw it last. They share it, so that a thousand of
// them cost no more looks than one.
type topologyCache struct {
	mu sync.Mutex
	at time.Time
	// seen is replaced, never changed, and only if something differs.
	seen *atollv1.Topology
}

// Topology returns the region's nodes and where its partitions are.
func (c *clusterService) Topology(context.Context, *atollv1.TopologyRequest) (*atollv1.TopologyResponse, error) {
	return &atollv1.TopologyResponse{Topology: c.server().topologyNow()}, nil
}

// WatchTopology sends the topology as it is, and then after each change.
func (c *clusterService) WatchTopology(
	ctx context.Context, _ *atollv1.WatchTopologyRequest, stream atollv1connect.ClusterWatchTopologyServerStream,
) error {
	s := c.server()
	tick := time.NewTicker(topologyLook)
	defer tick.Stop()
	var sent *atollv1.Topology
	for {
		if now := s.topologySeen(); now != sent {
			if err := stream.Send(&atollv1.WatchTopologyResponse{Topology: now}); err != nil {
				return err
			}
			sent = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.draining:
			return fail(reasonShuttingDown, "this node is shutting down; watch another")
		case <-tick.C:
		}
	}
}

// topologySeen returns the topology as of a moment ago.
func (s *Server) topologySeen() *atollv1.Topology {
	c := &s.topology
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.clock()
	if age := now.Sub(c.at); c.seen != nil && age >= 0 && age < topologyLook/2 {
		return c.seen
	}
	c.at = now
	if fresh := s.topologyNow(); !proto.Equal(fresh, c.seen) {
		c.seen = fresh
	}
	return c.seen
}

func (s *Server) topologyNow() *atollv1.Topology {
	t := &atollv1.Topology{Cluster: s.cluster.Name, Region: s.region.Name, Epoch: uint64(s.region.Epoch)}
	for _, n := range s.region.Nodes {
		t.Nodes = append(t.Nodes, &atollv1.TopologyNode{Name: string(n.ID), Zone: n.Zone, Address: n.API, GrpcAddress: n.GRPC})
	}
	for _, n := range s.cluster.Namespaces {
		t.Namespaces = append(t.Namespaces, &atollv1.TopologyNamespace{Name: n.Name, Type: atollv1.Type(n.Type), GrowOnly: n.GrowOnly})
	}
	for i := range s.cluster.Partitions {
		id := topology.PartitionID(i)
		p := &atollv1.TopologyPartition{Partition: i, State: atollv1.PartitionState_PARTITION_STATE_NO_LEADER}
		for _, n := range s.replicas(id) {
			p.Replicas = append(p.Replicas, string(n))
		}
		p.Leader, p.Term = s.leaderOf(id)
		if p.GetLeader() != "" {
			p.State = atollv1.PartitionState_PARTITION_STATE_ACTIVE
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

// leaderOf returns who leads a partition, and in which term, as far as this node knows. Of a
// partition that it holds no replica of, it knows who served it last.
func (s *Server) leaderOf(id topology.PartitionID) (leader string, term uint64) {
	if p, err := s.hosted(id); err == nil {
		leader, known := p.Leader()
		if !known {
			return "", p.Term()
		}
		return string(leader), p.Term()
	}
	if last := s.leaders[id].Load(); last != nil {
		return string(last.id), 0
	}
	return "", 0
}
