package main

import (
	"context"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// fakeLoser is the one value that lost in every fake region that has the key "torn".
func (f *fakeRegion) fakeLoser() *atollv1.Loser {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	if f.store.objects[place("", "torn")] == nil {
		return nil
	}
	return tornLoser()
}

func tornLoser() *atollv1.Loser {
	return &atollv1.Loser{
		Partition: 1, Id: 17, Namespace: "default", Key: "torn", Type: atollv1.Type_TYPE_LWW_REGISTER, Value: []byte("left"),
		Lost: &atollv1.Event{Region: "eu", Seq: 4, Hlc: 1_700_000_000_000 << 16},
		Won:  &atollv1.Event{Region: "us", Epoch: 2, Seq: 5, Hlc: 1_700_000_001_000 << 16},
	}
}

func (f *fakeRegion) Conflicts(_ context.Context, r *atollv1.ConflictsRequest) (*atollv1.ConflictsResponse, error) {
	if f.refuse != nil {
		return nil, f.refuse
	}
	res := &atollv1.ConflictsResponse{Region: f.name}
	l := f.fakeLoser()
	if l == nil {
		return res, nil
	}
	res.Counts = []*atollv1.ConflictCount{{
		Namespace: "default", Type: l.GetType(), RegionA: "eu", RegionB: "us", EpochB: 2, Count: 3,
	}}
	res.LetGo, res.Cursor = 2, []byte{1}
	res.Losers = []*atollv1.Loser{l}
	if r.GetKey() != "" && r.GetKey() != l.GetKey() {
		res.Losers = nil
	}
	if r.GetAllNamespaces() {
		res.Losers = append(res.Losers, &atollv1.Loser{
			Id: 9, Namespace: "other", Key: "z", Type: atollv1.Type_TYPE_ZSET, Field: []byte("ann"), Score: 2.5, Lost: l.GetLost(), Won: l.GetWon(),
		}, &atollv1.Loser{
			Id: 8, Namespace: "other", Key: "u", Path: []string{"42", "name"}, Type: atollv1.Type_TYPE_LWW_MAP,
			Field: []byte("first"), Value: []byte("Ann"), Lost: l.GetLost(), Won: l.GetWon(),
		})
	}
	return res, nil
}

func (f *fakeRegion) RestoreLoser(ctx context.Context, r *atollv1.RestoreLoserRequest) (*atollv1.RestoreLoserResponse, error) {
	l := f.fakeLoser()
	if l == nil || r.GetPartition() != l.GetPartition() || r.GetId() != l.GetId() {
		return nil, refusal(connect.CodeFailedPrecondition, client.ReasonNotPresent, nil)
	}
	put := &atollv1.PutRequest{Key: l.GetKey(), Value: l.GetValue(), Options: r.GetOptions()}
	if v := r.GetIfVersion(); v != "" {
		put.Condition = &atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: v}}
	}
	res, err := f.Put(ctx, put)
	if err != nil {
		return nil, err
	}
	return &atollv1.RestoreLoserResponse{Version: res.GetVersion(), Loser: l, Info: res.GetInfo()}, nil
}
