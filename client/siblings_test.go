package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestFlag(t *testing.T) {
	ctx := testContext(t)
	enabled := false
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			switch r.GetOp().GetOp().(type) {
			case *atollv1.Op_FlagEnable:
				enabled = true
				return &atollv1.UpdateResponse{Version: "v1"}, nil
			case *atollv1.Op_FlagDisable:
				enabled = false
				return &atollv1.UpdateResponse{Version: "v2"}, nil
			}
			return nil, refusal(connect.CodeInvalidArgument, ReasonInvalidArgument, 0)
		},
		query: func(context.Context, *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Flag{Flag: &atollv1.FlagValue{Enabled: enabled}}}}, nil
		},
		get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			return &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_EW_FLAG, Typed: &atollv1.TypedValue{
				Value: &atollv1.TypedValue_Flag{Flag: &atollv1.FlagValue{Enabled: enabled}},
			}}, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	flag := c.Flag("f")
	version, err := flag.Enable(ctx)
	noError(t, err)
	equal(t, "version", version, "v1")
	on, err := flag.Enabled(ctx)
	noError(t, err)
	equal(t, "enabled", on, true)
	v, err := c.Get(ctx, "f")
	noError(t, err)
	equal(t, "type", v.Type, TypeFlag)
	equal(t, "value", v.Enabled, true)
	noError(t, flag.Disable(ctx))
	on, err = flag.Enabled(ctx)
	noError(t, err)
	equal(t, "enabled", on, false)
}

func TestMVRegister(t *testing.T) {
	ctx := testContext(t)
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	values := &atollv1.SiblingsValue{Siblings: []*atollv1.Sibling{
		{Value: []byte("b"), Time: timestamppb.New(at), Region: "us"}, {Value: []byte("a"), Time: timestamppb.New(at), Region: "eu"},
	}}
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			if r.GetCondition().GetIfVersion() == "old" {
				return nil, refusal(connect.CodeFailedPrecondition, ReasonVersionMismatch, 0)
			}
			return &atollv1.UpdateResponse{Version: "after " + string(r.GetOp().GetMvrPut().GetValue())}, nil
		},
		query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			if r.GetQuery().GetMvrSiblings() == nil {
				t.Errorf("asked %v", r)
			}
			return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Siblings{Siblings: values}}}, nil
		},
		get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			return &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_MV_REGISTER, Value: []byte("b"), Typed: &atollv1.TypedValue{
				Value: &atollv1.TypedValue_Siblings{Siblings: values},
			}}, nil
		},
		del: func(_ context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
			return &atollv1.DeleteResponse{Existed: r.GetType() == atollv1.Type_TYPE_MV_REGISTER}, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	register := c.MVRegister("m")
	version, err := register.Put(ctx, []byte("x"))
	noError(t, err)
	equal(t, "version", version, "after x")
	if _, err := register.Put(ctx, []byte("x"), IfVersion("old")); !errors.Is(err, ErrVersionMismatch) {
		t.Errorf("%v", err)
	}
	siblings, err := register.Siblings(ctx)
	noError(t, err)
	v, err := c.Get(ctx, "m")
	noError(t, err)
	equal(t, "type", v.Type, TypeMVRegister)
	equal(t, "bytes", string(v.Bytes), "b")
	for _, got := range [][]Sibling{siblings, v.Siblings} {
		equal(t, "siblings", len(got), 2)
		equal(t, "latest", string(got[0].Value)+" of "+got[0].Region, "b of us")
		equal(t, "its time", got[0].Time, at)
		equal(t, "other", string(got[1].Value)+" of "+got[1].Region, "a of eu")
	}
	existed, err := register.Delete(ctx)
	noError(t, err)
	equal(t, "existed", existed, true)
}

func TestBatchOfFlagsAndMVRegisters(t *testing.T) {
	f := &fakeServer{batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
		if i := r.GetItems(); i[0].GetUpdate().GetOp().GetFlagEnable() == nil || i[1].GetUpdate().GetOp().GetFlagDisable() == nil ||
			string(i[2].GetUpdate().GetOp().GetMvrPut().GetValue()) != "x" {
			t.Errorf("sent %v", i)
		}
		return &atollv1.BatchWriteResponse{Items: []*atollv1.BatchWriteItem{{Version: "1"}, {}, {Version: "2"}}}, nil
	}}
	got, err := newClient(t, []string{serve(t, f)}).Batch(testContext(t), []Write{NewFlagEnable("a"), NewFlagDisable("b"), NewMVRegisterPut("m", []byte("x"))})
	noError(t, err)
	equal(t, "versions", got[0].Version+got[1].Version+got[2].Version, "12")
}
