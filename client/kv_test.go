package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestGetReturnsEachType(t *testing.T) {
	ctx := testContext(t)
	answers := map[string]*atollv1.GetResponse{
		"r": {
			Found: true, Type: atollv1.Type_TYPE_LWW_REGISTER, Value: []byte("x"), Version: "1", Ttl: durationpb.New(time.Minute),
			Info: &atollv1.ReplyInfo{Region: "eu", Node: "eu-1", Partition: 3},
		},
		"c": {Found: true, Type: atollv1.Type_TYPE_COUNTER, Typed: &atollv1.TypedValue{
			Value: &atollv1.TypedValue_Counter{Counter: &atollv1.CounterValue{Value: -7}},
		}},
		"s": {Found: true, Type: atollv1.Type_TYPE_AW_SET, Typed: &atollv1.TypedValue{
			Value: &atollv1.TypedValue_Set{Set: &atollv1.SetValue{Size: 2, Members: [][]byte{[]byte("a"), []byte("b")}}},
		}},
	}
	f := &fakeServer{get: func(_ context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
		if r.GetNamespace() != "ns" {
			t.Errorf("namespace is %q", r.GetNamespace())
		}
		if a, ok := answers[r.GetKey()]; ok {
			return a, nil
		}
		return &atollv1.GetResponse{}, nil
	}}
	c := newClient(t, []string{serve(t, f)}).Namespace("ns")
	var info Info
	v, err := c.Get(ctx, "r", WithInfo(&info))
	noError(t, err)
	equal(t, "type", v.Type, TypeRegister)
	equal(t, "value", string(v.Bytes), "x")
	equal(t, "version", v.Version, "1")
	equal(t, "time to live", v.TTL, time.Minute)
	equal(t, "info", info, Info{Region: "eu", Node: "eu-1", Partition: 3})
	v, err = c.Get(ctx, "c")
	noError(t, err)
	equal(t, "type", v.Type, TypeCounter)
	equal(t, "counter", v.Counter, -7)
	v, err = c.Get(ctx, "s")
	noError(t, err)
	equal(t, "type", v.Type, TypeSet)
	equal(t, "size", v.Size, 2)
	equal(t, "members", len(v.Members), 2)
	if _, err = c.Get(ctx, "absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent key: %v", err)
	}
}

func TestEventualIsAskedForOnlyOnRequest(t *testing.T) {
	var asked atollv1.Consistency
	f := &fakeServer{get: func(_ context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
		asked = r.GetOptions().GetConsistency()
		return &atollv1.GetResponse{Found: true}, nil
	}}
	c := newClient(t, []string{serve(t, f)})
	if _, err := c.Get(testContext(t), "k"); err != nil || asked != atollv1.Consistency_CONSISTENCY_UNSPECIFIED {
		t.Errorf("default asks for %v, %v", asked, err)
	}
	if _, err := c.Get(testContext(t), "k", Eventual()); err != nil || asked != atollv1.Consistency_CONSISTENCY_EVENTUAL {
		t.Errorf("eventual asks for %v, %v", asked, err)
	}
}

func TestPutCarriesItsOptions(t *testing.T) {
	var got *atollv1.PutRequest
	f := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
		got = proto.CloneOf(r)
		return &atollv1.PutResponse{Version: "v2"}, nil
	}}
	c := newClient(t, []string{serve(t, f)})
	ctx := testContext(t)
	cases := map[string]struct {
		opt  WriteOption
		want *atollv1.Condition
	}{
		"absent":  {IfAbsent(), &atollv1.Condition{Test: &atollv1.Condition_IfAbsent{IfAbsent: true}}},
		"present": {IfPresent(), &atollv1.Condition{Test: &atollv1.Condition_IfPresent{IfPresent: true}}},
		"version": {IfVersion("v1"), &atollv1.Condition{Test: &atollv1.Condition_IfVersion{IfVersion: "v1"}}},
		"value":   {IfValue([]byte("o")), &atollv1.Condition{Test: &atollv1.Condition_IfValue{IfValue: []byte("o")}}},
	}
	for name, tc := range cases {
		if _, err := c.Put(ctx, "k", []byte("x"), WithTTL(time.Minute), tc.opt); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got.GetCondition(), tc.want) || got.GetTtl().AsDuration() != time.Minute {
			t.Errorf("%s: sent %v", name, got)
		}
	}
	version, err := c.CompareAndSwap(ctx, "k", []byte("o"), []byte("n"))
	if err != nil || version != "v2" || !proto.Equal(got.GetCondition(), cases["value"].want) || string(got.GetValue()) != "n" {
		t.Errorf("compare and swap sent %v, got %q, %v", got, version, err)
	}
}

func TestDelete(t *testing.T) {
	f := &fakeServer{del: func(_ context.Context, r *atollv1.DeleteRequest) (*atollv1.DeleteResponse, error) {
		return &atollv1.DeleteResponse{Existed: r.GetType() == atollv1.Type_TYPE_COUNTER}, nil
	}}
	c := newClient(t, []string{serve(t, f)})
	if existed, err := c.Delete(testContext(t), "k"); err != nil || existed {
		t.Errorf("got %v, %v", existed, err)
	}
	if existed, err := c.Delete(testContext(t), "k", OfType(TypeCounter)); err != nil || !existed {
		t.Errorf("got %v, %v", existed, err)
	}
}

func counterResult(n int64) *atollv1.UpdateResponse {
	return &atollv1.UpdateResponse{Result: &atollv1.UpdateResult{
		Result: &atollv1.UpdateResult_Counter{Counter: &atollv1.CounterValue{Value: n}},
	}}
}

func TestCounter(t *testing.T) {
	ctx := testContext(t)
	value := int64(0)
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			switch op := r.GetOp().GetOp().(type) {
			case *atollv1.Op_CounterAdd:
				value += op.CounterAdd.GetDelta()
			case *atollv1.Op_CounterSet:
				value = op.CounterSet.GetValue()
			case *atollv1.Op_CounterReset:
				value = 0
			}
			return counterResult(value), nil
		},
		query: func(context.Context, *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			return &atollv1.QueryResponse{Result: &atollv1.QueryResult{
				Result: &atollv1.QueryResult_Counter{Counter: &atollv1.CounterValue{Value: value}},
			}}, nil
		},
	}
	counter := newClient(t, []string{serve(t, f)}).Counter("k")
	if n, err := counter.Add(ctx, 5); err != nil || n != 5 {
		t.Errorf("add: %d, %v", n, err)
	}
	if n, err := counter.Set(ctx, 40); err != nil || n != 40 {
		t.Errorf("set: %d, %v", n, err)
	}
	if n, err := counter.Add(ctx, -50); err != nil || n != -10 {
		t.Errorf("add: %d, %v", n, err)
	}
	if n, err := counter.Value(ctx); err != nil || n != -10 {
		t.Errorf("value: %d, %v", n, err)
	}
	if err := counter.Reset(ctx); err != nil || value != 0 {
		t.Errorf("reset: %d, %v", value, err)
	}
}

func TestSetMembersPages(t *testing.T) {
	const total = 25
	f := &fakeServer{query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
		page := &atollv1.SetMembersPage{Size: total}
		cursor := r.GetQuery().GetSetMembers().GetCursor()
		for i := range total {
			member := fmt.Appendf(nil, "m%02d", i)
			if bytes.Compare(member, cursor) <= 0 {
				continue
			}
			page.Members = append(page.Members, member)
			if len(page.Members) == 10 && i < total-1 {
				page.Cursor = member
				break
			}
		}
		return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_SetMembers{SetMembers: page}}}, nil
	}}
	set := newClient(t, []string{serve(t, f)}).Set("k")
	n := 0
	for member, err := range set.Members(testContext(t)) {
		if want := fmt.Sprintf("m%02d", n); err != nil || string(member) != want {
			t.Fatalf("got %q, %v, want %s", member, err, want)
		}
		n++
	}
	if n != total {
		t.Errorf("%d members, want %d", n, total)
	}
	for range set.Members(testContext(t)) {
		break // must not go on after this
	}
}

func TestSetOperations(t *testing.T) {
	ctx := testContext(t)
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			change := &atollv1.SetChange{Size: 10}
			switch op := r.GetOp().GetOp().(type) {
			case *atollv1.Op_SetAdd:
				change.Changed = uint64(len(op.SetAdd.GetElements()))
			case *atollv1.Op_SetRemove:
				change.Changed = 100 + uint64(len(op.SetRemove.GetElements()))
			case *atollv1.Op_SetClear:
				change.Changed = 1000
			}
			return &atollv1.UpdateResponse{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Set{Set: change}}}, nil
		},
		query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			res := &atollv1.QueryResult{Result: &atollv1.QueryResult_SetSize{SetSize: 10}}
			if q := r.GetQuery().GetSetContains(); q != nil {
				res.Result = &atollv1.QueryResult_SetContains{SetContains: &atollv1.SetContainsResult{Contains: []bool{true, false}}}
			}
			return &atollv1.QueryResponse{Result: res}, nil
		},
	}
	set := newClient(t, []string{serve(t, f)}).Set("k")
	two := [][]byte{[]byte("a"), []byte("b")}
	change, err := set.Add(ctx, two)
	noError(t, err)
	equal(t, "add", change, SetChange{10, 2})
	change, err = set.Remove(ctx, two)
	noError(t, err)
	equal(t, "remove", change, SetChange{10, 102})
	change, err = set.Clear(ctx)
	noError(t, err)
	equal(t, "clear", change, SetChange{10, 1000})
	if in, err := set.Contains(ctx, two); err != nil || len(in) != 2 || !in[0] || in[1] {
		t.Errorf("contains: %v, %v", in, err)
	}
	if n, err := set.Size(ctx); err != nil || n != 10 {
		t.Errorf("size: %d, %v", n, err)
	}
}

func TestBatchAndGetMany(t *testing.T) {
	ctx := testContext(t)
	f := &fakeServer{
		batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
			if r.GetOptions().GetOpId() != "id" || r.GetItems()[0].GetPut().GetOptions() != nil {
				t.Errorf("options: %v", r)
			}
			return &atollv1.BatchWriteResponse{
				Items: []*atollv1.BatchWriteItem{
					{Version: "1"},
					{Existed: true},
					{Result: counterResult(3).GetResult()},
					{Error: &atollv1.Error{Code: "failed_precondition", Reason: "WRONG_TYPE"}},
				},
				Groups: []*atollv1.BatchGroup{{Committed: true, Info: &atollv1.ReplyInfo{Region: "eu"}}},
			}, nil
		},
		batchGet: func(_ context.Context, r *atollv1.BatchGetRequest) (*atollv1.BatchGetResponse, error) {
			return &atollv1.BatchGetResponse{Items: []*atollv1.BatchGetItem{
				{Response: &atollv1.GetResponse{Found: true, Value: []byte(r.GetItems()[0].GetKey())}},
				{Response: &atollv1.GetResponse{}},
				{Error: &atollv1.Error{Code: "unavailable", Reason: "NO_LEADER"}},
			}}, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	var info Info
	got, err := c.Batch(ctx, []Write{
		NewPut("a", []byte("x"), WithTTL(time.Second)), NewDelete("b"), NewCounterAdd("c", 3), NewSetAdd("d", nil),
	}, WithOpID("id"), WithInfo(&info))
	noError(t, err)
	equal(t, "results", len(got), 4)
	equal(t, "region", info.Region, "eu")
	equal(t, "put", got[0].Key+got[0].Version, "a1")
	equal(t, "delete", got[1].Existed, true)
	equal(t, "counter", got[2].Counter, 3)
	equal(t, "refusal", errors.Is(got[3].Err, ErrWrongType), true)
	values, err := c.GetMany(ctx, []string{"a", "b", "c"})
	noError(t, err)
	equal(t, "first value", string(values[0].Value.Bytes), "a")
	equal(t, "absent key", errors.Is(values[1].Err, ErrNotFound), true)
	equal(t, "unavailable key", errors.Is(values[2].Err, ErrUnavailable), true)
	if _, err := c.Batch(ctx, []Write{NewPut("a", nil)}, WithOpID("id")); !errors.Is(err, ErrInternal) {
		t.Errorf("a reply of another length: %v", err)
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	for name, build := range map[string]func() (*Client, error){
		"no endpoint": func() (*Client, error) { return New(nil) },
		"scheme":      func() (*Client, error) { return New([]string{"ftp://h:1"}) },
		"no host":     func() (*Client, error) { return New([]string{"http://"}) },
		"attempts":    func() (*Client, error) { return New([]string{"h:1"}, WithMaxAttempts(0)) },
		"timeout":     func() (*Client, error) { return New([]string{"h:1"}, WithTimeout(-1)) },
	} {
		if _, err := build(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := New([]string{"h:1", "https://h:2/"})
	if err != nil || c.shared.seeds[0].address != "http://h:1" || c.shared.seeds[1].address != "https://h:2" {
		t.Errorf("got %+v, %v", c, err)
	}
}
