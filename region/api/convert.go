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
func putOf(r *atollv1.PutRequest, now time.Time) (replica.Op, *failure) {
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
	op.Condition, f = conditionOf(r.GetCondition())
	return op, f
}

// deleteOf checks a Delete and returns it for the replica.
func deleteOf(r *atollv1.DeleteRequest) (replica.Op, *failure) {
	op := replica.Op{Kind: replica.OpDelete, Key: r.GetKey()}
	var f *failure
	if op.Namespace, f = checkName(r.GetNamespace(), r.GetKey()); f != nil {
		return op, f
	}
	op.Type = crdt.Type(r.GetType())
	if op.Type > crdt.TypeLWWRegister && typeOf(op.Type) == nil {
		return op, invalid("type", "unknown type %d", r.GetType())
	}
	op.Condition, f = conditionOf(r.GetCondition())
	return op, f
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
	if ttl := r.GetTtl(); ttl.GetSeconds() != 0 || ttl.GetNanos() != 0 {
		return op, notServed("ttl", "a time to live in an update")
	}
	if op.Condition, f = conditionOf(r.GetCondition()); f != nil {
		return op, f
	}
	if op.Condition.Kind == replica.CondValue && op.Type != crdt.TypeLWWRegister {
		return op, invalid("condition.if_value", "only registers have a value to compare; use if_version")
	}
	return op, nil
}

// registerOperation checks an operation of a register; ok is false if it is one of another type.
func (s *Server) registerOperation(o *atollv1.Op) (op replica.Op, f *failure, ok bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_Expire:
		ttl := o.Expire.GetTtl()
		if ttl == nil || checkTTL(ttl) != nil || ttl.AsDuration() == 0 {
			return op, fail(reasonInvalidArgument, "op.expire.ttl: must be more than 0 and at most 100 years",
				"field", "op.expire.ttl", "limit", maxTTL.String()), true
		}
		at := expiryOf(s.clock(), ttl.AsDuration())
		return replica.Op{Kind: replica.OpExpire, Type: crdt.TypeLWWRegister, Expires: at}, nil, true
	case *atollv1.Op_Persist:
		return replica.Op{Kind: replica.OpPersist, Type: crdt.TypeLWWRegister}, nil, true
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
