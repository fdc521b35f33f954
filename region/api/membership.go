package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

// changeTimeout bounds a change of the regions that another node has to make: a majority across wide areas decides.
const changeTimeout = 15 * time.Second

// What becomes of a change of the regions.
var (
	// ErrNoVote means that this node has no vote: the region's first node has.
	ErrNoVote = errors.New("this node does not vote on regions")
	// ErrNoMajority means that no majority of the regions answers: nothing was done.
	ErrNoMajority = errors.New("no majority of the regions answers")
)

// RegionRefusedError means that a change of the regions makes no sense as they are: nothing was done.
type RegionRefusedError struct{ Refusal *atollv1.RegionRefusal }

// Error says why, and what to do.
func (e *RegionRefusedError) Error() string {
	r := e.Refusal
	text := r.GetWhy()
	if len(r.GetWaiting()) > 0 {
		text += " (" + strings.Join(r.GetWaiting(), ", ") + ")"
	}
	if r.GetDo() != "" {
		text += "; " + r.GetDo()
	}
	return text
}

// ChangeKind says what a change of the regions does.
type ChangeKind uint8

// The changes of the regions.
const (
	AddRegion ChangeKind = iota + 1
	DrainRegion
	FenceRegion
	RemoveRegion
	RejoinRegion
	NameRegionHeir
)

// Change is a change of the regions. Each kind uses what its request has.
type Change struct {
	Kind    ChangeKind
	Region  string
	ID      topology.RegionID
	Epoch   topology.Epoch
	Address string
	Note    string
	Heir    string
	DryRun  bool
	// Unshipped says how many operations regions have acknowledged that another may lack, of those of which it is
	// known. Reachable are those that were heard of lately.
	Unshipped map[topology.RegionID]uint64
	Reachable []topology.RegionID
}

// Votes decides about regions, together with those of the others. It is safe for concurrent use.
type Votes interface {
	// Members returns which regions there are, as far as is known here.
	Members() *atollv1.Membership
	// Fenced returns why this node takes no writes, as far as that has to do with regions; "" if it does.
	Fenced() string
	// Change has a change made, and returns what follows. Of a dry run a refusal is in the plan.
	// Errors: ErrNoVote, ErrNoMajority, *RegionRefusedError: nothing was done; region.ErrOutcomeUnknown; ctx's own.
	Change(ctx context.Context, c Change) (*atollv1.RegionPlan, error)
}

// Add takes a new region in.
func (r *regionsService) Add(ctx context.Context, req *atollv1.AddRequest) (*atollv1.AddResponse, error) {
	plan, err := r.server().change(ctx, Change{
		Kind: AddRegion, Region: req.GetRegion(), ID: topology.RegionID(min(req.GetId(), topology.MaxRegionID+1)),
		Epoch: topology.Epoch(min(req.GetEpoch(), uint32(topology.MaxEpoch)+1)), Address: req.GetAddress(), DryRun: req.GetDryRun(),
	}, func(ctx context.Context, p *peer) (*atollv1.RegionPlan, error) {
		res, err := p.regions.Add(ctx, req)
		return res.GetPlan(), err
	})
	return &atollv1.AddResponse{Plan: plan}, err
}

// Drain has a region leave in order.
func (r *regionsService) Drain(ctx context.Context, req *atollv1.DrainRequest) (*atollv1.DrainResponse, error) {
	plan, err := r.server().change(ctx, Change{Kind: DrainRegion, Region: req.GetRegion(), DryRun: req.GetDryRun()},
		func(ctx context.Context, p *peer) (*atollv1.RegionPlan, error) {
			res, err := p.regions.Drain(ctx, req)
			return res.GetPlan(), err
		})
	return &atollv1.DrainResponse{Plan: plan}, err
}

// Fence gives a region up.
func (r *regionsService) Fence(ctx context.Context, req *atollv1.FenceRequest) (*atollv1.FenceResponse, error) {
	plan, err := r.server().change(ctx, Change{Kind: FenceRegion, Region: req.GetRegion(), Note: req.GetNote(), DryRun: req.GetDryRun()},
		func(ctx context.Context, p *peer) (*atollv1.RegionPlan, error) {
			res, err := p.regions.Fence(ctx, req)
			return res.GetPlan(), err
		})
	return &atollv1.FenceResponse{Plan: plan}, err
}

// Remove strikes a closed region off.
func (r *regionsService) Remove(ctx context.Context, req *atollv1.RemoveRequest) (*atollv1.RemoveResponse, error) {
	plan, err := r.server().change(ctx, Change{Kind: RemoveRegion, Region: req.GetRegion(), DryRun: req.GetDryRun()},
		func(ctx context.Context, p *peer) (*atollv1.RegionPlan, error) {
			res, err := p.regions.Remove(ctx, req)
			return res.GetPlan(), err
		})
	return &atollv1.RemoveResponse{Plan: plan}, err
}

// Rejoin has a closed region come back.
func (r *regionsService) Rejoin(ctx context.Context, req *atollv1.RejoinRequest) (*atollv1.RejoinResponse, error) {
	plan, err := r.server().change(ctx, Change{
		Kind: RejoinRegion, Region: req.GetRegion(), Epoch: topology.Epoch(min(req.GetEpoch(), uint32(topology.MaxEpoch)+1)),
		Address: req.GetAddress(), DryRun: req.GetDryRun(),
	}, func(ctx context.Context, p *peer) (*atollv1.RegionPlan, error) {
		res, err := p.regions.Rejoin(ctx, req)
		return res.GetPlan(), err
	})
	return &atollv1.RejoinResponse{Plan: plan}, err
}

// NameHeir decides which region takes over the homes of one that takes part no more.
func (r *regionsService) NameHeir(ctx context.Context, req *atollv1.NameHeirRequest) (*atollv1.NameHeirResponse, error) {
	if req.GetHeir() == "" {
		return nil, invalid("heir", "name the region that takes over")
	}
	plan, err := r.server().change(ctx, Change{Kind: NameRegionHeir, Region: req.GetRegion(), Heir: req.GetHeir(), DryRun: req.GetDryRun()},
		func(ctx context.Context, p *peer) (*atollv1.RegionPlan, error) {
			res, err := p.regions.NameHeir(ctx, req)
			return res.GetPlan(), err
		})
	return &atollv1.NameHeirResponse{Plan: plan}, err
}

// change has a change made here, or by the region's first node, where the vote is.
func (s *Server) change(
	ctx context.Context, c Change, remote func(context.Context, *peer) (*atollv1.RegionPlan, error),
) (*atollv1.RegionPlan, error) {
	if s.votes == nil {
		return nil, fail(reasonUnimplemented, "this deployment does not decide about regions: give each an address for it (membership) in the configuration")
	}
	if c.Region == "" {
		return nil, invalid("region", "name the region")
	}
	status, err := s.status(ctx)
	if err != nil {
		return nil, err
	}
	s.survey(&c, status)
	plan, err := s.votes.Change(ctx, c)
	first, known := s.peers[s.region.Nodes[0].ID]
	if !errors.Is(err, ErrNoVote) || !known || wasForwarded(ctx) {
		return plan, changeFailure(ctx, err)
	}
	plan, sent, err := ask(ctx, first, changeTimeout, remote)
	if err == nil {
		return plan, nil
	}
	return nil, voteFailure(err, sent)
}

// voteFailure returns what to answer when the region's first node did not make a change.
func voteFailure(err error, sent bool) error {
	if e, ok := errors.AsType[*connect.Error](err); ok {
		if verdict := failureOfPeer(e); verdict != nil {
			return verdict
		}
	}
	if sent {
		return fail(reasonOutcomeUnknown, "the region's first node, which has its vote, did not answer; the change may have been made: see atoll region list").because(err)
	}
	return fail(reasonNoQuorum, "the region's first node, which has its vote, is not reached; ask in another region").because(err)
}

// survey notes what is known of the regions beside the membership: what a plan says of losses rests on it.
func (s *Server) survey(c *Change, status *atollv1.StatusResponse) {
	c.Unshipped = map[topology.RegionID]uint64{}
	unknown := map[topology.RegionID]bool{}
	for _, f := range status.GetFlows() {
		r, ok := s.cluster.RegionNamed(f.GetSource())
		if !ok {
			continue
		}
		if f.GetLag().GetUnknown() || f.GetLag().Operations == nil {
			unknown[r.ID] = true
			continue
		}
		c.Unshipped[r.ID] += f.GetLag().GetOperations()
	}
	for id := range unknown {
		delete(c.Unshipped, id)
	}
	for _, r := range status.GetRegions() {
		if r.GetState() == atollv1.RegionState_REGION_STATE_ACTIVE {
			c.Reachable = append(c.Reachable, topology.RegionID(r.GetId()))
		}
	}
}

// changeFailure returns what to answer to a change that was not made.
func changeFailure(ctx context.Context, err error) error {
	refused, isRefused := errors.AsType[*RegionRefusedError](err)
	switch {
	case err == nil:
		return nil
	case isRefused:
		r := refused.Refusal
		return fail(reasonRegionRefused, refused.Error(), "code", r.GetCode(), "waiting", strings.Join(r.GetWaiting(), ","), "do", r.GetDo()).because(err)
	case errors.Is(err, ErrNoMajority):
		return fail(reasonNoQuorum, "no majority of the regions answers; nothing was decided").because(err)
	case errors.Is(err, ErrNoVote):
		return fail(reasonNoQuorum, "this node has no vote; ask the region's first node").because(err)
	}
	return failureOfWrite(ctx, fmt.Errorf("change of the regions: %w", err))
}
