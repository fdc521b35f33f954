package main

import (
	"context"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// members is the fake deployment's membership: us is being closed.
func (f *fakeRegion) members() *atollv1.Membership {
	return &atollv1.Membership{Epoch: 9, Overrides: 1, Members: []*atollv1.Member{
		{Region: "eu", Id: 1, State: "ACTIVE", Address: "127.0.0.1:7490"},
		{Region: "us", Id: 2, Epoch: 1, State: "FENCED", Waiting: []string{"eu"}, WaitingFor: "to report what they have of it"},
	}}
}

// plan is the answer to every change, but that of a region ap, which is refused.
func (f *fakeRegion) plan(name string, epoch uint32, dry bool) (*atollv1.RegionPlan, error) {
	p := &atollv1.RegionPlan{Region: name, Epoch: epoch, MembershipEpoch: 9}
	if name == "ap" {
		p.Refusal = &atollv1.RegionRefusal{Code: "WAITING", Waiting: []string{"eu"}, Why: "not closed yet", Do: "wait for eu"}
		if dry {
			return p, nil
		}
		return nil, refusal(connect.CodeFailedPrecondition, client.ReasonRegionRefused, map[string]string{"code": "WAITING"})
	}
	three := uint64(3)
	p.Steps = []*atollv1.RegionStep{{What: "it is decided"}, {Regions: []string{"eu", "us"}, What: "do their part"}}
	p.Loss = &atollv1.RegionLoss{AtMost: &three, Why: "what it acknowledged"}
	p.Warnings = []string{"it answers"}
	return p, nil
}

func (f *fakeRegion) Add(_ context.Context, r *atollv1.AddRequest) (*atollv1.AddResponse, error) {
	plan, err := f.plan(r.GetRegion(), r.GetEpoch()+r.GetId(), r.GetDryRun())
	return &atollv1.AddResponse{Plan: plan}, err
}

func (f *fakeRegion) Drain(_ context.Context, r *atollv1.DrainRequest) (*atollv1.DrainResponse, error) {
	plan, err := f.plan(r.GetRegion(), 0, r.GetDryRun())
	return &atollv1.DrainResponse{Plan: plan}, err
}

func (f *fakeRegion) Fence(_ context.Context, r *atollv1.FenceRequest) (*atollv1.FenceResponse, error) {
	plan, err := f.plan(r.GetRegion()+r.GetNote(), 0, r.GetDryRun())
	return &atollv1.FenceResponse{Plan: plan}, err
}

func (f *fakeRegion) Remove(_ context.Context, r *atollv1.RemoveRequest) (*atollv1.RemoveResponse, error) {
	plan, err := f.plan(r.GetRegion(), 0, r.GetDryRun())
	return &atollv1.RemoveResponse{Plan: plan}, err
}

func (f *fakeRegion) Rejoin(_ context.Context, r *atollv1.RejoinRequest) (*atollv1.RejoinResponse, error) {
	plan, err := f.plan(r.GetRegion(), r.GetEpoch()+2, r.GetDryRun())
	return &atollv1.RejoinResponse{Plan: plan}, err
}
