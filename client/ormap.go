package client

import (
	"context"
	"iter"
	"slices"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const namesPage = 1000

// ORMap is an observed-remove map: paths of 1 to 4 names lead to leaves, which are values of any other type
// but bounded counters. A leaf is named by its path and its type, and written through the handle of its type,
// such as m.At("42", "visits").Counter(). There is nothing to create or delete but leaves: a name is there as
// long as there is a leaf at it or below it.
//
// Writes to different leaves never meet. A remove takes away all that the region sees at a path and below it:
// of what is written there elsewhere meanwhile, adds to counters, sets, flags and multi-value registers
// survive, and of the types that are decided by time what is later. Leaves do not expire by themselves:
// [WithTTL] on a leaf's write is about the whole map, and a write without it, of a register as well, leaves
// the map's time to live as it is. A condition of a leaf's write, and the version that it returns, are the
// leaf's.
type ORMap struct {
	client *Client
	key    string
}

// ORMapName is a name in an observed-remove map.
type ORMapName struct {
	Name string
	// Leaves are the values at the name, at most one of each type. They have no TTL of their own.
	Leaves []Value
	// Below says whether there are leaves below the name.
	Below bool
}

// ORMap returns the observed-remove map under a key. It does not have to exist: it begins empty.
func (c *Client) ORMap(key string) *ORMap { return &ORMap{client: c, key: key} }

// At returns the path of the given names, the outermost first: 1 to 255 bytes each, at most 4 of them.
func (m *ORMap) At(names ...string) *ORMapPath {
	return &ORMapPath{client: m.client, key: m.key, path: slices.Clone(names)}
}

// Remove removes all leaves that the region sees, at most 10 000. Size is how many leaves the map has then,
// and Changed how many were removed.
//
// Errors: ErrWrongType, ErrInvalidArgument (reason BATCH_TOO_LARGE) if there are too many leaves, and those
// of its conditions, which are about the map.
func (m *ORMap) Remove(ctx context.Context, opts ...WriteOption) (SetChange, error) {
	return m.At().Remove(ctx, opts...)
}

// Names yields the outermost names in byte order with the leaves right at them; see [ORMapPath.Names].
func (m *ORMap) Names(ctx context.Context, opts ...ReadOption) iter.Seq2[ORMapName, error] {
	return m.At().Names(ctx, opts...)
}

// Size returns the number of leaves.
func (m *ORMap) Size(ctx context.Context, opts ...ReadOption) (uint64, error) {
	page, err := m.At().page(ctx, nil, 1, opts)
	return page.GetSize(), err
}

// ORMapPath is a place in an observed-remove map.
type ORMapPath struct {
	client *Client
	key    string
	path   []string
}

// At returns a place below.
func (p *ORMapPath) At(names ...string) *ORMapPath {
	return &ORMapPath{client: p.client, key: p.key, path: slices.Concat(p.path, names)}
}

// Remove removes all leaves that the region sees here and below, at most 10 000. Size is how many leaves the
// whole map has then, and Changed how many were removed.
//
// Errors: ErrWrongType, ErrInvalidArgument (reason BATCH_TOO_LARGE) if there are too many leaves, and those
// of its conditions, which are about the whole map.
func (p *ORMapPath) Remove(ctx context.Context, opts ...WriteOption) (SetChange, error) {
	res, err := p.client.update(ctx, p.key, ormapRemove(p.path, 0), opts)
	return changeOf(res.GetResult().GetOrmap()), err
}

// Names yields the names right below in byte order with the leaves right at them, and ends after the first
// error. They are read a page at a time: each page is linearizable by itself, the iteration as a whole is
// not. Of a collection a leaf has what Get has.
func (p *ORMapPath) Names(ctx context.Context, opts ...ReadOption) iter.Seq2[ORMapName, error] {
	return func(yield func(ORMapName, error) bool) {
		for cursor := []byte(nil); ; {
			page, err := p.page(ctx, cursor, namesPage, opts)
			if err != nil {
				yield(ORMapName{}, err)
				return
			}
			for _, name := range ormapNames(page.GetNames()) {
				if !yield(name, nil) {
					return
				}
			}
			if cursor = page.GetCursor(); len(cursor) == 0 {
				return
			}
		}
	}
}

// Leaves returns the values right here, at most one of each type; none if there is nothing.
//
// Errors: ErrWrongType if the key holds no map.
func (p *ORMapPath) Leaves(ctx context.Context, opts ...ReadOption) ([]Value, error) {
	page, err := p.page(ctx, nil, 1, opts)
	return leafValues(page.GetLeaves()), err
}

func (p *ORMapPath) page(ctx context.Context, cursor []byte, limit uint32, opts []ReadOption) (*atollv1.ORMapPage, error) {
	get := &atollv1.ORMapGet{Path: p.path, Cursor: cursor, Limit: limit}
	res, err := p.client.ask(ctx, p.key, &atollv1.QueryOp{Query: &atollv1.QueryOp_OrmapGet{OrmapGet: get}}, opts)
	return res.GetOrmap(), err
}

// leaf returns the client of the handles of the leaves here. Of no names, it gives one that the server
// refuses.
func (p *ORMapPath) leaf() *Client {
	path := p.path
	if len(path) == 0 {
		path = []string{""}
	}
	return &Client{shared: p.client.shared, namespace: p.client.namespace, path: path}
}

// Register returns the register that is the leaf of this type here.
func (p *ORMapPath) Register() *ORMapRegister { return &ORMapRegister{p.leaf(), p.key} }

// Counter returns the counter that is the leaf of this type here.
func (p *ORMapPath) Counter() *Counter { return p.leaf().Counter(p.key) }

// Set returns the set that is the leaf of this type here.
func (p *ORMapPath) Set() *Set { return p.leaf().Set(p.key) }

// Flag returns the flag that is the leaf of this type here.
func (p *ORMapPath) Flag() *Flag { return p.leaf().Flag(p.key) }

// MVRegister returns the multi-value register that is the leaf of this type here.
func (p *ORMapPath) MVRegister() *MVRegister { return p.leaf().MVRegister(p.key) }

// Max returns the maximum that is the leaf of this type here.
func (p *ORMapPath) Max() *Max { return p.leaf().Max(p.key) }

// Min returns the minimum that is the leaf of this type here.
func (p *ORMapPath) Min() *Min { return p.leaf().Min(p.key) }

// Map returns the map of fields that is the leaf of this type here.
func (p *ORMapPath) Map() *Map { return p.leaf().Map(p.key) }

// ZSet returns the sorted set that is the leaf of this type here.
func (p *ORMapPath) ZSet() *ZSet { return p.leaf().ZSet(p.key) }

// CounterZSet returns the sorted set of counters that is the leaf of this type here.
func (p *ORMapPath) CounterZSet() *CounterZSet { return p.leaf().CounterZSet(p.key) }

// HLL returns the HyperLogLog that is the leaf of this type here.
func (p *ORMapPath) HLL() *HLL { return p.leaf().HLL(p.key) }

// Timeline returns the timeline that is the leaf of this type here.
func (p *ORMapPath) Timeline() *Timeline { return p.leaf().Timeline(p.key) }

// Delete removes the leaf of one type that the region sees here, and nothing below, and reports whether there
// was one; false if it is written with [WithLocalDurability].
func (p *ORMapPath) Delete(ctx context.Context, t Type, opts ...WriteOption) (existed bool, err error) {
	if t == 0 {
		t = -1 // which no leaf has: 0 would mean all that is here and below
	}
	return p.leaf().Delete(ctx, p.key, append(opts[:len(opts):len(opts)], OfType(t))...)
}

// ORMapRegister is a register in an observed-remove map: the last write by time wins.
type ORMapRegister struct {
	client *Client
	key    string
}

// Put sets the register and returns its new version; "" if it is written with [WithLocalDurability].
//
// Errors: ErrWrongType if there are leaves of other types only at the path, and those of its conditions.
func (r *ORMapRegister) Put(ctx context.Context, value []byte, opts ...WriteOption) (version string, err error) {
	return r.client.Put(ctx, r.key, value, opts...)
}

// CompareAndSwap sets the register to new if it holds exactly old, and returns its new version.
//
// Errors: ErrValueMismatch if it holds something else or does not exist.
func (r *ORMapRegister) CompareAndSwap(ctx context.Context, old, new []byte, opts ...WriteOption) (version string, err error) {
	return r.client.CompareAndSwap(ctx, r.key, old, new, opts...)
}

// Get returns the register.
//
// Errors: ErrNotFound if it does not exist, ErrWrongType if there are leaves of other types only at the path.
func (r *ORMapRegister) Get(ctx context.Context, opts ...ReadOption) (Value, error) {
	v, found, err := r.client.leaf(ctx, r.key, TypeRegister, opts)
	if err == nil && !found {
		err = notFound(r.client.namespace, r.key)
	}
	return v, err
}

// NewLeafWrite returns a write that does to the leaf at a path of an observed-remove map what w would do to
// a key; a NewDelete without [OfType] removes all that is at the path and below it. The map is under the key
// of w.
func NewLeafWrite(w Write, path ...string) Write {
	path = slices.Clone(path)
	build := w.build
	w.build = func(c *Client, cfg *writeConfig) *atollv1.Write {
		inner := build(c, cfg)
		var op *atollv1.Op
		switch {
		case inner.GetPut() != nil:
			op = leafOp(registerPut(inner.GetPut().GetValue()), path)
		case inner.GetDelete() != nil:
			op = ormapRemove(path, inner.GetDelete().GetType())
		default:
			op = leafOp(inner.GetUpdate().GetOp(), path)
		}
		return &atollv1.Write{Write: &atollv1.Write_Update{Update: c.updateRequest(w.key, op, cfg)}}
	}
	return w
}

func registerPut(value []byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_RegisterPut{RegisterPut: &atollv1.RegisterPut{Value: value}}}
}

func ormapRemove(path []string, t atollv1.Type) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_OrmapRemove{OrmapRemove: &atollv1.ORMapRemove{Path: path, Type: t}}}
}

func leafOp(op *atollv1.Op, path []string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_OrmapUpdate{OrmapUpdate: &atollv1.ORMapUpdate{Path: path, Op: op}}}
}

// leafOp returns an operation as one of the client's leaf, if it is the client of one.
func (c *Client) leafOp(op *atollv1.Op) *atollv1.Op {
	if len(c.path) == 0 {
		return op
	}
	return leafOp(op, c.path)
}

// leafQuery returns a query as one of the client's leaf, if it is the client of one.
func (c *Client) leafQuery(q *atollv1.QueryOp) *atollv1.QueryOp {
	if len(c.path) == 0 {
		return q
	}
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_OrmapLeaf{OrmapLeaf: &atollv1.ORMapLeafQuery{Path: c.path, Query: q}}}
}

func (c *Client) putLeaf(ctx context.Context, key string, value []byte, opts []WriteOption) (string, error) {
	res, err := c.update(ctx, key, registerPut(value), opts)
	return res.GetVersion(), err
}

// deleteLeaf removes the leaf of a type. An absent one has no version afterwards, a removed one has.
func (c *Client) deleteLeaf(ctx context.Context, key string, t atollv1.Type, opts []WriteOption) (bool, error) {
	plain := &Client{shared: c.shared, namespace: c.namespace}
	res, err := plain.update(ctx, key, ormapRemove(c.path, t), opts)
	return res.GetVersion() != "", err
}

// leaf reads the leaf of a type.
func (c *Client) leaf(ctx context.Context, key string, t Type, opts []ReadOption) (Value, bool, error) {
	place := &ORMapPath{client: c, key: key, path: c.path}
	leaves, err := place.Leaves(ctx, opts...)
	if err != nil || len(leaves) == 0 {
		return Value{}, false, err
	}
	for _, v := range leaves {
		if v.Type == t {
			return v, true, nil
		}
	}
	return Value{}, false, wrongType(leaves[0].Type)
}

func ormapNames(names []*atollv1.ORMapName) []ORMapName {
	var all []ORMapName
	for _, n := range names {
		all = append(all, ORMapName{Name: n.GetName(), Leaves: leafValues(n.GetLeaves()), Below: n.GetBelow()})
	}
	return all
}

func leafValues(leaves []*atollv1.ORMapLeaf) []Value {
	var values []Value
	for _, l := range leaves {
		values = append(values, withTyped(Value{Type: Type(l.GetType()), Bytes: l.GetValue(), Version: l.GetVersion()}, l.GetTyped()))
	}
	return values
}
