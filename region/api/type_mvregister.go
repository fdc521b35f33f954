package api

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var mvRegisterAPI = typeAPI{
	of: crdt.TypeMVRegister,
	operation: func(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
		put, ok := o.GetOp().(*atollv1.Op_MvrPut)
		if !ok {
			return replica.Op{}, nil, false
		}
		value := put.MvrPut.GetValue()
		if len(value) > maxValueBytes {
			return replica.Op{}, tooLong(reasonValueTooLarge, "op.mvr_put.value", maxValueBytes), true
		}
		return replica.Op{Kind: replica.OpMVPut, Value: value}, nil, true
	},
	result: noResult,
	value: func(s *Server, _ *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Siblings{Siblings: s.siblings(o)}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		_, ok := q.GetQuery().(*atollv1.QueryOp_MvrSiblings)
		return nil, ok
	},
	answer: func(s *Server, _ *replica.Replica, _ *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Siblings{Siblings: s.siblings(o)}}, nil
	},
}

// siblings returns all of them, however many: whoever writes next takes the place of each one, and so
// must have been able to read it.
func (s *Server) siblings(o *replica.Object) *atollv1.SiblingsValue {
	v := &atollv1.SiblingsValue{Siblings: make([]*atollv1.Sibling, len(o.Siblings))}
	for i, sibling := range o.Siblings {
		name, _ := s.actorName(sibling.Dot.Actor)
		v.Siblings[i] = &atollv1.Sibling{Value: sibling.Value, Time: timestamppb.New(sibling.Time.Wall()), Region: name}
	}
	return v
}
