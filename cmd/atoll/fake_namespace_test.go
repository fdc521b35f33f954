package main

import (
	"context"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Homes says that the home of the namespace locks is eu, but for one partition that does not answer.
func (f *fakeRegion) Homes(_ context.Context, r *atollv1.HomesRequest) (*atollv1.HomesResponse, error) {
	if r.GetNamespace() != "locks" {
		return nil, refusal(connect.CodeInvalidArgument, client.ReasonInvalidArgument, nil)
	}
	return &atollv1.HomesResponse{Region: f.name, Partitions: []*atollv1.PartitionHome{
		{Partition: 0, Region: "eu", Epoch: 7, Serving: true},
		{Partition: 1, Region: "eu", Waiting: []string{"us"}},
		{Partition: 3, Region: "us", Epoch: 9, Heir: "ap"},
		{Partition: 2, Error: &atollv1.Error{Code: "unavailable", Reason: "NO_LEADER", Message: "no leader"}},
	}}, nil
}

// MoveHome is done at the third call if us is to be the home, never if it is ap, and refused in part if it is cn.
func (f *fakeRegion) MoveHome(_ context.Context, r *atollv1.MoveHomeRequest) (*atollv1.MoveHomeResponse, error) {
	const (
		ready   = atollv1.HomeMoveState_HOME_MOVE_STATE_READY
		waiting = atollv1.HomeMoveState_HOME_MOVE_STATE_WAITING
		moving  = atollv1.HomeMoveState_HOME_MOVE_STATE_MOVING
		serving = atollv1.HomeMoveState_HOME_MOVE_STATE_SERVING
		failed  = atollv1.HomeMoveState_HOME_MOVE_STATE_FAILED
	)
	steps := [][]*atollv1.HomeMove{
		{{State: waiting, From: "eu", Epoch: 7, Waiting: []string{"us"}}, {Partition: 1, State: moving, From: "eu", Epoch: 8}},
		{{State: failed, Error: &atollv1.Error{Code: "unavailable", Reason: "NO_LEADER", Message: "no leader"}}, {Partition: 1, State: serving, Epoch: 8}},
		{{State: serving, Epoch: 8}, {Partition: 1, State: serving, Epoch: 8}},
	}
	step := int(f.moves.Add(1)) - 1
	switch {
	case r.GetDryRun():
		return &atollv1.MoveHomeResponse{Moves: []*atollv1.HomeMove{{State: ready, From: "eu", Epoch: 7}}}, nil
	case r.GetRegion() == "us":
		return &atollv1.MoveHomeResponse{Moves: steps[min(step, 2)], Done: step >= 2}, nil
	case r.GetRegion() == "ap":
		return &atollv1.MoveHomeResponse{Moves: steps[0]}, nil
	case r.GetRegion() == "cn":
		move := &atollv1.HomeMove{State: failed, Error: &atollv1.Error{Code: "failed_precondition", Reason: "FENCED", Message: "it writes no more"}}
		return &atollv1.MoveHomeResponse{Moves: []*atollv1.HomeMove{move}}, nil
	}
	return nil, refusal(connect.CodeFailedPrecondition, client.ReasonRegionRefused, nil)
}
