package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// leafPlace is the key under which a fake region keeps the leaves at a path: nothing but their key and path.
func leafPlace(key string, path []string) string {
	return strings.Join(append([]string{key}, path...), "\x01")
}

// onORMap reports whether an operation is on an observed-remove map. Its condition is then a leaf's.
func onORMap(op *atollv1.Op) bool { return op.GetOrmapUpdate() != nil || op.GetOrmapRemove() != nil }

// updateORMap does an operation of a leaf as if its path were part of its key.
func (f *fakeRegion) updateORMap(r *atollv1.UpdateRequest) (*atollv1.UpdateResponse, error) {
	if u := r.GetOp().GetOrmapUpdate(); u != nil {
		inner := proto.CloneOf(r)
		inner.Key, inner.Op = leafPlace(r.GetKey(), u.GetPath()), u.GetOp()
		return f.updateFor(inner)
	}
	remove := r.GetOp().GetOrmapRemove()
	at := place("", leafPlace(r.GetKey(), remove.GetPath()))
	res := &atollv1.UpdateResponse{Info: f.info()}
	if remove.GetType() != 0 {
		if o := f.store.objects[at]; o != nil && o.typ == remove.GetType() {
			delete(f.store.objects, at)
			res.Version = "gone"
		}
		return res, nil
	}
	change := &atollv1.SetChange{}
	for key := range maps.Clone(f.store.objects) {
		if key == at || strings.HasPrefix(key, at+"\x01") {
			delete(f.store.objects, key)
			change.Changed++
		} else if strings.HasPrefix(key, place("", r.GetKey())+"\x01") {
			change.Size++
		}
	}
	res.Result = &atollv1.UpdateResult{Result: &atollv1.UpdateResult_Ormap{Ormap: change}}
	return res, nil
}

// queryORMap answers with pages of two names.
func (f *fakeRegion) queryORMap(key string, get *atollv1.ORMapGet) *atollv1.QueryResponse {
	at := place("", leafPlace(key, get.GetPath()))
	page := &atollv1.ORMapPage{}
	names := map[string]*atollv1.ORMapName{}
	for key, o := range f.store.objects {
		leaf := leafOf(o)
		rest, below := strings.CutPrefix(key, at+"\x01")
		name, deeper, more := strings.Cut(rest, "\x01")
		switch {
		case key == at:
			page.Leaves = append(page.Leaves, leaf)
		case !below || name <= string(get.GetCursor()):
		default:
			n := cmp.Or(names[name], &atollv1.ORMapName{Name: name})
			n.Below = n.GetBelow() || more && deeper != ""
			if !more {
				n.Leaves = append(n.Leaves, leaf)
			}
			names[name] = n
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if len(page.Names) == 2 {
			page.Cursor = []byte(page.Names[1].GetName())
			break
		}
		page.Names = append(page.Names, names[name])
	}
	return &atollv1.QueryResponse{Found: true, Info: f.info(), Result: &atollv1.QueryResult{Result: &atollv1.QueryResult_Ormap{Ormap: page}}}
}

// mapEntry is what a scan shows of a map: the number of its leaves, and when any of them expires.
func (f *fakeRegion) mapEntry(namespace, key string) *atollv1.Entry {
	e := &atollv1.Entry{Key: key, Type: atollv1.Type_TYPE_OR_MAP, Version: "v1"}
	size := uint64(0)
	for at, o := range f.store.objects {
		if strings.HasPrefix(at, place(namespace, key)+"\x01") {
			size++
			e.Ttl = cmp.Or(e.Ttl, o.ttl)
		}
	}
	e.Typed = &atollv1.TypedValue{Value: &atollv1.TypedValue_Ormap{Ormap: &atollv1.ORMapValue{Size: size}}}
	return e
}

func leafOf(o *object) *atollv1.ORMapLeaf {
	e := entryOf("", o, 3)
	return &atollv1.ORMapLeaf{Type: e.GetType(), Value: e.GetValue(), Typed: e.GetTyped(), Version: e.GetVersion()}
}
