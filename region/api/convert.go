package api

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// putOf checks a Put and returns it for the replica. now is what its time to live counts from.
func (s *Server) putOf(r *atollv1.PutRequest, now time.Time) (replica.Op, *failure) {
	op := replica.Op{Kind: replica.OpPut, Key: r.GetKey(), Type: crdt.TypeLWWRegister, Value: r.GetValue()}
	var f *failure
	if op.Namespace, f = checkName(r.GetNamespace(), r.GetKey()); f != nil {
		return op, f
	}
	if len(r.GetValue()) > maxValueBytes {
		return op, tooLong(reasonValueTooLarge, "value", maxValueBytes)
	}
	if f = checkTTL(r.GetTtl()); f != nil {
		return op, f
	}
	if ttl := r.GetTtl().AsDuration(); ttl > 0 {
		op.Expires = expiryOf(now, ttl)
	}
	if op.Condition, f = s.conditionOf(op.Namespace, r.GetCondition()); f != nil {
		return op, f
	}
	return op, s.bind(&op)
}

// deleteOf checks a Delete and returns it for the replica.
func (s *Server) deleteOf(r *atollv1.DeleteRequest) (replica.Op, *failure) {
	op := replica.Op{Kind: replica.OpDelete, Key: r.GetKey()}
	var f *failure
	if op.Namespace, f = checkName(r.GetNamespace(), r.GetKey()); f != nil {
		return op, f
	}
	if op.Type, f = typeNamed("type", r.GetType()); f != nil {
		return op, f
	}
	if op.Condition, f = s.conditionOf(op.Namespace, r.GetCondition()); f != nil {
		return op, f
	}
	return op, s.bind(&op)
}

// typeNamed checks the type that an operation which can be on any names, 0 if it names none.
func typeNamed(field string, t atollv1.Type) (crdt.Type, *failure) {
	of := crdt.Type(t)
	if atollv1.Type(of) != t || of > crdt.TypeLWWRegister && typeOf(of) == nil {
		return 0, invalid(field, "unknown type %d", t)
	}
	return of, nil
}

// updateOf checks an Update and returns it for the replica.
func (s *Server) updateOf(r *atollv1.UpdateRequest) (replica.Op, *failure) {
	op, f := s.operationOf(r.GetOp())
	if f != nil {
		return op, f
	}
	op.Key = r.GetKey()
	if op.Namespace, f = checkName(r.GetNamespace(), r.GetKey()); f != nil {
		return op, f
	}
	if f = s.liveFor(&op, r.GetTtl()); f != nil {
		return op, f
	}
	if op.Condition, f = s.conditionOf(op.Namespace, r.GetCondition()); f != nil {
		return op, f
	}
	if op.Condition.Kind == replica.CondValue && op.Type > crdt.TypeLWWRegister {
		return op, invalid("condition.if_value", "only registers have a value to compare; use if_version")
	}
	return op, s.bind(&op)
}

// liveFor gives an update's operation a time to live.
func (s *Server) liveFor(op *replica.Op, ttl *durationpb.Duration) *failure {
	if f := checkTTL(ttl); f != nil || ttl.AsDuration() == 0 {
		return f
	}
	switch {
	case op.Kind == replica.OpExpire || op.Kind == replica.OpPersist || op.Kind == replica.OpDelete:
		return invalid("ttl", "is for operations that write; leave it out")
	case op.Type == crdt.TypeBoundedCounter:
		return invalid("ttl", "a bounded counter cannot expire: other regions may be using their rights to it")
	}
	op.Expires = expiryOf(s.clock(), ttl.AsDuration())
	return nil
}

// anyOperation checks an operation that can be on values of any type; ok is false if it is of one type.
func (s *Server) anyOperation(o *atollv1.Op) (op replica.Op, f *failure, ok bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_Expire:
		ttl := o.Expire.GetTtl()
		if ttl == nil || checkTTL(ttl) != nil || ttl.AsDuration() == 0 {
			return op, fail(reasonInvalidArgument, "op.expire.ttl: must be more than 0 and at most 100 years",
				"field", "op.expire.ttl", "limit", maxTTL.String()), true
		}
		op = replica.Op{Kind: replica.OpExpire, Expires: expiryOf(s.clock(), ttl.AsDuration())}
		op.Type, f = typeNamed("op.expire.type", o.Expire.GetType())
		return op, f, true
	case *atollv1.Op_RegisterPut:
		op := replica.Op{Kind: replica.OpPut, Type: crdt.TypeLWWRegister, Value: o.RegisterPut.GetValue()}
		if len(op.Value) > maxValueBytes {
			return op, tooLong(reasonValueTooLarge, "op.register_put.value", maxValueBytes), true
		}
		return op, nil, true
	case *atollv1.Op_Persist:
		op = replica.Op{Kind: replica.OpPersist}
		op.Type, f = typeNamed("op.persist.type", o.Persist.GetType())
		return op, f, true
	default:
		return op, nil, false
	}
}

// timeLeft returns an object's time to live; nil if it does not expire.
func timeLeft(o *replica.Object, now hlc.Time) *durationpb.Duration {
	if o.Expires == 0 {
		return nil
	}
	return durationpb.New(max(o.Expires.Wall().Sub(now.Wall()), time.Millisecond))
}
