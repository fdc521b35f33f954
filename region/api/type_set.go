package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var setAPI = typeAPI{
	of:        crdt.TypeAWSet,
	operation: setOperation,
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Set{Set: &atollv1.SetChange{Size: out.Size, Changed: out.Changed}}}
	},
	value: func(_ *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		members, _, err := r.SetMembers(o.Namespace, o.Key, nil, valueMembers, valueMemberBytes)
		if err != nil {
			return nil, err
		}
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Set{Set: &atollv1.SetValue{Size: o.Size, Members: members}}}, nil
	},
	query:  checkSetQuery,
	answer: answerSet,
}

func setOperation(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_SetAdd:
		elements := o.SetAdd.GetElements()
		return replica.Op{Kind: replica.OpSetAdd, Elements: elements}, checkElements("op.set_add.elements", elements), true
	case *atollv1.Op_SetRemove:
		elements := o.SetRemove.GetElements()
		return replica.Op{Kind: replica.OpSetRemove, Elements: elements}, checkElements("op.set_remove.elements", elements), true
	case *atollv1.Op_SetClear:
		return replica.Op{Kind: replica.OpSetClear}, nil, true
	default:
		return replica.Op{}, nil, false
	}
}

func checkSetQuery(q *atollv1.QueryOp) (*failure, bool) {
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_SetContains:
		return checkElements("query.set_contains.elements", q.SetContains.GetElements()), true
	case *atollv1.QueryOp_SetMembers:
		return checkPage("query.set_members", q.SetMembers.GetLimit(), q.SetMembers.GetCursor()), true
	case *atollv1.QueryOp_SetSize:
		return nil, true
	default:
		return nil, false
	}
}

// checkPage checks what asks for a page of a collection.
func checkPage(field string, limit uint32, cursor []byte) *failure {
	if limit > maxMembersLimit {
		return invalid(field+".limit", "must be at most %d", maxMembersLimit)
	}
	if len(cursor) > maxElementBytes {
		return tooLong(reasonInvalidArgument, field+".cursor", maxElementBytes)
	}
	return nil
}

// pageLimit returns how many items a page may have.
func pageLimit(asked uint32) int {
	if asked == 0 {
		return defaultMembersLimit
	}
	return int(asked)
}

func answerSet(_ *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_SetContains:
		contains, err := r.SetContains(o.Namespace, o.Key, q.SetContains.GetElements())
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_SetContains{
			SetContains: &atollv1.SetContainsResult{Contains: contains},
		}}, err
	case *atollv1.QueryOp_SetMembers:
		limit := pageLimit(q.SetMembers.GetLimit())
		members, more, err := r.SetMembers(o.Namespace, o.Key, q.SetMembers.GetCursor(), limit, membersPageBytes)
		if err != nil {
			return nil, err
		}
		page := &atollv1.SetMembersPage{Members: members, Size: o.Size}
		if more && len(members) > 0 {
			page.Cursor = members[len(members)-1]
		}
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_SetMembers{SetMembers: page}}, nil
	default:
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_SetSize{SetSize: o.Size}}, nil
	}
}
