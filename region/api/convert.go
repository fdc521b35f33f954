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
	switch r.GetType() {
	case atollv1.Type_TYPE_UNSPECIFIED, atollv1.Type_TYPE_LWW_REGISTER, atollv1.Type_TYPE_COUNTER, atollv1.Type_TYPE_AW_SET:
		op.Type = crdt.Type(r.GetType())
	default:
		return op, invalid("type", "unknown type %d", r.GetType())
	}
	op.Condition, f = conditionOf(r.GetCondition())
	return op, f
}

// updateOf checks an Update and returns it for the replica. now is what a time to live counts from.
func updateOf(r *atollv1.UpdateRequest, now time.Time) (replica.Op, *failure) {
	op, f := operationOf(r.GetOp(), now)
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

func operationOf(o *atollv1.Op, now time.Time) (replica.Op, *failure) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_CounterAdd:
		return replica.Op{Kind: replica.OpCounterAdd, Type: crdt.TypeCounter, Delta: o.CounterAdd.GetDelta()}, nil
	case *atollv1.Op_CounterSet:
		return replica.Op{Kind: replica.OpCounterSet, Type: crdt.TypeCounter, Delta: o.CounterSet.GetValue()}, nil
	case *atollv1.Op_CounterReset:
		return replica.Op{Kind: replica.OpCounterReset, Type: crdt.TypeCounter}, nil
	case *atollv1.Op_SetAdd:
		elements := o.SetAdd.GetElements()
		return replica.Op{Kind: replica.OpSetAdd, Type: crdt.TypeAWSet, Elements: elements}, checkElements("op.set_add.elements", elements)
	case *atollv1.Op_SetRemove:
		elements := o.SetRemove.GetElements()
		return replica.Op{Kind: replica.OpSetRemove, Type: crdt.TypeAWSet, Elements: elements}, checkElements("op.set_remove.elements", elements)
	case *atollv1.Op_SetClear:
		return replica.Op{Kind: replica.OpSetClear, Type: crdt.TypeAWSet}, nil
	case *atollv1.Op_Expire:
		ttl := o.Expire.GetTtl()
		if ttl == nil || checkTTL(ttl) != nil || ttl.AsDuration() == 0 {
			return replica.Op{}, fail(reasonInvalidArgument, "op.expire.ttl: must be more than 0 and at most 100 years",
				"field", "op.expire.ttl", "limit", maxTTL.String())
		}
		return replica.Op{Kind: replica.OpExpire, Type: crdt.TypeLWWRegister, Expires: expiryOf(now, ttl.AsDuration())}, nil
	case *atollv1.Op_Persist:
		return replica.Op{Kind: replica.OpPersist, Type: crdt.TypeLWWRegister}, nil
	default:
		return replica.Op{}, invalid("op", "must be set to an operation that this version serves")
	}
}

// updateResult returns what an operation of a typed value answers; nil for a register.
func updateResult(op *replica.Op, out *replica.Outcome) *atollv1.UpdateResult {
	switch op.Type {
	case crdt.TypeCounter:
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Counter{Counter: &atollv1.CounterValue{Value: out.Counter}}}
	case crdt.TypeAWSet:
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Set{Set: &atollv1.SetChange{Size: out.Size, Changed: out.Changed}}}
	default:
		return nil
	}
}

// typedValue returns the natural value of what is no register; nil for a register. Of a set it reads
// the first members.
func typedValue(r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
	switch o.Type {
	case crdt.TypeCounter:
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Counter{Counter: &atollv1.CounterValue{Value: o.Counter}}}, nil
	case crdt.TypeAWSet:
		members, _, err := r.SetMembers(o.Namespace, o.Key, nil, valueMembers, valueMemberBytes)
		if err != nil {
			return nil, err
		}
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Set{Set: &atollv1.SetValue{Size: o.Size, Members: members}}}, nil
	default:
		return nil, nil
	}
}

// timeLeft returns an object's time to live; nil if it does not expire.
func timeLeft(o *replica.Object, now hlc.Time) *durationpb.Duration {
	if o.Expires == 0 {
		return nil
	}
	return durationpb.New(max(o.Expires.Wall().Sub(now.Wall()), time.Millisecond))
}
