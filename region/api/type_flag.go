package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var flagAPI = typeAPI{
	of: crdt.TypeEWFlag,
	operation: func(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
		switch o.GetOp().(type) {
		case *atollv1.Op_FlagEnable:
			return replica.Op{Kind: replica.OpFlagEnable}, nil, true
		case *atollv1.Op_FlagDisable:
			return replica.Op{Kind: replica.OpFlagDisable}, nil, true
		default:
			return replica.Op{}, nil, false
		}
	},
	result: noResult,
	value: func(_ *Server, _ *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Flag{Flag: flagValue(o)}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		_, ok := q.GetQuery().(*atollv1.QueryOp_Flag)
		return nil, ok
	},
	answer: func(_ *Server, _ *replica.Replica, _ *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Flag{Flag: flagValue(o)}}, nil
	},
}

// flagValue returns the value of a flag, of which an absent one has no enables.
func flagValue(o *replica.Object) *atollv1.FlagValue {
	return &atollv1.FlagValue{Enabled: len(o.Siblings) > 0}
}

// noResult is for operations whose answer is the version.
func noResult(*Server, *replica.Outcome) *atollv1.UpdateResult { return nil }
