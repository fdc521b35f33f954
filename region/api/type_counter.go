package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var counterAPI = typeAPI{
	of: crdt.TypeCounter,
	operation: func(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
		switch o := o.GetOp().(type) {
		case *atollv1.Op_CounterAdd:
			return replica.Op{Kind: replica.OpCounterAdd, Delta: o.CounterAdd.GetDelta()}, nil, true
		case *atollv1.Op_CounterSet:
			return replica.Op{Kind: replica.OpCounterSet, Delta: o.CounterSet.GetValue()}, nil, true
		case *atollv1.Op_CounterReset:
			return replica.Op{Kind: replica.OpCounterReset}, nil, true
		default:
			return replica.Op{}, nil, false
		}
	},
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Counter{Counter: &atollv1.CounterValue{Value: out.Counter}}}
	},
	value: func(_ *Server, _ *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Counter{Counter: &atollv1.CounterValue{Value: o.Counter}}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		_, ok := q.GetQuery().(*atollv1.QueryOp_Counter)
		return nil, ok
	},
	answer: func(_ *Server, _ *replica.Replica, _ *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Counter{Counter: &atollv1.CounterValue{Value: o.Counter}}}, nil
	},
}
