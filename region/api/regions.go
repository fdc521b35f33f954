package api

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/topology"
)

// heardLately is how recent a sign of life must be for a region to count as active.
const heardLately = 10 * time.Second

// Status returns the regions and the state of replication between them.
func (r *regionsService) Status(ctx context.Context, _ *atollv1.StatusRequest) (*atollv1.StatusResponse, error) {
	return r.server().status(ctx)
}

// statusEvery is how often WatchStatus looks. It asks every partition's leader each time.
const statusEvery = time.Second

// WatchStatus sends the state of replication as it is, and then again and again.
func (r *regionsService) WatchStatus(
	ctx context.Context, _ *atollv1.WatchStatusRequest, stream atollv1connect.RegionsWatchStatusServerStream,
) error {
	s := r.server()
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		now, err := s.status(ctx)
		if err == nil {
			err = stream.Send(&atollv1.WatchStatusResponse{Status: now})
		}
		if err != nil {
			return err
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

// status asks every partition's leader.
func (s *Server) status(ctx context.Context) (*atollv1.StatusResponse, error) {
	described := make([]*peerv1.DescribePartitionResponse, s.cluster.Partitions)
	err := s.eachPartition(len(described), func(i int) error {
		id := topology.PartitionID(i)
		res, err := s.describe(ctx, id)
		if err != nil {
			res = &peerv1.DescribePartitionResponse{
				Status: &atollv1.PartitionStatus{Partition: uint32(id), Error: failureOf(err).item()},
				Flows:  s.flowsNotAsked(id),
			}
		}
		described[i] = res
		return nil
	})
	if err != nil {
		return nil, err
	}
	res := &atollv1.StatusResponse{Region: s.region.Name, Node: string(s.self), Cluster: s.cluster.Name}
	for _, d := range described {
		res.Partitions = append(res.Partitions, d.GetStatus())
		res.Flows = append(res.Flows, d.GetFlows()...)
	}
	res.Regions = s.regionStates(res.GetFlows())
	res.Refused, res.Clocks = s.refused(), s.clockStates()
	res.HomeLease = s.homeLeaseState()
	if s.votes != nil {
		res.Membership, res.Fenced = s.votes.Members(), s.votes.Fenced()
	}
	return res, nil
}

// flowsNotAsked returns the flows of a partition that nobody could be asked about.
func (s *Server) flowsNotAsked(id topology.PartitionID) []*atollv1.Flow {
	var out []*atollv1.Flow
	for _, f := range s.unknownFlows() {
		out = append(out, &atollv1.Flow{
			Source: s.regionName(f.Source), Destination: s.regionName(f.Destination), Partition: uint32(id), Lag: &atollv1.Lag{Unknown: true},
		})
	}
	return out
}

// refused returns what this node has refused of other regions.
func (s *Server) refused() []*atollv1.Refused {
	if s.replication == nil {
		return nil
	}
	var out []*atollv1.Refused
	for _, r := range s.replication.Refused() {
		refused := &atollv1.Refused{Reason: r.Reason, Count: r.Count}
		if r.Source != 0 {
			refused.Source = s.regionName(r.Source)
		}
		if partition := uint32(r.Partition); !r.AllPartitions {
			refused.Partition = &partition
		}
		out = append(out, refused)
	}
	return out
}

// clockStates shows what this node knows of clocks.
func (s *Server) clockStates() *atollv1.Clocks {
	if s.clocks == nil {
		return nil
	}
	known := s.clocks()
	shown := &atollv1.Clocks{Unsafe: known.Why, Drift: durationpb.New(known.Drift)}
	if !known.Unsafe {
		shown.Unsafe = ""
	}
	for _, o := range known.Offsets {
		shown.Offsets = append(shown.Offsets, &atollv1.ClockOffset{
			Region: s.regionName(o.Region), Node: string(o.Node), Ahead: durationpb.New(o.Ahead), Uncertainty: durationpb.New(o.Uncertainty),
		})
	}
	return shown
}

// eachPartition runs do for 0 to n-1, some at a time.
func (s *Server) eachPartition(n int, do func(int) error) error {
	var parallel errgroup.Group
	parallel.SetLimit(batchParallel)
	for i := range n {
		parallel.Go(func() error { return s.protect(func() error { return do(i) }) })
	}
	return parallel.Wait()
}

// regionStates describes every region, and judges by the flows which of them is there.
func (s *Server) regionStates(flows []*atollv1.Flow) []*atollv1.Region {
	heard := map[string]bool{s.region.Name: true}
	for _, f := range flows {
		if f.GetLastHeard() != nil && f.GetLastHeard().AsDuration() <= heardLately {
			heard[f.GetSource()], heard[f.GetDestination()] = true, true
		}
	}
	regions := make([]*atollv1.Region, len(s.cluster.Regions))
	for i := range s.cluster.Regions {
		r := &s.cluster.Regions[i]
		state := atollv1.RegionState_REGION_STATE_UNREACHABLE
		if heard[r.Name] {
			state = atollv1.RegionState_REGION_STATE_ACTIVE
		}
		regions[i] = &atollv1.Region{Name: r.Name, Id: uint32(r.ID), Epoch: uint32(r.Epoch), State: state}
		for _, n := range r.Nodes {
			regions[i].Nodes = append(regions[i].Nodes, &atollv1.Node{Name: string(n.ID), Address: n.API, Zone: n.Zone})
		}
	}
	return regions
}

// Digest returns per partition the version vector and a digest of the state.
func (r *regionsService) Digest(ctx context.Context, req *atollv1.DigestRequest) (*atollv1.DigestResponse, error) {
	s := r.server()
	how, f := checkReadOptions(req.GetOptions())
	if f != nil {
		return nil, f
	}
	wanted, f := s.wantedPartitions(req.GetPartitions())
	if f != nil {
		return nil, f
	}
	res := &atollv1.DigestResponse{Region: s.region.Name, Partitions: make([]*atollv1.PartitionDigest, len(wanted))}
	err := s.eachPartition(len(wanted), func(i int) error {
		digest, err := s.digest(ctx, topology.PartitionID(wanted[i]), how)
		if err != nil {
			digest = &atollv1.PartitionDigest{Partition: wanted[i], Error: failureOf(err).item()}
		}
		res.Partitions[i] = digest
		return nil
	})
	return res, err
}

// Explain returns what made a key's value in this region.
func (r *regionsService) Explain(ctx context.Context, req *atollv1.ExplainRequest) (*atollv1.ExplainResponse, error) {
	s := r.server()
	namespace, f := checkName(req.GetNamespace(), req.GetKey())
	if f != nil {
		return nil, f
	}
	partition := s.cluster.PartitionOf(namespace, req.GetKey())
	return route(ctx, s, call[*atollv1.ExplainResponse]{
		partition: partition,
		local: func(ctx context.Context, p Partition) (*atollv1.ExplainResponse, error) {
			res := &atollv1.ExplainResponse{
				Region:    s.region.Name,
				Partition: uint32(partition),
				Info:      s.replyInfo(partition),
			}
			return res, s.readFrom(ctx, p, reading{}, res.GetInfo(), func(rep *replica.Replica, _ hlc.Time) error {
				explained, err := rep.Explain(namespace, req.GetKey())
				for i := range explained {
					res.Objects = append(res.Objects, s.explainedObject(&explained[i]))
				}
				res.Vector = s.vector(rep.Vector(), rep.HLCOf)
				if err != nil {
					return err
				}
				res.Heard = s.heard(rep, explained)
				losers, _, err := rep.Losers(replica.LoserQuery{Namespace: &namespace, Key: req.GetKey(), Limit: explainedLosers, Bytes: explainedLosersBytes})
				if err == nil {
					res.Losers, err = s.losersOf(partition, losers)
				}
				return err
			})
		},
		remote: func(ctx context.Context, p *peer) (*atollv1.ExplainResponse, error) {
			return p.regions.Explain(ctx, req)
		},
	})
}

// heard returns the last events here of those actors that are known to have made them with the register's last write
// applied.
func (s *Server) heard(rep *replica.Replica, objects []replica.Explained) []*atollv1.VectorEntry {
	if len(objects) == 0 || objects[0].Register == nil {
		return nil
	}
	var by crdt.VersionVector
	rep.Vector().Each(func(a crdt.Actor, seq uint64) {
		if rep.Saw(a, objects[0].Register.Dot()) {
			by.Set(a, seq)
		}
	})
	return s.vector(by, rep.HLCOf)
}

func (s *Server) explainedObject(e *replica.Explained) *atollv1.ExplainedObject {
	o := &atollv1.ExplainedObject{Type: atollv1.Type(e.Type), Version: e.Version, Deadline: s.explainedDeadline(e.Deadline)}
	switch {
	case e.Version == "": // the value's deadline alone is left
	case e.Register != nil:
		winner := s.event(e.Register.Dot())
		winner.Hlc = uint64(e.Register.Time)
		o.Detail = &atollv1.ExplainedObject_Register{Register: &atollv1.ExplainRegister{
			Winner: winner, Deleted: e.Register.Deleted, Value: e.Register.Value, ExpiresHlc: uint64(e.Register.Expires),
		}}
	case e.Counter != nil:
		counter := &atollv1.ExplainCounter{Value: e.Counter.Value()}
		for _, row := range e.Counter.Rows() {
			counter.Parts = append(counter.Parts, &atollv1.ExplainCounterPart{
				Last:      s.event(crdt.Dot{Actor: row.Actor, Seq: max(row.Entry.Seq, row.Base.Seq)}),
				Sum:       row.Entry.Sum,
				Reset_:    row.Base.Sum,
				Effective: e.Counter.Effective(row),
			})
		}
		o.Detail = &atollv1.ExplainedObject_Counter{Counter: counter}
	case e.Type != crdt.TypeAWSet:
		parts := &atollv1.ExplainParts{Size: e.Size}
		for _, p := range e.Parts {
			out := &atollv1.ExplainPart{Name: p.Name, Value: p.Value, Hidden: p.Hidden}
			for _, dot := range p.Dots {
				event := s.event(dot)
				event.Hlc = uint64(p.Time)
				out.Events = append(out.Events, event)
			}
			parts.Parts = append(parts.Parts, out)
		}
		o.Detail = &atollv1.ExplainedObject_Parts{Parts: parts}
	default:
		set := &atollv1.ExplainSet{Size: e.Size}
		for _, element := range e.Elements {
			out := &atollv1.ExplainElement{Element: element.Element}
			for _, dot := range element.Dots {
				out.Dots = append(out.Dots, s.event(dot))
			}
			set.Elements = append(set.Elements, out)
		}
		o.Detail = &atollv1.ExplainedObject_Set{Set: set}
	}
	return o
}

func (s *Server) explainedDeadline(d *replica.ExplainedDeadline) *atollv1.ExplainDeadline {
	if d == nil {
		return nil
	}
	event := s.event(d.Dot)
	event.Hlc = uint64(d.Time)
	return &atollv1.ExplainDeadline{ExpiresHlc: uint64(d.Expires), Event: event}
}

func (s *Server) event(d crdt.Dot) *atollv1.Event {
	name, epoch := s.actorName(d.Actor)
	return &atollv1.Event{Region: name, Epoch: epoch, Seq: d.Seq}
}
