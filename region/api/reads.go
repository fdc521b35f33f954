package api

import (
	"context"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// Of a set, Get and Scan return this much.
	valueMembers     = 1000
	valueMemberBytes = 256 << 10

	defaultMembersLimit = 1000
	membersPageBytes    = 1 << 20
)

// Get returns a key's value.
func (k *kvService) Get(ctx context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	s := k.server()
	namespace, how, f := checkRead(r.GetNamespace(), r.GetKey(), r.GetOptions())
	if f != nil {
		return nil, f
	}
	partition := s.cluster.PartitionOf(namespace, r.GetKey())
	return routeRead(ctx, s, readCall[*atollv1.GetResponse]{
		partition: partition,
		how:       how,
		local: func(ctx context.Context, p Partition, how reading) (*atollv1.GetResponse, error) {
			var res *atollv1.GetResponse
			info := s.replyInfo(partition)
			err := readFrom(ctx, p, how, info, func(rep *replica.Replica, now hlc.Time) (err error) {
				res, err = lookup(rep, now, namespace, r.GetKey(), info)
				return err
			})
			return res, err
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*atollv1.GetResponse, error) {
			return p.get(ctx, &atollv1.GetRequest{Key: r.GetKey(), Namespace: namespace, Options: o})
		},
	})
}

func checkRead(namespace, key string, o *atollv1.ReadOptions) (string, reading, *failure) {
	namespace, f := checkName(namespace, key)
	if f != nil {
		return "", reading{}, f
	}
	how, f := checkReadOptions(o)
	return namespace, how, f
}

// lookup reads one key.
func lookup(r *replica.Replica, now hlc.Time, namespace, key string, info *atollv1.ReplyInfo) (*atollv1.GetResponse, error) {
	res := &atollv1.GetResponse{Info: info}
	object, found, err := r.Lookup(namespace, key, now)
	if err != nil || !found {
		return res, err
	}
	res.Found = true
	res.Value = object.Value
	res.Type = atollv1.Type(object.Type)
	res.Version = object.Version
	res.Ttl = timeLeft(&object, now)
	res.Typed, err = typedValue(r, &object)
	return res, err
}

// Query asks one question of a typed value.
func (k *kvService) Query(ctx context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
	s := k.server()
	namespace, how, f := checkRead(r.GetNamespace(), r.GetKey(), r.GetOptions())
	if f == nil {
		f = checkQuery(r.GetQuery())
	}
	if f != nil {
		return nil, f
	}
	partition := s.cluster.PartitionOf(namespace, r.GetKey())
	return routeRead(ctx, s, readCall[*atollv1.QueryResponse]{
		partition: partition,
		how:       how,
		local: func(ctx context.Context, p Partition, how reading) (*atollv1.QueryResponse, error) {
			res := &atollv1.QueryResponse{Info: s.replyInfo(partition)}
			return res, readFrom(ctx, p, how, res.GetInfo(), func(rep *replica.Replica, now hlc.Time) error {
				return answer(rep, now, namespace, r, res)
			})
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*atollv1.QueryResponse, error) {
			return p.query(ctx, &atollv1.QueryRequest{Key: r.GetKey(), Namespace: namespace, Query: r.GetQuery(), Options: o})
		},
	})
}

func checkQuery(q *atollv1.QueryOp) *failure {
	switch q := q.GetQuery().(type) {
	case *atollv1.QueryOp_SetContains:
		return checkElements("query.set_contains.elements", q.SetContains.GetElements())
	case *atollv1.QueryOp_SetMembers:
		if q.SetMembers.GetLimit() > maxMembersLimit {
			return invalid("query.set_members.limit", "must be at most %d", maxMembersLimit)
		}
		if len(q.SetMembers.GetCursor()) > maxElementBytes {
			return tooLong(reasonInvalidArgument, "query.set_members.cursor", maxElementBytes)
		}
		return nil
	case *atollv1.QueryOp_Counter, *atollv1.QueryOp_SetSize:
		return nil
	default:
		return invalid("query", "must be set to a query that this version serves")
	}
}

// answer fills in the answer to a query.
func answer(r *replica.Replica, now hlc.Time, namespace string, req *atollv1.QueryRequest, res *atollv1.QueryResponse) error {
	wanted := crdt.TypeAWSet
	if req.GetQuery().GetCounter() != nil {
		wanted = crdt.TypeCounter
	}
	object, found, err := r.LookupType(namespace, req.GetKey(), wanted, now)
	if err != nil {
		return err
	}
	if !found {
		other, exists, err := r.Lookup(namespace, req.GetKey(), now)
		if err != nil {
			return err
		}
		if exists {
			return wrongTypeFound(other.Type)
		}
	}
	res.Found, res.Version = found, object.Version
	res.Result, err = queryResult(r, namespace, req, &object)
	return err
}

func queryResult(r *replica.Replica, namespace string, req *atollv1.QueryRequest, o *replica.Object) (*atollv1.QueryResult, error) {
	switch q := req.GetQuery().GetQuery().(type) {
	case *atollv1.QueryOp_SetContains:
		contains, err := r.SetContains(namespace, req.GetKey(), q.SetContains.GetElements())
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_SetContains{
			SetContains: &atollv1.SetContainsResult{Contains: contains},
		}}, err
	case *atollv1.QueryOp_SetMembers:
		page, err := membersPage(r, namespace, req.GetKey(), q.SetMembers)
		if err != nil {
			return nil, err
		}
		page.Size = o.Size
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_SetMembers{SetMembers: page}}, nil
	case *atollv1.QueryOp_SetSize:
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_SetSize{SetSize: o.Size}}, nil
	default:
		return &atollv1.QueryResult{Result: &atollv1.QueryResult_Counter{Counter: &atollv1.CounterValue{Value: o.Counter}}}, nil
	}
}

func membersPage(r *replica.Replica, namespace, key string, q *atollv1.SetMembers) (*atollv1.SetMembersPage, error) {
	limit := int(q.GetLimit())
	if limit == 0 {
		limit = defaultMembersLimit
	}
	var after []byte
	if len(q.GetCursor()) > 0 {
		after = q.GetCursor()
	}
	members, more, err := r.SetMembers(namespace, key, after, limit, membersPageBytes)
	if err != nil {
		return nil, err
	}
	page := &atollv1.SetMembersPage{Members: members}
	if more && len(members) > 0 {
		page.Cursor = members[len(members)-1]
	}
	return page, nil
}
