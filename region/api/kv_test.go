package api

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/session"
)

func counterAdd(n int64) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_CounterAdd{CounterAdd: &atollv1.CounterAdd{Delta: n}}}
}

func setAdd(elements ...string) *atollv1.Op {
	add := &atollv1.SetAdd{}
	for _, e := range elements {
		add.Elements = append(add.Elements, []byte(e))
	}
	return &atollv1.Op{Op: &atollv1.Op_SetAdd{SetAdd: add}}
}

func mustPut(t *testing.T, kv atollv1connect.KVClient, key, value string) *atollv1.PutResponse {
	t.Helper()
	res, err := kv.Put(testContext(t), &atollv1.PutRequest{Key: key, Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustUpdate(t *testing.T, kv atollv1connect.KVClient, key string, op *atollv1.Op) *atollv1.UpdateResponse {
	t.Helper()
	res, err := kv.Update(testContext(t), &atollv1.UpdateRequest{Key: key, Op: op})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestRegister(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 4, 0)
	kv := r.kv("eu-0")
	absent, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k"})
	noError(t, err)
	equal(t, "found", absent.GetFound(), false)
	put, err := kv.Put(ctx, &atollv1.PutRequest{Key: "k", Value: []byte("x"), Ttl: durationpb.New(time.Minute)})
	noError(t, err)
	equal(t, "region", put.GetInfo().GetRegion(), "eu")
	equal(t, "node", put.GetInfo().GetNode(), "eu-0")
	equal(t, "partition", put.GetInfo().GetPartition(), uint32(r.cluster.PartitionOf("default", "k")))
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k", Namespace: "default"})
	noError(t, err)
	equal(t, "found", got.GetFound(), true)
	equal(t, "value", string(got.GetValue()), "x")
	equal(t, "version", got.GetVersion(), put.GetVersion())
	equal(t, "version is empty", got.GetVersion() == "", false)
	equal(t, "type", got.GetType(), atollv1.Type_TYPE_LWW_REGISTER)
	equal(t, "typed", got.GetTyped(), nil)
	equal(t, "time to live", got.GetTtl().AsDuration(), time.Minute)
	equal(t, "served", got.GetInfo().GetServed(), atollv1.Consistency_CONSISTENCY_LINEARIZABLE)
	for _, existed := range []bool{true, false} {
		del, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k"})
		noError(t, err)
		equal(t, "existed", del.GetExisted(), existed)
	}
	other, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k", Namespace: "other"})
	noError(t, err)
	equal(t, "found in another namespace", other.GetFound(), false)
}

func TestConditions(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0).kv("eu-0")
	put := func(c *atollv1.Condition) (*atollv1.PutResponse, error) {
		return kv.Put(ctx, &atollv1.PutRequest{Key: "k", Value: []byte("x"), Condition: c})
	}
	absent := &atollv1.Condition{Test: &atollv1.Condition_IfAbsent{IfAbsent: true}}
	present := &atollv1.Condition{Test: &atollv1.Condition_IfPresent{IfPresent: true}}
	_, err := put(present)
	wantReason(t, err, reasonNotPresent)
	first, err := put(absent)
	if err != nil {
		t.Fatal(err)
	}
	_, err = put(absent)
	if f := wantReason(t, err, reasonAlreadyExists); f.metadata["version"] != first.GetVersion() {
		t.Errorf("metadata is %v, want version %s", f.metadata, first.GetVersion())
	}
	_, err = put(&atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: "nonsense"}})
	wantReason(t, err, reasonVersionMismatch)
	_, err = put(&atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: []byte("y")}})
	wantReason(t, err, reasonValueMismatch)
	for _, c := range []*atollv1.Condition{
		present, {}, {Scope: atollv1.Scope_SCOPE_REGION},
		{Test: &atollv1.Condition_IfValue{IfValue: []byte("x")}},
	} {
		if _, err := put(c); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(&atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: got.GetVersion()}}); err != nil {
		t.Error(err)
	}
}

func expireIn(ttl time.Duration) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_Expire{Expire: &atollv1.Expire{Ttl: durationpb.New(ttl)}}}
}

func TestExpireAndPersist(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0).kv("eu-0")
	mustPut(t, kv, "k", "x")
	ttl := func() time.Duration {
		got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k"})
		noError(t, err)
		equal(t, "value", string(got.GetValue()), "x")
		return got.GetTtl().AsDuration()
	}
	equal(t, "result", mustUpdate(t, kv, "k", expireIn(time.Minute)).GetResult(), nil)
	equal(t, "time to live", ttl(), time.Minute)
	ifValue := &atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: []byte("y")}}
	_, err := kv.Update(ctx, &atollv1.UpdateRequest{Key: "k", Op: expireIn(time.Hour), Condition: ifValue})
	wantReason(t, err, reasonValueMismatch)
	persist := &atollv1.Op{Op: &atollv1.Op_Persist{Persist: &atollv1.Persist{}}}
	mustUpdate(t, kv, "k", persist)
	equal(t, "time to live", ttl(), 0)
	equal(t, "version of what is absent", mustUpdate(t, kv, "absent", persist).GetVersion(), "")
}

func TestCounter(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0).kv("eu-0")
	ask := &atollv1.QueryRequest{Key: "c", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Counter{Counter: &atollv1.CounterQuery{}}}}
	q, err := kv.Query(ctx, ask)
	if err != nil || q.GetFound() || q.GetResult().GetCounter().GetValue() != 0 {
		t.Fatalf("absent counter: %v, %v", q, err)
	}
	if res := mustUpdate(t, kv, "c", counterAdd(5)); res.GetResult().GetCounter().GetValue() != 5 || res.GetVersion() == "" {
		t.Errorf("add: %v", res)
	}
	set := &atollv1.Op{Op: &atollv1.Op_CounterSet{CounterSet: &atollv1.CounterSet{Value: math.MaxInt64}}}
	if res := mustUpdate(t, kv, "c", set); res.GetResult().GetCounter().GetValue() != math.MaxInt64 {
		t.Errorf("set: %v", res)
	}
	_, err = kv.Update(ctx, &atollv1.UpdateRequest{Key: "c", Op: counterAdd(1)})
	wantReason(t, err, reasonInvalidArgument)
	if q, err = kv.Query(ctx, ask); err != nil || !q.GetFound() || q.GetResult().GetCounter().GetValue() != math.MaxInt64 {
		t.Errorf("query: %v, %v", q, err)
	}
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "c"})
	if err != nil || got.GetType() != atollv1.Type_TYPE_COUNTER || got.GetTyped().GetCounter().GetValue() != math.MaxInt64 {
		t.Errorf("get: %v, %v", got, err)
	}
	reset := &atollv1.Op{Op: &atollv1.Op_CounterReset{CounterReset: &atollv1.CounterReset{}}}
	if res := mustUpdate(t, kv, "c", reset); res.GetResult().GetCounter().GetValue() != 0 {
		t.Errorf("reset: %v", res)
	}
}

func TestSet(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 4, 0).kv("eu-0")
	if res := mustUpdate(t, kv, "s", setAdd("b", "a", "b")); res.GetResult().GetSet().GetSize() != 2 || res.GetResult().GetSet().GetChanged() != 2 {
		t.Errorf("add: %v", res)
	}
	remove := &atollv1.Op{Op: &atollv1.Op_SetRemove{SetRemove: &atollv1.SetRemove{Elements: [][]byte{[]byte("b"), []byte("z")}}}}
	if res := mustUpdate(t, kv, "s", remove); res.GetResult().GetSet().GetSize() != 1 || res.GetResult().GetSet().GetChanged() != 1 {
		t.Errorf("remove: %v", res)
	}
	contains, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "s", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_SetContains{
		SetContains: &atollv1.SetContains{Elements: [][]byte{[]byte("a"), []byte("b")}},
	}}})
	if got := contains.GetResult().GetSetContains().GetContains(); err != nil || len(got) != 2 || !got[0] || got[1] {
		t.Errorf("contains: %v, %v", got, err)
	}
	size, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "s", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_SetSize{SetSize: &atollv1.SetSize{}}}})
	if err != nil || size.GetResult().GetSetSize() != 1 {
		t.Errorf("size: %v, %v", size, err)
	}
	_, err = kv.Query(ctx, &atollv1.QueryRequest{Key: "s", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_Counter{Counter: &atollv1.CounterQuery{}}}})
	if f := wantReason(t, err, reasonWrongType); f.metadata["type_found"] != "set" {
		t.Errorf("metadata is %v", f.metadata)
	}
	_, err = kv.Put(ctx, &atollv1.PutRequest{Key: "s"})
	wantReason(t, err, reasonWrongType)
	mustUpdate(t, kv, "s", &atollv1.Op{Op: &atollv1.Op_SetClear{SetClear: &atollv1.SetClear{}}})
	if got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "s"}); err != nil || got.GetFound() {
		t.Errorf("cleared set: %v, %v", got, err)
	}
}

func TestSetMembersPagesAndGetIsBounded(t *testing.T) {
	const total = 2500
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	var all []string
	for i := range total {
		all = append(all, fmt.Sprintf("m%05d", i))
	}
	mustUpdate(t, kv, "s", setAdd(all...))
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: "s"})
	if set := got.GetTyped().GetSet(); err != nil || set.GetSize() != total || len(set.GetMembers()) != valueMembers {
		t.Fatalf("get has %d of %d members, %v", len(set.GetMembers()), set.GetSize(), err)
	}
	var members [][]byte
	var cursor []byte
	for pages := 1; ; pages++ {
		res, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "s", Query: &atollv1.QueryOp{Query: &atollv1.QueryOp_SetMembers{
			SetMembers: &atollv1.SetMembers{Cursor: cursor},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		page := res.GetResult().GetSetMembers()
		members = append(members, page.GetMembers()...)
		if page.GetSize() != total {
			t.Errorf("page says %d members", page.GetSize())
		}
		if cursor = page.GetCursor(); len(cursor) == 0 {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	for i, m := range members {
		if string(m) != all[i] {
			t.Fatalf("member %d is %q", i, m)
		}
	}
	if len(members) != total {
		t.Errorf("%d members", len(members))
	}
}

type refusedCase struct {
	field  string
	reason reason
	do     func() error
}

func mustRefuse(t *testing.T, cases []refusedCase) {
	t.Helper()
	for i, tc := range cases {
		f := wantReason(t, tc.do(), tc.reason)
		if f.metadata["field"] != tc.field || !strings.Contains(f.message, tc.field) {
			t.Errorf("case %d: field is %q (%s), want %s", i, f.metadata["field"], f.message, tc.field)
		}
	}
}

func TestRefusedReadOptions(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	get := func(o *atollv1.ReadOptions) func() error {
		return func() error { _, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k", Options: o}); return err }
	}
	mustRefuse(t, []refusedCase{
		{"options.consistency", reasonInvalidArgument, get(&atollv1.ReadOptions{Consistency: 99})},
		{"options.session", reasonInvalidArgument, get(&atollv1.ReadOptions{Session: []byte("s")})},
		{"options.session", reasonInvalidArgument, get(&atollv1.ReadOptions{Session: make([]byte, session.MaxBytes+1)})},
		{"options.max_staleness", reasonInvalidArgument, get(&atollv1.ReadOptions{Consistency: atollv1.Consistency_CONSISTENCY_BOUNDED})},
		{"options.max_staleness", reasonInvalidArgument, get(&atollv1.ReadOptions{Consistency: atollv1.Consistency_CONSISTENCY_BOUNDED, MaxStaleness: durationpb.New(-1)})},
		{"options.max_staleness", reasonInvalidArgument, get(&atollv1.ReadOptions{Consistency: atollv1.Consistency_CONSISTENCY_BOUNDED, MaxStaleness: durationpb.New(25 * time.Hour)})},
		{"options.max_staleness", reasonInvalidArgument, get(&atollv1.ReadOptions{MaxStaleness: durationpb.New(1)})},
		{"options.strategy", reasonInvalidArgument, get(&atollv1.ReadOptions{Strategy: 99})},
		{"options.on_stale", reasonInvalidArgument, get(&atollv1.ReadOptions{OnStale: 99})},
		{"options.session", reasonInvalidArgument, get(&atollv1.ReadOptions{Session: []byte("s")})},
	})
}

func TestRefusedRequests(t *testing.T) {
	ctx := testContext(t)
	r := setup(t, 1, 1, 0)
	kv := r.kv("eu-0")
	long := strings.Repeat("x", maxKeyBytes+1)
	big := make([]byte, maxValueBytes+1)
	put := func(p *atollv1.PutRequest) func() error {
		return func() error { _, err := kv.Put(ctx, p); return err }
	}
	update := func(u *atollv1.UpdateRequest) func() error {
		return func() error { _, err := kv.Update(ctx, u); return err }
	}
	deleteOf := func(of atollv1.Type) func() error {
		return func() error { _, err := kv.Delete(ctx, &atollv1.DeleteRequest{Key: "k", Type: of}); return err }
	}
	cases := []refusedCase{
		{"key", reasonInvalidKey, put(&atollv1.PutRequest{})},
		{"key", reasonInvalidKey, put(&atollv1.PutRequest{Key: long})},
		{"namespace", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Namespace: long})},
		{"value", reasonValueTooLarge, put(&atollv1.PutRequest{Key: "k", Value: big})},
		{"ttl", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Ttl: durationpb.New(-1)})},
		{"ttl", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Ttl: &durationpb.Duration{Seconds: math.MaxInt64}})},
		{"options.durability", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{Durability: 99}})},
		{"options.regions", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{Regions: 1}})},
		{"options.op_id", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{OpId: long}})},
		{"options.session", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Options: &atollv1.WriteOptions{Session: []byte("s")}})},
		{"condition.scope", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Condition: &atollv1.Condition{Scope: atollv1.Scope_SCOPE_HOME}})},
		{"condition.if_absent", reasonInvalidArgument, put(&atollv1.PutRequest{Key: "k", Condition: &atollv1.Condition{Test: &atollv1.Condition_IfAbsent{}}})},
		{"condition.if_value", reasonValueTooLarge, put(&atollv1.PutRequest{Key: "k", Condition: &atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: big}}})},
		{"op", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k"})},
		{"ttl", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k", Op: counterAdd(1), Ttl: durationpb.New(-1)})},
		{"condition.if_value", reasonInvalidArgument, update(&atollv1.UpdateRequest{
			Key: "k", Op: counterAdd(1), Condition: &atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: []byte("x")}},
		})},
		{"op.expire.ttl", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k", Op: expireIn(0)})},
		{"op.expire.ttl", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k", Op: expireIn(-time.Second)})},
		{"op.expire.ttl", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k", Op: &atollv1.Op{Op: &atollv1.Op_Expire{}}})},
		{"op.set_add.elements", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k", Op: setAdd()})},
		{"op.set_add.elements", reasonInvalidArgument, update(&atollv1.UpdateRequest{Key: "k", Op: setAdd("")})},
		{"op.set_add.elements", reasonValueTooLarge, update(&atollv1.UpdateRequest{Key: "k", Op: setAdd(long)})},
		{"op.set_add.elements", reasonBatchTooLarge, update(&atollv1.UpdateRequest{Key: "k", Op: setAdd(make([]string, maxElements+1)...)})},
		{"op.set_add.elements", reasonBatchTooLarge, update(&atollv1.UpdateRequest{Key: "k", Op: setAdd(strings.Split(strings.Repeat(strings.Repeat("e", maxElementBytes)+"\n", 4100), "\n")[:4100]...)})},
		{"type", reasonInvalidArgument, deleteOf(99)},
		{"type", reasonInvalidArgument, deleteOf(256 + atollv1.Type_TYPE_COUNTER)},
		{"type", reasonInvalidArgument, deleteOf(atollv1.Type_TYPE_COUNTER - 256)},
		{"type", reasonInvalidArgument, deleteOf(128 + atollv1.Type_TYPE_AW_SET)},
		{"query", reasonInvalidArgument, func() error { _, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "k"}); return err }},
		{"query.set_members.limit", reasonInvalidArgument, func() error {
			_, err := kv.Query(ctx, &atollv1.QueryRequest{Key: "k", Query: &atollv1.QueryOp{
				Query: &atollv1.QueryOp_SetMembers{SetMembers: &atollv1.SetMembers{Limit: maxMembersLimit + 1}},
			}})
			return err
		}},
	}
	mustRefuse(t, cases)
	if r.groups[0].writes+r.groups[0].reads > 0 {
		t.Error("a refused request reached the partition")
	}
}

func TestLargestRequestsAreServed(t *testing.T) {
	ctx := testContext(t)
	kv := setup(t, 1, 1, 0).kv("eu-0")
	key := strings.Repeat("k", maxKeyBytes)
	value := bytes.Repeat([]byte("v"), maxValueBytes)
	if _, err := kv.Put(ctx, &atollv1.PutRequest{Key: key, Value: value}); err != nil {
		t.Fatal(err)
	}
	got, err := kv.Get(ctx, &atollv1.GetRequest{Key: key})
	if err != nil || !bytes.Equal(got.GetValue(), value) {
		t.Errorf("%d bytes come back, %v", len(got.GetValue()), err)
	}
}
