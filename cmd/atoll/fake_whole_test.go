package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// boundedOf is a bounded counter as region eu sees it.
func (o *object) boundedOf() *atollv1.BoundedValue {
	v := &atollv1.BoundedValue{Value: o.counter}
	for _, name := range slices.Sorted(maps.Keys(o.rights)) {
		v.Rights = append(v.Rights, &atollv1.Rights{Region: name, Rights: o.rights[name]})
	}
	return v
}

// typedWhole returns the value of a type that is kept whole; nil if it is another.
func (o *object) typedWhole() *atollv1.TypedValue {
	switch o.typ {
	case atollv1.Type_TYPE_BOUNDED_COUNTER:
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Bounded{Bounded: o.boundedOf()}}
	case atollv1.Type_TYPE_MAX_REGISTER, atollv1.Type_TYPE_MIN_REGISTER:
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Extreme{Extreme: &atollv1.ExtremeValue{Value: o.counter}}}
	default:
		return nil
	}
}

// wholeType returns the type that an operation is on, 0 for others than those kept whole.
func wholeType(op *atollv1.Op) atollv1.Type {
	switch op.GetOp().(type) {
	case *atollv1.Op_Max:
		return atollv1.Type_TYPE_MAX_REGISTER
	case *atollv1.Op_Min:
		return atollv1.Type_TYPE_MIN_REGISTER
	case *atollv1.Op_BcounterInc, *atollv1.Op_BcounterDec, *atollv1.Op_BcounterTransfer:
		return atollv1.Type_TYPE_BOUNDED_COUNTER
	default:
		return 0
	}
}

func (f *fakeRegion) updateWhole(at string, t atollv1.Type, op *atollv1.Op) (*atollv1.UpdateResponse, error) {
	o, err := f.typed(at, t)
	if err != nil {
		return nil, err
	}
	if o.rights == nil {
		o.rights = map[string]int64{"eu": 0, "us": 0}
	}
	take := op.GetBcounterDec().GetN() + op.GetBcounterTransfer().GetN()
	if have := o.rights[f.name]; take > have {
		return nil, refusal(connect.CodeFailedPrecondition, client.ReasonInsufficientRights, map[string]string{"have": strconv.FormatInt(have, 10)})
	}
	o.rights[f.name] += op.GetBcounterInc().GetN() - take
	o.counter += op.GetBcounterInc().GetN() - op.GetBcounterDec().GetN()
	if give := op.GetBcounterTransfer(); give != nil {
		o.rights[give.GetToRegion()] += give.GetN()
	}
	switch {
	case op.GetMax() != nil && (o.seq == 0 || op.GetMax().GetValue() > o.counter):
		o.counter = op.GetMax().GetValue()
	case op.GetMin() != nil && (o.seq == 0 || op.GetMin().GetValue() < o.counter):
		o.counter = op.GetMin().GetValue()
	}
	f.store.seq++
	o.seq = f.store.seq
	f.store.objects[at] = o
	res := &atollv1.UpdateResponse{Version: fmt.Sprint("v", o.seq), Info: f.info(), Result: &atollv1.UpdateResult{}}
	if t == atollv1.Type_TYPE_BOUNDED_COUNTER {
		res.Result.Result = &atollv1.UpdateResult_Bounded{Bounded: o.boundedOf()}
	} else {
		res.Result.Result = &atollv1.UpdateResult_Extreme{Extreme: &atollv1.ExtremeValue{Value: o.counter}}
	}
	return res, nil
}
