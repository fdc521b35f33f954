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
	home := how.byName && s.homes.has(namespace)
	c := readCall[*atollv1.GetResponse]{
		partition: partition,
		how:       how,
		local: func(ctx context.Context, p Partition, how reading) (*atollv1.GetResponse, error) {
			var res *atollv1.GetResponse
			info := s.replyInfo(partition)
			err := s.readFrom(ctx, p, how, info, func(rep *replica.Replica, now hlc.Time) (err error) {
				if home {
					if err := p.AtHome(rep, namespace, s.isFirstHome(namespace)); err != nil {
						return err
					}
				}
				res, err = s.lookup(rep, now, namespace, r.GetKey(), info)
				return err
			})
			return res, err
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*atollv1.GetResponse, error) {
			return p.get(ctx, &atollv1.GetRequest{Key: r.GetKey(), Namespace: namespace, Options: o})
		},
	}
	if !home {
		return routeRead(ctx, s, c)
	}
	return atHome(ctx, s, homeCall[*atollv1.GetResponse]{
		namespace: namespace, partition: partition,
		here: func(ctx context.Context) (*atollv1.GetResponse, error) { return routeRead(ctx, s, c) },
		there: func(ctx context.Context, p *peer) (*atollv1.GetResponse, error) {
			return c.remote(ctx, p, how.options())
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
func (s *Server) lookup(r *replica.Replica, now hlc.Time, namespace, key string, info *atollv1.ReplyInfo) (*atollv1.GetResponse, error) {
	res := &atollv1.GetResponse{Info: info}
	object, found, err := r.Only(s.namespaces[namespace]).Lookup(namespace, key, now)
	if err != nil || !found {
		return res, err
	}
	res.Found = true
	res.Value = object.Value
	res.Type = atollv1.Type(object.Type)
	res.Version = object.Version
	res.Ttl = timeLeft(&object, now)
	res.Typed, err = s.typedValue(r, &object)
	return res, err
}

// Query asks one question of a typed value.
func (k *kvService) Query(ctx context.Context, r *atollv1.QueryRequest) (*atollv1.QueryResponse, error) {
	s := k.server()
	namespace, how, f := checkRead(r.GetNamespace(), r.GetKey(), r.GetOptions())
	if f == nil {
		_, f = queried(r.GetQuery())
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
			return res, s.readFrom(ctx, p, how, res.GetInfo(), func(rep *replica.Replica, now hlc.Time) error {
				return s.answer(rep, now, namespace, r, res)
			})
		},
		remote: func(ctx context.Context, p *peer, o *atollv1.ReadOptions) (*atollv1.QueryResponse, error) {
			return p.query(ctx, &atollv1.QueryRequest{Key: r.GetKey(), Namespace: namespace, Query: r.GetQuery(), Options: o})
		},
	})
}

// answer fills in the answer to a query.
func (s *Server) answer(r *replica.Replica, now hlc.Time, namespace string, req *atollv1.QueryRequest, res *atollv1.QueryResponse) error {
	if req.GetQuery().GetOrmapLeaf() != nil {
		return s.answerLeaf(r, now, namespace, req, res)
	}
	about, f := queried(req.GetQuery())
	if f == nil {
		about, f = s.about(namespace, about)
	}
	if f != nil {
		return f
	}
	q := question{QueryOp: req.GetQuery(), namespace: namespace, key: req.GetKey(), about: about, only: s.namespaces[namespace]}
	object, err := s.answerOn(r, now, &q, res)
	res.Ttl = timeLeft(&object, now)
	return err
}

// question is a query of what is under a key, or of a leaf there.
type question struct {
	*atollv1.QueryOp
	namespace, key string
	// about are the types that it can be about, and only is the one that there can be, or 0.
	about []*typeAPI
	only  crdt.Type
}

// answerOn answers a question about what the replica reads, but for the time to live, and returns that.
func (s *Server) answerOn(r *replica.Replica, now hlc.Time, q *question, res *atollv1.QueryResponse) (replica.Object, error) {
	var object replica.Object
	var found bool
	var err error
	t := q.about[0]
	for i := 0; i < len(q.about) && !found; i++ {
		if object, found, err = r.LookupType(q.namespace, q.key, q.about[i].of, now); err != nil {
			return object, err
		}
		if found {
			t = q.about[i]
		}
	}
	if !found {
		other, exists, err := r.Only(q.only).Lookup(q.namespace, q.key, now)
		if err != nil {
			return other, err
		}
		if exists {
			return other, wrongTypeFound(other.Type)
		}
		object = replica.Object{Namespace: q.namespace, Key: q.key, Type: t.of}
		r = replica.Nothing() // what has expired may be stored yet
	}
	res.Found, res.Version = found, object.Version
	res.Result, err = t.answer(s, r, q.QueryOp, &object)
	return object, err
}
