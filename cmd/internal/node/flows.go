package node

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
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
				Audit: auditOf(0, &flow.Audit),
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

// Audit implements api.Replication.
func (f flows) Audit(p topology.PartitionID, with topology.RegionID, start bool) (api.Audit, error) {
	replicator := f.node.replicator.Load()
	if replicator == nil {
		return api.Audit{}, region.ErrNotLeader
	}
	var number uint64
	var report protocol.AuditReport
	var err error
	if start {
		number, err = replicator.Audit(p, with)
	} else {
		number, report, err = replicator.Audited(p, with)
	}
	switch {
	case errors.Is(err, crossregion.ErrNotLed):
		err = region.ErrNotLeader
	case err != nil:
		err = fmt.Errorf("%w: %w", api.ErrNoAudits, err)
	}
	return auditOf(number, &report), err
}

func auditOf(number uint64, r *protocol.AuditReport) api.Audit {
	a := api.Audit{
		Number: number, State: api.AuditState(r.State), Vector: r.Vector, More: r.More, Attempts: r.Attempts, Why: r.Why,
		Ranges: r.Ranges, Differing: r.Differing, Items: r.Items, Bytes: r.Bytes,
	}
	for i := range r.Values {
		v := &r.Values[i]
		a.Values = append(a.Values, replica.Difference{
			Name: replica.Name{Namespace: v.Namespace, Key: v.Key, Type: v.Type}, OnlyHere: v.OnlyHere, OnlyThere: v.OnlyThere, Changed: v.Changed,
		})
	}
	return a
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
