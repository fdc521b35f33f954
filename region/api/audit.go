package api

import (
	"context"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Audit compares partitions with another region's, or tells how far that is.
func (r *regionsService) Audit(ctx context.Context, req *atollv1.AuditRequest) (*atollv1.AuditResponse, error) {
	s := r.server()
	other, ok := s.cluster.RegionNamed(req.GetRegion())
	switch {
	case !ok || other.ID == s.region.ID:
		return nil, invalid("region", "name another region of the deployment")
	case s.replication == nil:
		return nil, fail(reasonUnimplemented, "this node compares no states with other regions")
	}
	wanted, f := s.wantedPartitions(req.GetPartitions())
	if f != nil {
		return nil, f
	}
	res := &atollv1.AuditResponse{Region: s.region.Name, Partitions: make([]*atollv1.PartitionAudit, len(wanted))}
	err := s.eachPartition(len(wanted), func(i int) error {
		id := topology.PartitionID(wanted[i])
		audit, err := s.audit(ctx, id, other, req.GetStart())
		switch {
		case err != nil && wasForwarded(ctx):
			return err // who sent it on may know another node
		case err != nil:
			audit = &atollv1.PartitionAudit{Partition: wanted[i], Error: failureOf(err).item()}
		}
		res.Partitions[i] = audit
		return nil
	})
	return res, err
}

// audit asks a partition's leader.
func (s *Server) audit(ctx context.Context, id topology.PartitionID, other *topology.Region, start bool) (*atollv1.PartitionAudit, error) {
	return route(ctx, s, call[*atollv1.PartitionAudit]{
		partition: id,
		noWait:    !start,
		local: func(_ context.Context, p Partition) (*atollv1.PartitionAudit, error) {
			if leader, known := p.Leader(); known && leader != s.self {
				return nil, &region.NotLeaderError{Leader: leader}
			}
			audit, err := s.replication.Audit(id, other.ID, start)
			return s.shownAudit(id, &audit), err
		},
		remote: func(ctx context.Context, p *peer) (*atollv1.PartitionAudit, error) {
			res, err := p.regions.Audit(ctx, &atollv1.AuditRequest{Region: other.Name, Partitions: []uint32{uint32(id)}, Start: start})
			if err != nil || len(res.GetPartitions()) != 1 {
				return nil, err
			}
			return res.GetPartitions()[0], nil
		},
	})
}

// wantedPartitions returns those that are named, or all.
func (s *Server) wantedPartitions(named []uint32) ([]uint32, *failure) {
	if len(named) == 0 {
		for i := range s.cluster.Partitions {
			named = append(named, i)
		}
	}
	if len(named) > int(s.cluster.Partitions) {
		return nil, invalid("partitions", "there are only %d", s.cluster.Partitions)
	}
	for _, id := range named {
		if f := s.checkPartition(id); f != nil {
			return nil, f
		}
	}
	return named, nil
}

func (s *Server) shownAudit(id topology.PartitionID, a *Audit) *atollv1.PartitionAudit {
	out := &atollv1.PartitionAudit{
		Partition: uint32(id), Number: a.Number, State: atollv1.AuditState(a.State),
		Vector: s.vector(a.Vector, func(crdt.Actor) hlc.Time { return 0 }),
		Ranges: a.Ranges, DifferingRanges: a.Differing, Items: a.Items, Bytes: a.Bytes,
		More: a.More, Why: a.Why, Attempts: uint32(a.Attempts),
	}
	for i := range a.Values {
		v := &a.Values[i]
		out.Values = append(out.Values, &atollv1.DifferingValue{
			Namespace: v.Namespace, Key: v.Key, Type: atollv1.Type(v.Type),
			OnlyHere: v.OnlyHere, OnlyThere: v.OnlyThere, Changed: v.Changed,
		})
	}
	return out
}
