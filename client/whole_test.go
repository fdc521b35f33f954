package client

import (
	"context"
	"errors"
	"slices"
	"testing"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestExtremes(t *testing.T) {
	ctx := testContext(t)
	values := map[string]*atollv1.GetResponse{}
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			n, typ := r.GetOp().GetMax().GetValue(), atollv1.Type_TYPE_MAX_REGISTER
			if r.GetOp().GetMin() != nil {
				n, typ = r.GetOp().GetMin().GetValue(), atollv1.Type_TYPE_MIN_REGISTER
			}
			v := &atollv1.ExtremeValue{Value: n}
			values[r.GetKey()] = &atollv1.GetResponse{Found: true, Type: typ, Typed: &atollv1.TypedValue{Value: &atollv1.TypedValue_Extreme{Extreme: v}}}
			return &atollv1.UpdateResponse{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Extreme{Extreme: v}}}, nil
		},
		get: func(_ context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			if v := values[r.GetKey()]; v != nil {
				return v, nil
			}
			return &atollv1.GetResponse{}, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	if n, found, err := c.Max("max").Value(ctx); err != nil || found || n != 0 {
		t.Errorf("absent: %d, %v, %v", n, found, err)
	}
	n, err := c.Max("max").Raise(ctx, 7)
	noError(t, err)
	equal(t, "maximum", n, 7)
	n, err = c.Min("min").Lower(ctx, -7)
	noError(t, err)
	equal(t, "minimum", n, -7)
	if n, found, err := c.Max("max").Value(ctx); err != nil || !found || n != 7 {
		t.Errorf("maximum: %d, %v, %v", n, found, err)
	}
	if n, found, err := c.Min("min").Value(ctx); err != nil || !found || n != -7 {
		t.Errorf("minimum: %d, %v, %v", n, found, err)
	}
	v, err := c.Get(ctx, "max")
	noError(t, err)
	equal(t, "number", v.Counter, 7)
	equal(t, "type", v.Type, TypeMax)
	if _, _, err := c.Max("min").Value(ctx); !errors.Is(err, ErrWrongType) {
		t.Errorf("the maximum of a minimum: %v", err)
	}
}

func TestBoundedCounter(t *testing.T) {
	ctx := testContext(t)
	value := &atollv1.BoundedValue{Rights: []*atollv1.Rights{{Region: "eu"}, {Region: "us"}}}
	f := &fakeServer{
		update: func(_ context.Context, r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
			inc, dec, give := r.GetOp().GetBcounterInc().GetN(), r.GetOp().GetBcounterDec().GetN(), r.GetOp().GetBcounterTransfer()
			value.Value += inc - dec
			value.Rights[0].Rights += inc - dec - give.GetN()
			if give != nil {
				equal(t, "to", give.GetToRegion(), "us")
				value.Rights[1].Rights += give.GetN()
			}
			return &atollv1.UpdateResponse{Result: &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Bounded{Bounded: value}}}, nil
		},
		query: func(_ context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
			equal(t, "asked", r.GetQuery().GetBcounter() != nil, true)
			return &atollv1.QueryResponse{Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Bounded{Bounded: value}}}, nil
		},
		get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			typed := &atollv1.TypedValue{Value: &atollv1.TypedValue_Bounded{Bounded: value}}
			return &atollv1.GetResponse{Found: true, Type: atollv1.Type_TYPE_BOUNDED_COUNTER, Typed: typed}, nil
		},
	}
	c := newClient(t, []string{serve(t, f)})
	b := c.BoundedCounter("b")
	n, err := b.Inc(ctx, 9)
	noError(t, err)
	equal(t, "inc", n, 9)
	n, err = b.Dec(ctx, 2)
	noError(t, err)
	equal(t, "dec", n, 7)
	noError(t, b.Transfer(ctx, 3, "us"))
	want := []RegionRights{{"eu", 4}, {"us", 3}}
	n, rights, err := b.Value(ctx)
	if err != nil || n != 7 || !slices.Equal(rights, want) {
		t.Errorf("value: %d, %v, %v", n, rights, err)
	}
	if v, err := c.Get(ctx, "b"); err != nil || v.Counter != 7 || !slices.Equal(v.Rights, want) || v.Type != TypeBoundedCounter {
		t.Errorf("get: %+v, %v", v, err)
	}
}

func TestWholeValuesInABatch(t *testing.T) {
	f := &fakeServer{batchWrite: func(_ context.Context, r *atollv1.BatchWriteRequest) (*atollv1.BatchWriteResponse, error) {
		res := &atollv1.BatchWriteResponse{}
		for _, w := range r.GetItems() {
			op := w.GetUpdate().GetOp()
			bounded := &atollv1.BoundedValue{Value: op.GetBcounterInc().GetN() - op.GetBcounterDec().GetN()}
			result := &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Bounded{Bounded: bounded}}
			if n := op.GetMax().GetValue() + op.GetMin().GetValue(); n != 0 {
				result.Result = &atollv1.UpdateResult_Extreme{Extreme: &atollv1.ExtremeValue{Value: n}}
			}
			res.Items = append(res.Items, &atollv1.BatchWriteItem{Result: result})
		}
		return res, nil
	}}
	got, err := newClient(t, []string{serve(t, f)}).Batch(testContext(t), []Write{
		NewBoundedInc("b", 5), NewBoundedDec("b", 3), NewMax("max", 8), NewMin("min", -8),
	})
	noError(t, err)
	for i, want := range []int64{5, -3, 8, -8} {
		equal(t, got[i].Key, got[i].Counter, want)
	}
}
