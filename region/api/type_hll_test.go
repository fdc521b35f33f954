package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var askHLL = &atollv1.QueryOp{Query: &atollv1.QueryOp_HllCount{HllCount: &atollv1.HLLCount{}}}

func hllAdd(elements ...string) *atollv1.Op {
	add := &atollv1.HLLAdd{}
	for _, e := range elements {
		add.Elements = append(add.Elements, []byte(e))
	}
	return &atollv1.Op{Op: &atollv1.Op_HllAdd{HllAdd: add}}
}

func hllText(v *atollv1.HLLValue) string { return fmt.Sprint(v.GetCount(), " ", v.GetChanged()) }

func TestHLL(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 2, 4, 0).kv("eu-1") // asks the leader
	ask := func() (found bool, count string) {
		res, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "h", Query: askHLL})
		noError(t, err)
		return res.GetFound(), hllText(res.GetResult().GetHll())
	}
	if found, count := ask(); found || count != "0 false" {
		t.Errorf("absent: %v, %s", found, count)
	}
	version := ""
	for _, step := range []struct {
		op      *atollv1.Op
		count   uint64
		changed bool
	}{
		{hllAdd("a", "b", "a"), 2, true},
		{hllAdd("b"), 2, false},
		{hllAdd("b", "c"), 3, true},
	} {
		res := mustUpdate(t, kv, "h", step.op)
		equal(t, "answer", hllText(res.GetResult().GetHll()), fmt.Sprint(step.count, " ", step.changed))
		equal(t, "new version", res.GetVersion() != version, step.changed)
		version = res.GetVersion()
		found, count := ask()
		equal(t, "found", found, true)
		equal(t, "count", count, fmt.Sprint(step.count, " false"))
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "h"})
		noError(t, err)
		equal(t, "type", got.GetType(), atollv1.Type_TYPE_HLL)
		equal(t, "value", hllText(got.GetTyped().GetHll()), fmt.Sprint(step.count, " false"))
		equal(t, "version", got.GetVersion(), version)
	}
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "h", Op: counterAdd(1)})
	wantReason(t, err, reasonWrongType)
	mustUpdate(t, kv, "c", counterAdd(1))
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "c", Op: hllAdd("a")})
	wantReason(t, err, reasonWrongType)
	_, err = kv.Query(ctx, &atollv1.QueryRequest{Key: "c", Query: askHLL})
	wantReason(t, err, reasonWrongType)
	del, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "h"})
	noError(t, err)
	equal(t, "existed", del.GetExisted(), true)
	if found, count := ask(); found || count != "0 false" {
		t.Errorf("deleted: %v, %s", found, count)
	}
	equal(t, "after a delete", hllText(mustUpdate(t, kv, "h", hllAdd("a")).GetResult().GetHll()), "1 true")
}

// TestHLLOfTwoRegions: what both added counts once, and Explain names what there is.
func TestHLLOfTwoRegions(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	mustUpdate(t, kv, "h", hllAdd("a", "b"))
	r.fromUS(replica.Op{Kind: replica.OpHLLAdd, Namespace: "default", Key: "h", Elements: [][]byte{[]byte("b"), []byte("c")}})
	equal(t, "count", inquire(t, kv, "h", askHLL).GetHll().GetCount(), 3)
	explained, err := r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "h"})
	noError(t, err)
	o := explained.GetObjects()[0]
	equal(t, "type", o.GetType(), atollv1.Type_TYPE_HLL)
	equal(t, "part", strings.HasPrefix(o.GetParts().GetParts()[0].GetValue(), "registers raised"), true)
}

func TestHLLInABatch(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	item := func(op *atollv1.Op) *atollv1.Write {
		return &atollv1.Write{Write: &atollv1.Write_Update{Update: &atollv1.UpdateRequest{Key: "h", Op: op}}}
	}
	res, err := kv.BatchWrite(testContext(t), &atollv1.BatchWriteRequest{Items: []*atollv1.Write{item(hllAdd("a")), item(hllAdd("a")), item(hllAdd("b"))}})
	noError(t, err)
	for i, want := range []string{"1 true", "1 false", "2 true"} {
		equal(t, fmt.Sprint("item ", i), hllText(res.GetItems()[i].GetResult().GetHll()), want)
	}
}

func TestRefusedElementsOfHLLs(t *testing.T) {
	kv := setup(t, 1, 1, 0).kv("eu-0")
	add := func(elements ...string) func() error {
		return func() error {
			_, err := kv.Update(testContext(t), &atollv1.UpdateRequest{Key: "h", Op: hllAdd(elements...)})
			return err
		}
	}
	mustRefuse(t, []refusedCase{
		{"op.hll_add.elements", reasonInvalidArgument, add()},
		{"op.hll_add.elements", reasonInvalidArgument, add("a", "")},
		{"op.hll_add.elements", reasonValueTooLarge, add(strings.Repeat("x", maxElementBytes+1))},
		{"op.hll_add.elements", reasonBatchTooLarge, add(make([]string, maxElements+1)...)},
	})
	equal(t, "most", mustUpdate(t, kv, "h", hllAdd(strings.Repeat("x", maxElementBytes))).GetResult().GetHll().GetCount(), 1)
}
