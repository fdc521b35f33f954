package api

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// typeAPI is how the API speaks of the values of one type. Where ok is returned, it is false for what
// is about another type.
type typeAPI struct {
	of crdt.Type
	// operation checks an operation and returns it for the replica.
	operation func(s *Server, o *atollv1.Op) (op replica.Op, f *failure, ok bool)
	// result is what an operation answers.
	result func(s *Server, o *replica.Outcome) *atollv1.UpdateResult
	// value is the natural value, of a collection the size and what comes first.
	value func(s *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error)
	// query checks a query. One that several types know is about the first of them that the key holds.
	query func(q *atollv1.QueryOp) (f *failure, ok bool)
	// answer answers a query; the object is empty if the key is absent.
	answer func(s *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error)
}

// types are those besides registers, which have operations of their own.
var types = []*typeAPI{
	&counterAPI,
	&setAPI,
	&flagAPI,
	&mvRegisterAPI,
	&boundedAPI,
	&maxAPI,
	&minAPI,
	&timelineAPI,
	&mapAPI,
	&zsetAPI,
	&countZSetAPI,
	&hllAPI,
	&ormapAPI,
}

func typeOf(t crdt.Type) *typeAPI {
	for _, a := range types {
		if a.of == t {
			return a
		}
	}
	return nil
}

// operationOf checks an operation of a typed value and returns it for the replica.
func (s *Server) operationOf(o *atollv1.Op) (replica.Op, *failure) {
	if op, f, ok := s.anyOperation(o); ok {
		return op, f
	}
	if u := o.GetOrmapUpdate(); u != nil {
		return s.leafOperation(u)
	}
	if r := o.GetOrmapRemove(); r.GetType() != atollv1.Type_TYPE_UNSPECIFIED {
		return leafRemoval(r)
	}
	for _, t := range types {
		if op, f, ok := t.operation(s, o); ok {
			op.Type = t.of
			return op, f
		}
	}
	return replica.Op{}, invalid("op", "must be set to an operation that this version serves")
}

// updateResult returns what an operation of a typed value answers; nil for a register, and for what can be on
// any type.
func (s *Server) updateResult(op *replica.Op, out *replica.Outcome) *atollv1.UpdateResult {
	if op.Kind == replica.OpExpire || op.Kind == replica.OpPersist {
		return nil
	}
	if t := typeOf(op.Type); t != nil {
		return t.result(s, out)
	}
	return nil
}

// typedValue returns the natural value of what is no register; nil for a register.
func (s *Server) typedValue(r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
	if t := typeOf(o.Type); t != nil {
		return t.value(s, r, o)
	}
	return nil, nil
}

// queried returns the types that a query can be about, or what is wrong with the query.
func queried(q *atollv1.QueryOp) ([]*typeAPI, *failure) {
	if leaf := q.GetOrmapLeaf(); leaf != nil {
		return queriedLeaf(leaf)
	}
	var about []*typeAPI
	for _, t := range types {
		switch f, ok := t.query(q); {
		case !ok:
		case f != nil:
			return nil, f
		default:
			about = append(about, t)
		}
	}
	if len(about) == 0 {
		return nil, invalid("query", "must be set to a query that this version serves")
	}
	return about, nil
}
