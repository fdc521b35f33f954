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
		{Region: "us", Id: 2, Epoch: 1, State: "FENCED", Waiting: []string{"eu"}, WaitingFor: "to report what they have of it", Heir: "eu"},
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

func (f *fakeRegion) NameHeir(_ context.Context, r *atollv1.NameHeirRequest) (*atollv1.NameHeirResponse, error) {
	plan, err := f.plan(r.GetRegion()+"-to-"+r.GetHeir(), 0, r.GetDryRun())
	return &atollv1.NameHeirResponse{Plan: plan}, err
}

// Audit finds that the first partition differs from us, of a second try the result; the second one cannot be compared with
// zz.
func (f *fakeRegion) Audit(_ context.Context, r *atollv1.AuditRequest) (*atollv1.AuditResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	res := &atollv1.AuditResponse{Region: f.name}
	partitions := r.GetPartitions()
	if len(partitions) == 0 {
		partitions = []uint32{0, 1}
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	for _, p := range partitions {
		a := &atollv1.PartitionAudit{Partition: p, Number: 1<<40 + f.store.audits}
		f.store.audits++
		if !r.GetStart() && f.store.audits > 5 {
			audited(a, r.GetRegion())
		}
		res.Partitions = append(res.Partitions, a)
	}
	return res, nil
}

func audited(a *atollv1.PartitionAudit, region string) {
	a.State, a.Ranges, a.Items, a.Bytes = atollv1.AuditState_AUDIT_STATE_EQUAL, 4, 1000, 160
	a.Vector = []*atollv1.VectorEntry{{Region: "eu", Seq: 7}}
	switch {
	case region == "us" && a.GetPartition() == 0:
		a.State, a.DifferingRanges, a.More = atollv1.AuditState_AUDIT_STATE_DIFFERENT, 2, true
		a.Values = []*atollv1.DifferingValue{
			{Namespace: "default", Key: "greet\ning", Type: atollv1.Type_TYPE_LWW_REGISTER, Changed: 1},
			{Namespace: "n", Key: "fruit", Type: atollv1.Type_TYPE_AW_SET, OnlyHere: 2, OnlyThere: 3},
		}
	case region == "zz" && a.GetPartition() == 1:
		a.State, a.Why = atollv1.AuditState_AUDIT_STATE_FAILED, "the regions have not applied the same events"
	}
}
