package client

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestHLL(t *testing.T) {
	ctx := testContext(t)
	r := &recording{
		result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Hll{Hll: &atollv1.HLLValue{Count: 3, Changed: true}}},
		pages:  []*atollv1.QueryResult{{Result: &atollv1.QueryResult_Hll{Hll: &atollv1.HLLValue{Count: 7}}}, nil},
	}
	f := r.server()
	f.get = func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
		typed := &atollv1.TypedValue{Value: &atollv1.TypedValue_Hll{Hll: &atollv1.HLLValue{Count: 7}}}
		return &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_HLL, Typed: typed}, nil
	}
	c := newClient(t, []string{serve(t, f)})
	h, elements := c.HLL("h"), [][]byte{[]byte("a"), []byte("b")}
	change, err := h.Add(ctx, elements)
	noError(t, err)
	equal(t, "add", change, HLLChange{Count: 3, Changed: true})
	sameOp(t, r.ops[0], hllAdd(elements))
	n, err := h.Count(ctx)
	noError(t, err)
	equal(t, "count", n, 7)
	equal(t, "asked", r.queries[0].GetHllCount() != nil, true)
	n, err = h.Count(ctx)
	noError(t, err)
	equal(t, "absent", n, 0)
	v, err := c.Get(ctx, "h")
	noError(t, err)
	equal(t, "type", v.Type, TypeHLL)
	equal(t, "size", v.Size, 7)
}

func TestHLLOfAnotherType(t *testing.T) {
	ctx := testContext(t)
	wrong := refusal(connect.CodeFailedPrecondition, ReasonWrongType, 0, "type_found", "counter")
	h := newClient(t, []string{serve(t, &fakeServer{
		update: func(context.Context, *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) { return nil, wrong },
		query:  func(context.Context, *atollv1.QueryRequest) (*atollv1.QueryResponse, error) { return nil, wrong },
	})}).HLL("h")
	if change, err := h.Add(ctx, [][]byte{[]byte("a")}); !errors.Is(err, ErrWrongType) || change != (HLLChange{}) {
		t.Errorf("add: %+v, %v", change, err)
	}
	if n, err := h.Count(ctx); !errors.Is(err, ErrWrongType) || n != 0 {
		t.Errorf("count: %d, %v", n, err)
	}
}

func TestHLLInABatch(t *testing.T) {
	f := &fakeServer{batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
		res := &atollv1.BatchWriteResponse{}
		for i, w := range r.GetItems() {
			v := &atollv1.HLLValue{Count: uint64(len(w.GetUpdate().GetOp().GetHllAdd().GetElements())), Changed: i == 0}
			res.Items = append(res.Items, &atollv1.BatchWriteItem{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Hll{Hll: v}}})
		}
		return res, nil
	}}
	elements := [][]byte{[]byte("a"), []byte("b")}
	got, err := newClient(t, []string{serve(t, f)}).Batch(testContext(t), []Write{NewHLLAdd("h", elements), NewHLLAdd("i", elements[:1])})
	noError(t, err)
	equal(t, "first", got[0].HLL, HLLChange{Count: 2, Changed: true})
	equal(t, "second", got[1].HLL, HLLChange{Count: 1})
}
