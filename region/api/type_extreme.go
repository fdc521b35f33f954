package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var maxAPI = typeAPI{
	of: crdt.TypeMaxRegister,
	operation: func(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
		_, ok := o.GetOp().(*atollv1.Op_Max)
		return replica.Op{Kind: replica.OpMax, Delta: o.GetMax().GetValue()}, nil, ok
	},
	result: extremeResult, value: extremeValue, query: isExtremeQuery, answer: answerExtreme,
}

var minAPI = typeAPI{
	of: crdt.TypeMinRegister,
	operation: func(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
		_, ok := o.GetOp().(*atollv1.Op_Min)
		return replica.Op{Kind: replica.OpMin, Delta: o.GetMin().GetValue()}, nil, ok
	},
	result: extremeResult, value: extremeValue, query: isExtremeQuery, answer: answerExtreme,
}

func extremeResult(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
	return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Extreme{Extreme: &atollv1.ExtremeValue{Value: out.Counter}}}
}

func extremeValue(_ *Server, _ *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
	return &atollv1.TypedValue{Value: &atollv1.TypedValue_Extreme{Extreme: &atollv1.ExtremeValue{Value: o.Counter}}}, nil
}

// isExtremeQuery: the query is about a maximum, and about a minimum where there is none.
func isExtremeQuery(q *atollv1.QueryOp) (*failure, bool) {
	_, ok := q.GetQuery().(*atollv1.QueryOp_Extreme)
	return nil, ok
}

func answerExtreme(_ *Server, _ *replica.Replica, _ *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_Extreme{Extreme: &atollv1.ExtremeValue{Value: o.Counter}}}, nil
}
