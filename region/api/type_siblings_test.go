package api

import (
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/replica"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

func mvrPut(value string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_MvrPut{MvrPut: &atollv1.MVRPut{Value: []byte(value)}}}
}

var (
	flagEnable  = &atollv1.Op{Op: &atollv1.Op_FlagEnable{FlagEnable: &atollv1.FlagEnable{}}}
	flagDisable = &atollv1.Op{Op: &atollv1.Op_FlagDisable{FlagDisable: &atollv1.FlagDisable{}}}
	askFlag     = &atollv1.QueryOp{Query: &atollv1.QueryOp_Flag{Flag: &atollv1.FlagQuery{}}}
	askSiblings = &atollv1.QueryOp{Query: &atollv1.QueryOp_MvrSiblings{MvrSiblings: &atollv1.MVRSiblings{}}}
)

// fromUS merges what another region did to the one partition of a test region at the same time.
func (r *testRegion) fromUS(ops ...replica.Op) {
	r.t.Helper()
	us, err := replica.Open(replica.NewMemory(), topology.Actor(2, 0))
	noError(r.t, err)
	_, deltas, err := us.Execute(testNow(), ops)
	noError(r.t, err)
	g := r.groups[0]
	eu, err := replica.Open(g.memory, g.actor)
	noError(r.t, err)
	_, err = eu.Merge(us.Self(), deltas)
	noError(r.t, err)
	noError(r.t, eu.Flush())
}

func TestFlag(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 2, 4, 0).kv("eu-1")
	enabled := func(key string) bool {
		res, err := kv.Query(ctx, &atollv1.QueryRequest{Key: key, Query: askFlag})
		noError(t, err)
		equal(t, "found", res.GetFound(), res.GetResult().GetFlag().GetEnabled())
		return res.GetResult().GetFlag().GetEnabled()
	}
	equal(t, "absent flag", enabled("f"), false)
	enable := mustUpdate(t, kv, "f", flagEnable)
	equal(t, "result", enable.GetResult(), nil)
	equal(t, "flag", enabled("f"), true)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "f"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_EW_FLAG)
	equal(t, "value", got.GetTyped().GetFlag().GetEnabled(), true)
	equal(t, "bytes", len(got.GetValue()), 0)
	equal(t, "version", got.GetVersion(), enable.GetVersion())
	_, err = kv.Query(ctx, &atollv1.QueryRequest{Key: "f", Query: askSiblings})
	wantReason(t, err, reasonWrongType)
	_, err = kv.Put(ctx, &atollv1.PutRequest{Key: "f", Value: []byte("x")})
	wantReason(t, err, reasonWrongType)
	mustUpdate(t, kv, "f", flagDisable)
	equal(t, "disabled flag", enabled("f"), false)
	equal(t, "version of what is absent", mustUpdate(t, kv, "f", flagDisable).GetVersion(), "")
	got, err = kv.Get(ctx, &atollv1.GetRequest{Key: "f"})
	noError(t, err)
	equal(t, "found", got.GetFound(), false)
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "l", Op: flagEnable, Options: locally("id")})
	noError(t, err)
	equal(t, "local flag", enabled("l"), true)
}

func TestMVRegister(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 2, 1, 0)
	kv := r.kv("eu-1")
	first := mustUpdate(t, kv, "m", mvrPut("eu's"))
	r.fromUS(replica.Op{Kind: replica.OpMVPut, Namespace: defaultNamespace, Key: "m", Value: []byte("us's")})
	res, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "m", Query: askSiblings})
	noError(t, err)
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "m"})
	noError(t, err)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_MV_REGISTER)
	equal(t, "value", string(got.GetValue()), "us's")
	for _, siblings := range [][]*atollv1.Sibling{
		res.GetResult().GetSiblings().GetSiblings(), got.GetTyped().GetSiblings().GetSiblings(), entryOfScan(t, r, "m").GetTyped().GetSiblings().GetSiblings(),
	} {
		equal(t, "siblings", len(siblings), 2)
		equal(t, "latest", string(siblings[0].GetValue()), "us's")
		equal(t, "its region", siblings[0].GetRegion(), "us")
		equal(t, "its time", siblings[0].GetTime().AsTime(), testNow().Wall())
		equal(t, "other", string(siblings[1].GetValue())+" of "+siblings[1].GetRegion(), "eu's of eu")
	}
	ifVersion := func(v string) *atollv1.Condition {
		return &atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: v}}
	}
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "m", Op: mvrPut("both"), Condition: ifVersion(first.GetVersion())})
	wantReason(t, err, reasonVersionMismatch)
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "m", Op: mvrPut("both"), Condition: ifVersion(got.GetVersion())})
	noError(t, err)
	res, err = kv.Query(ctx, &atollv1.QueryRequest{Key: "m", Query: askSiblings})
	noError(t, err)
	equal(t, "siblings", len(res.GetResult().GetSiblings().GetSiblings()), 1)
	del, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "m", Type: atollv1.Type_TYPE_MV_REGISTER})
	noError(t, err)
	equal(t, "existed", del.GetExisted(), true)
	res, err = kv.Query(ctx, &atollv1.QueryRequest{Key: "m", Query: askSiblings})
	noError(t, err)
	equal(t, "siblings of what is absent", len(res.GetResult().GetSiblings().GetSiblings()), 0)
}

func entryOfScan(t *testing.T, r *testRegion, key string) *atollv1.Entry {
	t.Helper()
	stream, err := r.kv("eu-0").Scan(testContext(t), &atollv1.ScanRequest{Prefix: key})
	noError(t, err)
	defer func() { _ = stream.Close() }()
	page, err := stream.Receive()
	noError(t, err)
	return page.GetEntries()[0]
}

func TestRefusedMVRegister(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "m", Op: mvrPut(strings.Repeat("x", maxValueBytes+1))})
	equal(t, "field", wantReason(t, err, reasonValueTooLarge).metadata["field"], "op.mvr_put.value")
	ifValue := &atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: []byte("x")}}
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "m", Op: mvrPut("x"), Condition: ifValue})
	equal(t, "field", wantReason(t, err, reasonInvalidArgument).metadata["field"], "condition.if_value")
	equal(t, "writes", r.groups[0].writes, 0)
}

func TestExplainSiblings(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	mustUpdate(t, r.kv("eu-0"), "m", mvrPut("eu's"))
	mustUpdate(t, r.kv("eu-0"), "f", flagEnable)
	r.fromUS(replica.Op{Kind: replica.OpMVPut, Namespace: defaultNamespace, Key: "m", Value: []byte("us's\xff")})
	res, err := r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "m"})
	noError(t, err)
	parts := res.GetObjects()[0].GetParts()
	equal(t, "size", parts.GetSize(), 2)
	equal(t, "latest", parts.GetParts()[0].GetValue(), `"us's\xff", the latest`)
	equal(t, "its region", parts.GetParts()[0].GetEvents()[0].GetRegion(), "us")
	equal(t, "other", parts.GetParts()[1].GetValue(), `"eu's"`)
	res, err = r.regions("eu-0").Explain(ctx, &atollv1.ExplainRequest{Key: "f"})
	noError(t, err)
	equal(t, "flag", res.GetObjects()[0].GetParts().GetParts()[0].GetValue(), "enabled")
}

// TestPageHoldsFewSiblings: a page ends by the size of all siblings, not of the latest ones alone.
func TestPageHoldsFewSiblings(t *testing.T) {
	r := setup(t, 1, 1, 0)
	var ops []replica.Op
	for _, key := range []string{"a", "b", "c"} {
		mustUpdate(t, r.kv("eu-0"), key, mvrPut(strings.Repeat("x", 1000)))
		ops = append(ops, replica.Op{Kind: replica.OpMVPut, Namespace: defaultNamespace, Key: key, Value: []byte("y")})
	}
	r.fromUS(ops...)
	rep, err := replica.Open(r.groups[0].memory, r.groups[0].actor)
	noError(t, err)
	page := &peerv1.ScanPartitionResponse{}
	req := &peerv1.ScanPartitionRequest{Namespace: defaultNamespace, Limit: 10, MaxBytes: 500}
	noError(t, r.servers["eu-0"].fillPage(rep, testNow(), req, page))
	equal(t, "entries", len(page.GetEntries()), 1)
	equal(t, "more", page.GetMore(), true)
}
