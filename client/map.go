package client

import (
	"context"
	"iter"
	"maps"
	"slices"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Map is a map of named fields, each of which the last write wins: a put, a remove, or a delete of the
// whole map with [Client.Delete]. Writes to different fields never disturb each other. Of writes to one
// field made at once in different regions the one with the later time stays, also if it is a remove.
type Map struct {
	client *Client
	key    string
}

// MapChange is what an operation did to a map. It is zero for one with [WithLocalDurability].
type MapChange struct {
	// Size is the number of fields after the operation, in the region.
	Size uint64
	// Changed is how many fields appeared, disappeared or got another value.
	Changed uint64
}

// MapField is a field of a map.
type MapField struct {
	Name  string
	Value []byte
}

// Map returns the map under a key. It does not have to exist: it begins empty.
func (c *Client) Map(key string) *Map { return &Map{client: c, key: key} }

// Put sets fields: at most 10 000 at once and 4 MiB together. A name is 1 to 1024 bytes of UTF-8, a
// value at most 1 MiB.
//
// Errors: ErrWrongType, ErrInvalidArgument, ErrOverloaded (reason QUOTA_EXCEEDED) if the map would have
// more than a million fields.
func (m *Map) Put(ctx context.Context, fields map[string][]byte, opts ...WriteOption) (MapChange, error) {
	return m.update(ctx, mapPut(fields), opts)
}

// Remove removes fields. Those that are not there in the region are left alone: a put that is still on
// its way from another region stays.
func (m *Map) Remove(ctx context.Context, names []string, opts ...WriteOption) (MapChange, error) {
	return m.update(ctx, mapRemove(names), opts)
}

// Get returns those of the named fields that are there.
func (m *Map) Get(ctx context.Context, names []string, opts ...ReadOption) (map[string][]byte, error) {
	found := map[string][]byte{}
	names = slices.Sorted(slices.Values(names))
	for {
		page, err := m.query(ctx, &atollv1.QueryOp{Query: &atollv1.QueryOp_MapGet{MapGet: &atollv1.MapGet{Fields: names}}}, opts)
		if err != nil {
			return nil, err
		}
		maps.Copy(found, page.GetFields())
		last := string(page.GetCursor())
		if last == "" {
			return found, nil
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name <= last })
		if len(names) == 0 {
			return found, nil
		}
	}
}

// Size returns the number of fields.
func (m *Map) Size(ctx context.Context, opts ...ReadOption) (uint64, error) {
	page, err := m.query(ctx, mapAll(nil, 1), opts)
	return page.GetSize(), err
}

// Fields yields the fields in byte order of their names, and ends after the first error. They are read
// a page at a time: each page is linearizable by itself, the iteration as a whole is not.
func (m *Map) Fields(ctx context.Context, opts ...ReadOption) iter.Seq2[MapField, error] {
	return func(yield func(MapField, error) bool) {
		for cursor := []byte(nil); ; {
			page, err := m.query(ctx, mapAll(cursor, membersPage), opts)
			if err != nil {
				yield(MapField{}, err)
				return
			}
			for _, f := range mapFields(page.GetFields()) {
				if !yield(f, nil) {
					return
				}
			}
			if cursor = page.GetCursor(); len(cursor) == 0 {
				return
			}
		}
	}
}

func (m *Map) query(ctx context.Context, q *atollv1.QueryOp, opts []ReadOption) (*atollv1.MapPage, error) {
	res, err := m.client.query(ctx, m.key, q, opts)
	return res.GetMap(), err
}

func (m *Map) update(ctx context.Context, op *atollv1.Op, opts []WriteOption) (MapChange, error) {
	res, err := m.client.update(ctx, m.key, op, opts)
	return mapChange(res.GetResult()), err
}

func mapChange(r *atollv1.UpdateResult) MapChange {
	return MapChange{Size: r.GetMap().GetSize(), Changed: r.GetMap().GetChanged()}
}

// mapFields returns fields in byte order.
func mapFields(fields map[string][]byte) []MapField {
	var sorted []MapField
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		sorted = append(sorted, MapField{name, fields[name]})
	}
	return sorted
}

// NewMapPut returns a write that sets fields of a map.
func NewMapPut(key string, fields map[string][]byte, opts ...WriteOption) Write {
	return newUpdate(key, mapPut(fields), opts)
}

// NewMapRemove returns a write that removes fields of a map.
func NewMapRemove(key string, names []string, opts ...WriteOption) Write {
	return newUpdate(key, mapRemove(names), opts)
}

func mapPut(fields map[string][]byte) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_MapPut{MapPut: &atollv1.MapPut{Fields: fields}}}
}

func mapRemove(names []string) *atollv1.Op {
	return &atollv1.Op{Op: &atollv1.Op_MapRemove{MapRemove: &atollv1.MapRemove{Fields: names}}}
}

func mapAll(cursor []byte, limit uint32) *atollv1.QueryOp {
	return &atollv1.QueryOp{Query: &atollv1.QueryOp_MapAll{MapAll: &atollv1.MapAll{Cursor: cursor, Limit: limit}}}
}
