package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/cmd/internal/members"
	"github.com/atolldb/atoll/crossregion/membership"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region/api"
	"github.com/atolldb/atoll/topology"
)

// changes has the API decide about regions.
type changes struct{ node *Node }

var _ api.Votes = changes{}

// Fenced implements api.Votes.
func (c changes) Fenced() string {
	if why := c.node.mayWrite(); why != nil {
		return why.Error()
	}
	return ""
}

// Members implements api.Votes.
func (c changes) Members() *atollv1.Membership {
	s, _ := c.node.membershipNow()
	out := &atollv1.Membership{Epoch: s.Epoch, Overrides: uint32(len(s.Overrides))}
	for i := range s.Regions {
		r := &s.Regions[i]
		a := r.Actor()
		m := &atollv1.Member{
			Region: r.Name, Id: uint32(r.ID), Epoch: uint32(a.Epoch), State: r.State.String(), Address: r.Address, Cut: a.Cut,
		}
		waiting, what := waitsFor(s, r)
		m.Waiting, m.WaitingFor = names(s, waiting), what
		if heir, named := s.Successor(r.ID, a.Epoch); named {
			m.Heir = regionName(s, heir)
		}
		out.Members = append(out.Members, m)
	}
	return out
}

// waitsFor returns who has to do something for a region to go on, and what.
func waitsFor(s *membership.State, r *membership.Region) (who membership.RegionSet, what string) {
	a := r.Actor()
	switch {
	case r.State == membership.Joining && r.AckedAt == 0:
		return r.Awaiting, "to wait for it"
	case r.State == membership.Joining:
		return membership.SetOf(r.ID), "to have what the others have"
	case s.Reporters(a) != 0:
		return s.Reporters(a), "to report what they have of it"
	case s.Lagging(r.ID, a) != 0:
		return s.Lagging(r.ID, a), "to have all of it up to the cut"
	}
	return 0, ""
}

func names(s *membership.State, set membership.RegionSet) []string {
	var all []string
	for id := range set.All() {
		all = append(all, regionName(s, id))
	}
	return all
}

func regionName(s *membership.State, id topology.RegionID) string {
	if r := s.Region(id); r != nil {
		return r.Name
	}
	return fmt.Sprint("region ", id)
}

// Change implements api.Votes.
func (c changes) Change(ctx context.Context, ask api.Change) (*atollv1.RegionPlan, error) {
	n := c.node
	if n.voter == nil {
		return nil, api.ErrNoVote
	}
	s, _ := n.membershipNow()
	command, err := commandOf(s, ask)
	if err != nil {
		return planOrRefusal(s, ask, membership.Plan{Epoch: s.Epoch, Command: command, Refusal: err})
	}
	knows := membership.Knowledge{
		Asked: true, Unshipped: ask.Unshipped, Reachable: membership.SetOf(ask.Reachable...), Witness: n.voter.WitnessAnswers(ctx),
	}
	plan := s.Plan(command, knows)
	if ask.DryRun || plan.Refusal != nil {
		return planOrRefusal(s, ask, plan)
	}
	err = n.voter.Propose(ctx, command)
	refused, isRefused := errors.AsType[*membership.RefusedError](err)
	switch {
	case isRefused: // the regions have changed meanwhile
		s, _ = n.membershipNow()
		plan.Refusal = refused
		return planOrRefusal(s, ask, plan)
	case errors.Is(err, members.ErrNoMajority):
		return nil, fmt.Errorf("%w: %w", api.ErrNoMajority, err)
	case err != nil:
		return nil, err
	}
	return encodePlan(s, &plan, ask.Region), nil
}

// commandOf returns the command of a change, about the region's present epoch.
func commandOf(s *membership.State, c api.Change) (membership.Command, error) {
	if c.Kind == api.AddRegion {
		return membership.AddCommand(c.ID, c.Epoch, c.Region, c.Address), nil
	}
	r := s.RegionNamed(c.Region)
	if r == nil {
		return membership.Command{}, &membership.RefusedError{Code: membership.UnknownRegion, Why: "there is no such region", Do: "see atoll region list"}
	}
	epoch := r.Actor().Epoch
	switch c.Kind {
	case api.DrainRegion:
		return membership.DrainCommand(r.ID, epoch), nil
	case api.FenceRegion:
		return membership.FenceCommand(r.ID, epoch, c.Note), nil
	case api.RemoveRegion:
		return membership.RemoveCommand(r.ID, epoch), nil
	case api.NameRegionHeir:
		heir := s.RegionNamed(c.Heir)
		if heir == nil {
			return membership.Command{}, &membership.RefusedError{Code: membership.UnknownRegion, Why: "there is no such heir", Do: "see atoll region list"}
		}
		return membership.NameHeirCommand(r.ID, epoch, heir.ID), nil
	case api.RejoinRegion, api.AddRegion:
	}
	next := c.Epoch
	if next == 0 {
		next = epoch
		if !s.Living().Has(r.ID) { // or it was done before
			next++
		}
	}
	return membership.RejoinCommand(r.ID, next, c.Address), nil
}

// planOrRefusal returns the plan of a dry run, and of a change that is refused the refusal.
func planOrRefusal(s *membership.State, c api.Change, p membership.Plan) (*atollv1.RegionPlan, error) {
	plan := encodePlan(s, &p, c.Region)
	if plan.GetRefusal() != nil && !c.DryRun {
		return nil, &api.RegionRefusedError{Refusal: plan.GetRefusal()}
	}
	return plan, nil
}

func encodePlan(s *membership.State, p *membership.Plan, name string) *atollv1.RegionPlan {
	out := &atollv1.RegionPlan{
		Region: name, Epoch: uint32(p.Command.Epoch), MembershipEpoch: p.Epoch, Done: p.Done, Warnings: p.Warnings,
	}
	if refused, ok := errors.AsType[*membership.RefusedError](p.Refusal); ok {
		out.Refusal = &atollv1.RegionRefusal{Code: refused.Code.String(), Waiting: names(s, refused.Waiting), Why: refused.Why, Do: refused.Do}
		return out
	}
	for _, step := range p.Steps {
		out.Steps = append(out.Steps, &atollv1.RegionStep{Regions: names(s, step.Who), What: step.What})
	}
	out.Loss = &atollv1.RegionLoss{Why: p.Loss.Why}
	if p.Loss.Known {
		out.Loss.AtMost = &p.Loss.AtMost
	}
	return out
}
