package node

import (
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region/api"
	"github.com/atolldb/atoll/topology"
)

// flows shows cross-region replication to the API.
type flows struct{ node *Node }

// Flows implements api.Replication.
func (f flows) Flows(p topology.PartitionID) []api.Flow {
	replicator := f.node.replicator.Load()
	if replicator == nil {
		return nil
	}
	var picked []api.Flow
	for _, flow := range replicator.Flows() {
		if flow.Partition == p {
			picked = append(picked, api.Flow{
				Source: flow.Source, Destination: flow.Destination,
				Applied: flow.Applied, Head: flow.Head, Heard: flow.Heard,
				Unknown: flow.Unknown, Behind: flow.Behind, Stuck: flow.Stuck, Ahead: flow.Ahead, Diverged: flow.Diverged,
				First: flow.First, OutboxBytes: flow.OutboxBytes, LagBytes: flow.LagBytes, BytesKnown: flow.BytesKnown,
			})
		}
	}
	return picked
}

// Refused implements api.Replication.
func (f flows) Refused() []api.Refused {
	replicator := f.node.replicator.Load()
	if replicator == nil {
		return nil
	}
	var all []api.Refused
	for _, r := range replicator.Stats().Refusals {
		all = append(all, api.Refused{
			Source: r.Source, Partition: r.Partition, AllPartitions: r.AllPartitions, Reason: string(r.Reason), Count: r.Count,
		})
	}
	return all
}

// AskEvent implements api.Others.
func (f flows) AskEvent(p topology.PartitionID, r topology.RegionID, past hlc.Time) {
	if replicator := f.node.replicator.Load(); replicator != nil {
		replicator.AskEvent(p, r, past)
	}
}

// AskWatermarks implements api.Others.
func (f flows) AskWatermarks(p topology.PartitionID, seq uint64) {
	if replicator := f.node.replicator.Load(); replicator != nil {
		replicator.AskWatermarks(p, seq)
	}
}

// Reached implements api.Others.
func (f flows) Reached(p topology.PartitionID, seq uint64) (regions int, changed <-chan struct{}, known bool) {
	if replicator := f.node.replicator.Load(); replicator != nil {
		return replicator.Reached(p, seq)
	}
	return 0, nil, false
}
