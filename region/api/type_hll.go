package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var hllAPI = typeAPI{
	of: crdt.TypeHLL,
	operation: func(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
		add, ok := o.GetOp().(*atollv1.Op_HllAdd)
		if !ok {
			return replica.Op{}, nil, false
		}
		elements := add.HllAdd.GetElements()
		return replica.Op{Kind: replica.OpHLLAdd, Elements: elements}, checkElements("op.hll_add.elements", elements), true
	},
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Hll{Hll: &atollv1.HLLValue{Count: out.Size, Changed: out.Changed > 0}}}
	},
	value: func(_ *Server, _ *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Hll{Hll: &atollv1.HLLValue{Count: o.Size}}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		_, ok := q.GetQuery().(*atollv1.QueryOp_HllCount)
		return nil, ok
	},
	answer: func(_ *Server, _ *replica.Replica, _ *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Hll{Hll: &atollv1.HLLValue{Count: o.Size}}}, nil
	},
}
