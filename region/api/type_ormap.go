package api

import (
	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// ormapAPI is about observed-remove maps. What is about a leaf of one is left to the API of the leaf's type:
// leafOperation turns it into an operation, and answerLeaf reads a replica, that has the leaf in place of the key.
var ormapAPI = typeAPI{
	of:        crdt.TypeORMap,
	operation: ormapOperation,
	result: func(_ *Server, out *replica.Outcome) *atollv1.UpdateResult {
		return &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Ormap{Ormap: &atollv1.SetChange{Size: out.Size, Changed: out.Changed}}}
	},
	value: func(s *Server, r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error) {
		page, err := ormapPage(s, r, o, pageOfNames{limit: valueMembers, maxBytes: valueMemberBytes})
		if err != nil {
			return nil, err
		}
		return &atollv1.TypedValue{Value: &atollv1.TypedValue_Ormap{Ormap: &atollv1.ORMapValue{Size: o.Size, Names: page.GetNames()}}}, nil
	},
	query: func(q *atollv1.QueryOp) (*failure, bool) {
		asked, ok := q.GetQuery().(*atollv1.QueryOp_OrmapGet)
		if !ok {
			return nil, false
		}
		get := asked.OrmapGet
		_, f := pathOf("query.ormap_get.path", get.GetPath())
		if f == nil {
			f = checkPage("query.ormap_get", get.GetLimit(), get.GetCursor())
		}
		return f, true
	},
	answer: answerORMap,
}

// pathOf returns the path of the given names, which is the root if there are none.
func pathOf(field string, names []string) (crdt.Path, *failure) {
	if len(names) == 0 {
		return crdt.Path{}, nil
	}
	p, err := crdt.NewPath(names...)
	if err != nil {
		return p, invalid(field, "must be at most %d names of 1 to %d bytes", crdt.MaxPathNames, crdt.MaxNameBytes)
	}
	return p, nil
}

// leafPathOf returns the path of a leaf, which is not the root.
func leafPathOf(field string, names []string) (crdt.Path, *failure) {
	p, f := pathOf(field, names)
	if f == nil && p.IsRoot() {
		f = invalid(field, "must be set: a leaf has 1 to %d names", crdt.MaxPathNames)
	}
	return p, f
}

func ormapOperation(_ *Server, o *atollv1.Op) (replica.Op, *failure, bool) {
	remove := o.GetOrmapRemove()
	if remove == nil || remove.GetType() != atollv1.Type_TYPE_UNSPECIFIED {
		return replica.Op{}, nil, false // of one leaf, which leafRemoval is about
	}
	path, f := pathOf("op.ormap_remove.path", remove.GetPath())
	return replica.Op{Kind: replica.OpORMapRemove, Path: path}, f, true
}

// leafOperation checks an operation of a leaf and returns it for the replica.
func (s *Server) leafOperation(u *atollv1.ORMapUpdate) (replica.Op, *failure) {
	path, f := leafPathOf("op.ormap_update.path", u.GetPath())
	if f != nil {
		return replica.Op{}, f
	}
	inner := u.GetOp()
	switch inner.GetOp().(type) {
	case *atollv1.Op_OrmapUpdate, *atollv1.Op_OrmapRemove:
		return replica.Op{}, invalid("op.ormap_update.op", "must be an operation of a leaf; the path says where it is")
	case *atollv1.Op_Expire, *atollv1.Op_Persist:
		return replica.Op{}, invalid("op.ormap_update.op", "a leaf does not expire by itself; expire the map, or give the update a ttl")
	}
	op, f := s.operationOf(inner)
	if f == nil && op.Type == crdt.TypeBoundedCounter {
		f = invalid("op.ormap_update.op", "a bounded counter cannot be a leaf: it could not be removed")
	}
	op.Path = path
	return op, f
}

// leafRemoval returns a removal of a single leaf for the replica.
func leafRemoval(remove *atollv1.ORMapRemove) (replica.Op, *failure) {
	path, f := leafPathOf("op.ormap_remove.path", remove.GetPath())
	op := replica.Op{Kind: replica.OpDelete, Path: path, Type: crdt.Type(remove.GetType())}
	if f == nil && (remove.GetType() != atollv1.Type(op.Type) || !isLeafType(op.Type)) {
		f = invalid("op.ormap_remove.type", "leaves have no type %d", remove.GetType())
	}
	return op, f
}

// isLeafType reports whether leaves can have a type.
func isLeafType(t crdt.Type) bool {
	return t == crdt.TypeLWWRegister || typeOf(t) != nil && t != crdt.TypeORMap && t != crdt.TypeBoundedCounter
}

// queriedLeaf returns the types of a leaf that a query can be about, or what is wrong with it.
func queriedLeaf(q *atollv1.ORMapLeafQuery) ([]*typeAPI, *failure) {
	if _, f := leafPathOf("query.ormap_leaf.path", q.GetPath()); f != nil {
		return nil, f
	}
	if inner := q.GetQuery(); inner.GetOrmapLeaf() != nil || inner.GetOrmapGet() != nil {
		return nil, invalid("query.ormap_leaf.query", "must be a query of a leaf; the path says where it is")
	}
	about, f := queried(q.GetQuery())
	if f == nil && about[0].of == crdt.TypeBoundedCounter {
		f = invalid("query.ormap_leaf.query", "a bounded counter cannot be a leaf")
	}
	return about, f
}

// answerLeaf answers a query of a leaf. The time to live is the map's.
func (s *Server) answerLeaf(r *replica.Replica, now hlc.Time, namespace string, req *atollv1.QueryRequest, res *atollv1.QueryResponse) error {
	leaf := req.GetQuery().GetOrmapLeaf()
	about, f := queriedLeaf(leaf)
	if f == nil {
		_, f = s.about(namespace, []*typeAPI{typeOf(crdt.TypeORMap)})
	}
	if f != nil {
		return f
	}
	path, f := leafPathOf("query.ormap_leaf.path", leaf.GetPath())
	if f != nil {
		return f
	}
	whole, found, err := r.LookupType(namespace, req.GetKey(), crdt.TypeORMap, now)
	if err != nil {
		return err
	}
	if !found {
		other, exists, err := r.Only(s.namespaces[namespace]).Lookup(namespace, req.GetKey(), now)
		if err != nil {
			return err
		}
		if exists {
			return wrongTypeFound(other.Type)
		}
	}
	_, err = s.answerOn(r.Below(path), now, &question{QueryOp: leaf.GetQuery(), namespace: namespace, key: req.GetKey(), about: about}, res)
	if res.GetFound() {
		res.Ttl = timeLeft(&whole, now)
	}
	return err
}

func answerORMap(s *Server, r *replica.Replica, q *atollv1.QueryOp, o *replica.Object) (*atollv1.QueryResult, error) {
	get := q.GetOrmapGet()
	path, f := pathOf("query.ormap_get.path", get.GetPath())
	if f != nil {
		return nil, f
	}
	page, err := ormapPage(s, r, o, pageOfNames{path: path, after: string(get.GetCursor()), limit: pageLimit(get.GetLimit()), maxBytes: membersPageBytes})
	if err == nil && len(get.GetCursor()) == 0 && !path.IsRoot() {
		page.Leaves, err = leavesAt(s, r, o, path)
	}
	return &atollv1.QueryResult{Result: &atollv1.QueryResult_Ormap{Ormap: page}}, err
}

// valuer is a Server: named as one, it would make the table of types depend on itself.
type valuer interface {
	typedValue(r *replica.Replica, o *replica.Object) (*atollv1.TypedValue, error)
}

// leavesAt returns the leaves right at a path of a map.
func leavesAt(s valuer, r *replica.Replica, o *replica.Object, path crdt.Path) ([]*atollv1.ORMapLeaf, error) {
	leaves, err := r.ORMapLeaves(o.Namespace, o.Key, path, 0)
	if err != nil {
		return nil, err
	}
	return leafValues(s, r.Below(path), leaves)
}

// leafValues returns leaves with their values; r reads at their path.
func leafValues(s valuer, r *replica.Replica, leaves []replica.Object) ([]*atollv1.ORMapLeaf, error) {
	values := make([]*atollv1.ORMapLeaf, len(leaves))
	for i := range leaves {
		o := &leaves[i]
		typed, err := s.typedValue(r, o)
		if err != nil {
			return nil, err
		}
		values[i] = &atollv1.ORMapLeaf{Type: atollv1.Type(o.Type), Value: o.Value, Typed: typed, Version: o.Version}
	}
	return values, nil
}

// pageOfNames asks for a page of names.
type pageOfNames struct {
	path            crdt.Path
	after           string
	limit, maxBytes int
}

// namesAtOnce is how many names are read together: their leaves' values may each be as large as a page.
const namesAtOnce = 64

// ormapPage returns a page of the names right below want.path, with their leaves.
func ormapPage(s valuer, r *replica.Replica, o *replica.Object, want pageOfNames) (*atollv1.ORMapPage, error) {
	path := want.path
	page := &atollv1.ORMapPage{Size: o.Size}
	size := 0
	for after := want.after; ; {
		left := want.limit - len(page.GetNames())
		some, more, err := r.ORMapBranches(o.Namespace, o.Key, path, replica.BranchPage{
			After: after, Limit: min(left, namesAtOnce), MaxBytes: want.maxBytes - size,
		})
		if err != nil {
			return nil, err
		}
		for i := range some {
			below, err := crdt.NewPath(append(path.Names(), some[i].Name)...)
			if err != nil {
				return nil, err
			}
			name := &atollv1.ORMapName{Name: some[i].Name, Below: some[i].Below}
			if name.Leaves, err = leafValues(s, r.Below(below), some[i].Leaves); err != nil {
				return nil, err
			}
			if size += proto.Size(name); size > want.maxBytes && len(page.GetNames()) > 0 {
				page.Cursor = []byte(after)
				return page, nil
			}
			page.Names = append(page.Names, name)
			after = name.GetName()
		}
		switch {
		case !more:
			return page, nil
		case len(page.GetNames()) >= want.limit || size >= want.maxBytes:
			page.Cursor = []byte(after)
			return page, nil
		}
	}
}
