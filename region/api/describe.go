package api

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// ScanPartition returns one page of one partition's keys.
func (p *peerService) ScanPartition(ctx context.Context, r *peerv1.ScanPartitionRequest) (*peerv1.ScanPartitionResponse, error) {
	s := p.server()
	how, f := checkReadOptions(r.GetOptions())
	if f == nil {
		f = s.checkPartition(r.GetPartition())
	}
	if f != nil {
		return nil, f
	}
	return s.scanPage(ctx, r, how)
}

// DescribePartition returns one partition's status, or its digest if asked.
func (p *peerService) DescribePartition(ctx context.Context, r *peerv1.DescribePartitionRequest) (*peerv1.DescribePartitionResponse, error) {
	s := p.server()
	if f := s.checkPartition(r.GetPartition()); f != nil {
		return nil, f
	}
	id := topology.PartitionID(r.GetPartition())
	if r.GetWithDigest() {
		how, f := checkReadOptions(r.GetOptions())
		if f != nil {
			return nil, f
		}
		digest, err := s.digest(ctx, id, how)
		return &peerv1.DescribePartitionResponse{Digest: digest}, err
	}
	return s.describe(ctx, id)
}

func (s *Server) checkPartition(id uint32) *failure {
	if id >= s.cluster.Partitions {
		return invalid("partition", "there are only %d", s.cluster.Partitions)
	}
	return nil
}

// describe returns a partition's status as its leader knows it, or, if there is none, as some replica
// does.
func (s *Server) describe(ctx context.Context, id topology.PartitionID) (*peerv1.DescribePartitionResponse, error) {
	forwarded := wasForwarded(ctx)
	res, err := route(ctx, s, call[*peerv1.DescribePartitionResponse]{
		partition: id,
		noWait:    true,
		local: func(_ context.Context, p Partition) (*peerv1.DescribePartitionResponse, error) {
			if leader, known := p.Leader(); known && leader != s.self && !forwarded {
				return nil, &region.NotLeaderError{Leader: leader}
			}
			return s.describeLocal(id, p), nil
		},
		remote: func(ctx context.Context, p *peer) (*peerv1.DescribePartitionResponse, error) {
			return p.nodes.DescribePartition(ctx, &peerv1.DescribePartitionRequest{Partition: uint32(id)})
		},
	})
	if err == nil {
		return res, nil
	}
	if p, hostErr := s.hosted(id); hostErr == nil {
		return s.describeLocal(id, p), nil // old news, but better than none
	}
	return nil, err
}

func (s *Server) describeLocal(id topology.PartitionID, p Partition) *peerv1.DescribePartitionResponse {
	view := p.View()
	leader, _ := p.Leader()
	destinations, err := p.Destinations()
	if err != nil {
		s.logger.Warn("not known what other regions lack", "partition", id, "err", err)
	}
	status := &atollv1.PartitionStatus{
		Partition:     uint32(id),
		Leader:        string(leader),
		Vector:        s.vector(view.Vector, func(a crdt.Actor) hlc.Time { return view.HLCs[a] }),
		OutboxEntries: view.Outbox.Head + 1 - view.Outbox.First,
		OutboxBytes:   view.Outbox.Bytes,
	}
	for i := range destinations {
		status.Unshipped = max(status.Unshipped, destinations[i].Events)
	}
	status.Garbage = s.garbage(p)
	return &peerv1.DescribePartitionResponse{Status: status, Flows: s.flows(id, destinations)}
}

// garbage tells who holds back the removal of what deletions leave; nil if nobody does.
func (s *Server) garbage(p Partition) *atollv1.Garbage {
	g, err := p.Garbage()
	if err != nil {
		s.logger.Warn("what deletions leave is not known", "err", err)
		return nil
	}
	if g.Region == 0 {
		return nil
	}
	out := &atollv1.Garbage{HeldBy: s.regionName(g.Region), Count: g.Count, Bytes: g.Bytes, More: g.More}
	if g.Since > 0 {
		out.Since = durationpb.New(max(s.clock().Sub(g.Since.Wall()), 0))
	}
	return out
}

func (s *Server) vector(v crdt.VersionVector, hlcOf func(crdt.Actor) hlc.Time) []*atollv1.VectorEntry {
	entries := make([]*atollv1.VectorEntry, 0, v.Len())
	v.Each(func(a crdt.Actor, seq uint64) {
		name, epoch := s.actorName(a)
		entries = append(entries, &atollv1.VectorEntry{Region: name, Epoch: epoch, Seq: seq, Hlc: uint64(hlcOf(a))})
	})
	return entries
}

func (s *Server) actorName(a crdt.Actor) (regionName string, epoch uint32) {
	id, e := topology.ActorRegion(a)
	return s.regionName(id), uint32(e)
}

func (s *Server) regionName(id topology.RegionID) string {
	if r, ok := s.cluster.Region(id); ok {
		return r.Name
	}
	return "unknown"
}

// flows returns the partition's flows as this node knows them. If it does not lead the partition it knows nothing, and
// says that. What regions lack of its outbox, it knows of those out of it.
func (s *Server) flows(id topology.PartitionID, destinations []region.OutboxDestination) []*atollv1.Flow {
	if s.replication == nil {
		return nil
	}
	flows := s.replication.Flows(id)
	if len(flows) == 0 {
		flows = s.unknownFlows()
	}
	out := make([]*atollv1.Flow, len(flows))
	for i, f := range flows {
		out[i] = &atollv1.Flow{
			Source:      s.regionName(f.Source),
			Destination: s.regionName(f.Destination),
			Partition:   uint32(id),
			Applied:     f.Applied,
			Head:        f.Head,
			Lag:         lagOf(&f),
			Stuck:       f.Stuck,
			Diverged:    f.Diverged,
			OutboxFirst: f.First,
			OutboxBytes: f.OutboxBytes,
		}
		if f.Audit.State != 0 {
			out[i].Audit = s.shownAudit(id, &f.Audit)
		}
		if f.Ahead > 0 {
			out[i].Ahead = durationpb.New(f.Ahead)
		}
		if !f.Heard.IsZero() {
			out[i].LastHeard = durationpb.New(max(s.clock().Sub(f.Heard), 0))
		}
		for j := range destinations {
			if d := &destinations[j]; d.Region == f.Destination {
				addLacking(out[i], d)
			}
		}
	}
	return out
}

// addLacking adds to a flow what the outbox knows of its destination.
func addLacking(f *atollv1.Flow, d *region.OutboxDestination) {
	events := d.Events
	f.Unshipped = &events
	if !f.GetLag().GetUnknown() {
		bytes := d.Bytes
		f.Lag.Bytes = &bytes
	}
	e := d.Eviction
	switch {
	case e == nil:
	case e.ServedFrom == 0:
		f.Stuck = fmt.Sprintf("NEEDS_RESYNC: the outbox does not wait for %s since %s, which had event %d: it needs the partition's state",
			f.GetDestination(), e.Since.Wall().UTC().Format(time.RFC3339), e.Seq)
	default:
		f.Stuck = fmt.Sprintf("NEEDS_RESYNC: events from %d on are kept for %s, which has yet to get the partition's state",
			e.ServedFrom, f.GetDestination())
	}
}

// unknownFlows returns the flows between this region and all others, of which nothing is known.
func (s *Server) unknownFlows() []Flow {
	var flows []Flow
	for i := range s.cluster.Regions {
		if other := s.cluster.Regions[i].ID; other != s.region.ID {
			flows = append(flows, Flow{Source: other, Destination: s.region.ID, Unknown: true}, Flow{Source: s.region.ID, Destination: other, Unknown: true})
		}
	}
	return flows
}

// lagOf leaves out what is not known: a figure that may be wrong is worse than none.
func lagOf(f *Flow) *atollv1.Lag {
	if f.Unknown {
		return &atollv1.Lag{Unknown: true}
	}
	operations := uint64(0)
	if f.Head > f.Applied {
		operations = f.Head - f.Applied
	}
	lag := &atollv1.Lag{Time: durationpb.New(max(f.Behind, time.Duration(0))), Operations: &operations}
	if f.BytesKnown {
		lag.Bytes = &f.LagBytes
	}
	return lag
}

// digest returns a partition's digest and the vector that belongs to it.
func (s *Server) digest(ctx context.Context, id topology.PartitionID, how reading) (*atollv1.PartitionDigest, error) {
	return routeRead(ctx, s, readCall[*atollv1.PartitionDigest]{
		partition: id,
		how:       how,
		timeout:   digestTimeout,
		local: func(ctx context.Context, p Partition, how reading) (*atollv1.PartitionDigest, error) {
			res := &atollv1.PartitionDigest{Partition: uint32(id)}
			return res, s.readFrom(ctx, p, how, &atollv1.ReplyInfo{Partition: uint32(id)}, func(r *replica.Replica, _ hlc.Time) error {
				digest, err := r.Digest()
				if err != nil {
					return err
				}
				res.Digest, res.Items = digest.Sum[:], digest.Items
				res.Vector = s.vector(r.Vector(), r.HLCOf)
				return nil
			})
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*atollv1.PartitionDigest, error) {
			res, err := p.nodes.DescribePartition(ctx, &peerv1.DescribePartitionRequest{
				Partition: uint32(id), WithDigest: true, Options: o,
			})
			return res.GetDigest(), err
		},
	})
}
