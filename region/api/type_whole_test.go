package api

import (
	"fmt"
	"math"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

func maxOp(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_Max{Max: &atollv1.Max{Value: n}}}
}

func minOp(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_Min{Min: &atollv1.Min{Value: n}}}
}

func bcounterInc(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_BcounterInc{BcounterInc: &atollv1.BCounterInc{N: n}}}
}

func bcounterDec(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_BcounterDec{BcounterDec: &atollv1.BCounterDec{N: n}}}
}

func bcounterTransfer(n int64, to string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_BcounterTransfer{BcounterTransfer: &atollv1.BCounterTransfer{N: n, ToRegion: to}}}
}

func rightsText(v *atollv1.BoundedValue) string {
	text := fmt.Sprint(v.GetValue(), ":")
	for _, r := range v.GetRights() {
		text += fmt.Sprintf(" %s %d", r.GetRegion(), r.GetRights())
	}
	return text
}

func TestExtremes(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 2, 4, 0).kv("eu-1") // asks the leader
	ask := func(key string) *atollv1.QueryResponse {
		res, err := kv.Query(ctx, &atollv1.QueryRequest{Key: key, Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Extreme{Extreme: &atollv1.ExtremeQuery{}}}})
		noError(t, err)
		return res
	}
	if q := ask("max"); q.GetFound() || q.GetResult().GetExtreme().GetValue() != 0 {
		t.Errorf("absent: %v", q)
	}
	for _, step := range []struct {
		key  string
		op   *atollv1.Op
		want int64
		typ  atollv1.Type
	}{
		{"max", maxOp(5), 5, atollv1.Type_TYPE_MAX_REGISTER},
		{"max", maxOp(math.MaxInt64), math.MaxInt64, atollv1.Type_TYPE_MAX_REGISTER},
		{"max", maxOp(7), math.MaxInt64, atollv1.Type_TYPE_MAX_REGISTER},
		{"min", minOp(-3), -3, atollv1.Type_TYPE_MIN_REGISTER},
		{"min", minOp(4), -3, atollv1.Type_TYPE_MIN_REGISTER},
	} {
		before, err := kv.Get(ctx, &atollv1.GetRequest{Key: step.key})
		noError(t, err)
		res := mustUpdate(t, kv, step.key, step.op)
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: step.key})
		noError(t, err)
		equal(t, "answer", res.GetResult().GetExtreme().GetValue(), step.want)
		equal(t, "value", got.GetTyped().GetExtreme().GetValue(), step.want)
		equal(t, "query", ask(step.key).GetResult().GetExtreme().GetValue(), step.want)
		equal(t, "type", got.GetType(), step.typ)
		equal(t, "version", res.GetVersion(), got.GetVersion())
		changed := before.GetTyped().GetExtreme().GetValue() != step.want
		equal(t, "new version", res.GetVersion() != before.GetVersion(), changed)
	}
	for _, key := range []string{"max", "min"} {
		del, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: key})
		noError(t, err)
		equal(t, "existed", del.GetExisted(), true)
		equal(t, "found", ask(key).GetFound(), false)
	}
	equal(t, "smaller after a delete", mustUpdate(t, kv, "max", maxOp(1)).GetResult().GetExtreme().GetValue(), 1)
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "max", Op: minOp(1)})
	wantReason(t, err, reasonWrongType)
	mustUpdate(t, kv, "c", counterAdd(1))
	_, err = kv.Query(ctx, &atollv1.QueryRequest{Key: "c", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Extreme{Extreme: &atollv1.ExtremeQuery{}}}})
	wantReason(t, err, reasonWrongType)
}

func TestBoundedCounter(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 4, 0)
	kv := r.kv("eu-1")
	ask := func() string {
		res, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "b", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Bcounter{Bcounter: &atollv1.BCounterQuery{}}}})
		noError(t, err)
		return rightsText(res.GetResult().GetBounded())
	}
	equal(t, "absent", ask(), "0: eu 0 us 0")
	equal(t, "inc", mustUpdate(t, kv, "b", bcounterInc(10)).GetResult().GetBounded().GetValue(), 10)
	equal(t, "dec", mustUpdate(t, kv, "b", bcounterDec(3)).GetResult().GetBounded().GetValue(), 7)
	equal(t, "transfer", mustUpdate(t, kv, "b", bcounterTransfer(5, "us")).GetResult().GetBounded().GetValue(), 7)
	equal(t, "to itself", mustUpdate(t, kv, "b", bcounterTransfer(2, "eu")).GetResult().GetBounded().GetValue(), 7)
	equal(t, "query", ask(), "7: eu 2 us 5")
	for _, op := range []*atollv1.Op{bcounterDec(3), bcounterTransfer(3, "us")} {
		_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "b", Op: op})
		equal(t, "have", wantReason(t, err, reasonInsufficientRights).metadata["have"], "2")
	}
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "b", Op: bcounterInc(math.MaxInt64)})
	wantReason(t, err, reasonInvalidArgument)
	for _, typ := range []atollv1.Type{0, atollv1.Type_TYPE_BOUNDED_COUNTER} {
		_, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "b", Type: typ})
		equal(t, "field", wantReason(t, err, reasonInvalidArgument).metadata["field"], "type")
	}
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "b"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_BOUNDED_COUNTER)
	equal(t, "value", rightsText(got.GetTyped().GetBounded()), "7: eu 2 us 5")
	explained, err := r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "b"})
	noError(t, err)
	parts := explained.GetObjects()[0].GetParts()
	equal(t, "parts", parts.GetSize(), 2)
	equal(t, "part", parts.GetParts()[0].GetValue(), "may take 2: added 10, took 3, gave 5, was given 0")
	equal(t, "part's region", parts.GetParts()[1].GetEvents()[0].GetRegion(), "us")
}

// TestBoundedCounterShowsWhatNobodyCanTake: a region that came back under a new epoch does not have the
// rights of before.
func TestBoundedCounterShowsWhatNobodyCanTake(t *testing.T) {
	r := setup(t, 1, 1, 0)
	g := r.groups[0]
	old, err := replica.Open(replica.NewMemory(), topology.Actor(2, 3))
	noError(t, err)
	_, deltas, err := old.Execute(testNow(), []replica.Op{{Kind: replica.OpBoundedInc, Namespace: "default", Key: "b", Delta: 4}})
	noError(t, err)
	eu, err := replica.Open(g.memory, g.actor)
	noError(t, err)
	_, err = eu.Merge(old.Self(), deltas)
	noError(t, err)
	noError(t, eu.Flush())
	got, err := r.kv("eu-0").Get(testContext(t), &atollv1.GetRequest{Key: "b"})
	noError(t, err)
	equal(t, "value", rightsText(got.GetTyped().GetBounded()), "4: eu 0 us 0 us/3 4")
}

func TestRefusedAmounts(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	update := func(op *atollv1.Op) func() error {
		return func() error {
			_, err := kv.Update(testContext(t), &atollv1.UpdateRequest{Key: "k", Op: op})
			return err
		}
	}
	mustRefuse(t, []refusedCase{
		{"op.bcounter_inc.n", reasonInvalidArgument, update(bcounterInc(0))},
		{"op.bcounter_dec.n", reasonInvalidArgument, update(bcounterDec(-1))},
		{"op.bcounter_transfer.n", reasonInvalidArgument, update(bcounterTransfer(0, "us"))},
		{"op.bcounter_transfer.to_region", reasonInvalidArgument, update(bcounterTransfer(1, "mars"))},
	})
}

func TestWholeValuesInABatch(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	item := func(key string, op *atollv1.Op) *atollv1.Write {
		return &atollv1.Write{Write: &atollv1.Write_Update{Update: &atollv1.UpdateRequest{Key: key, Op: op}}}
	}
	res, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Items: []*atollv1.Write{
		item("b", bcounterInc(4)), item("b", bcounterDec(1)), item("max", maxOp(3)), item("max", maxOp(2)), item("min", minOp(8)),
	}})
	noError(t, err)
	for i, want := range []int64{4, 3, 3, 3, 8} {
		r := res.GetItems()[i].GetResult()
		equal(t, fmt.Sprint("item ", i), r.GetBounded().GetValue()+r.GetExtreme().GetValue(), want)
	}
	refused, err := kv.BatchWrite(ctx, &atollv1.BatchWriteRequest{Items: []*atollv1.Write{item("max", maxOp(9)), item("b", bcounterDec(4))}})
	noError(t, err)
	equal(t, "reason", refused.GetItems()[0].GetError().GetReason(), "INSUFFICIENT_RIGHTS")
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "max"})
	noError(t, err)
	equal(t, "all or none", got.GetTyped().GetExtreme().GetValue(), 3)
}
