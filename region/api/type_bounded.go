package api

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

var boundedAPI = typeAPI{
	of:        crdt.TypeBoundedCounter,
	operation: boundedOperation,
	// The rights of all regions take a query: what an operation remembers for a retry is its value.
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Bounded{Bounded: &atollv1.BoundedValue{Value: out.Counter}}}
	},
	value: func(s *Server, _ *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Bounded{Bounded: s.boundedValue(o)}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		_, ok := q.GetQuery().(*atollv1.QueryOp_Bcounter)
		return nil, ok
	},
	answer: func(s *Server, _ *replica.Replica, _ *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Bounded{Bounded: s.boundedValue(o)}}, nil
	},
}

func boundedOperation(s *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	switch o := o.GetOp().(type) {
	case *atollv1.Op_BcounterInc:
		n := o.BcounterInc.GetN()
		return replica.Op{Kind: replica.OpBoundedInc, Delta: n}, checkAmount("op.bcounter_inc.n", n), true
	case *atollv1.Op_BcounterDec:
		n := o.BcounterDec.GetN()
		return replica.Op{Kind: replica.OpBoundedDec, Delta: n}, checkAmount("op.bcounter_dec.n", n), true
	case *atollv1.Op_BcounterTransfer:
		n, name := o.BcounterTransfer.GetN(), o.BcounterTransfer.GetToRegion()
		op := replica.Op{Kind: replica.OpBoundedTransfer, Delta: n}
		to, ok := s.cluster.RegionNamed(name)
		if !ok {
			return op, invalid("op.bcounter_transfer.to_region", "there is no region %q", name), true
		}
		op.ToActor = to.Actor()
		return op, checkAmount("op.bcounter_transfer.n", n), true
	default:
		return replica.Op{}, nil, false
	}
}

func checkAmount(field string, n int64) *failure {
	if n <= 0 {
		return invalid(field, "must be more than 0")
	}
	return nil
}

// boundedValue has the rights of every region of the cluster, and those that are left to actors that
// are no region's any more: they are in the value, and nobody can take them.
func (s *Server) boundedValue(o *replica.Object) *atollv1.BoundedValue {
	v := &atollv1.BoundedValue{Value: o.Counter}
	var present []crdt.Actor
	for i := range s.cluster.Regions {
		r := &s.cluster.Regions[i]
		present = append(present, r.Actor())
		v.Rights = append(v.Rights, &atollv1.Rights{Region: r.Name, Rights: max(0, o.Bounded.Rights(r.Actor()))})
	}
	for _, a := range o.Bounded.Actors() {
		if left := o.Bounded.Rights(a); left > 0 && !slices.Contains(present, a) {
			v.Rights = append(v.Rights, &atollv1.Rights{Region: s.cluster.ActorName(a), Rights: left})
		}
	}
	return v
}
