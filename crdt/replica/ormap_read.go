package replica

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Below returns a view of r for reading leaves of observed-remove maps: what its readers say of a value
// under a key, they say of the leaf at p in the map under that key. Below of the root reads what is under
// the keys themselves. It is of no use for Walk, Digest and writing.
func (r *Replica) Below(p crdt.Path) *Replica {
	view := *r
	view.path = p
	return &view
}

// prefix returns what the keys of all types that the replica reads under a user key begin with.
func (r *Replica) prefix(namespace, key string) []byte { return placePrefix(namespace, key, r.path) }

// object returns the key under which what the replica reads is stored.
func (r *Replica) object(namespace, key string, t crdt.Type) []byte {
	return objectAt(namespace, key, r.path, t)
}

// expired reports whether there is a map under a key that has expired: nothing of it is seen then.
func (r *Replica) expired(namespace, key string, now hlc.Time) (bool, error) {
	data, ok, err := r.kv.Get(objectKey(namespace, key, deadlineOf(crdt.TypeORMap)))
	if err != nil || !ok {
		return false, err
	}
	d, err := deadlineKind{crdt.TypeORMap}.decode(data)
	return err == nil && d.(*deadline).passed(now), err
}

// hidden reports whether what the replica reads is the leaf of a map that has expired.
func (r *Replica) hidden(namespace, key string, now hlc.Time) (bool, error) {
	if r.path.IsRoot() {
		return false, nil
	}
	return r.expired(namespace, key, now)
}

// Branch is a name right below a path in an observed-remove map.
type Branch struct {
	Name string
	// Leaves are those at the name, in the order of their types.
	Leaves []Object
	// Below reports whether there are leaves below the name.
	Below bool
}

// ORMapLeaves returns the leaves right at a path in the order of their types; none if the map is absent.
func (r *Replica) ORMapLeaves(namespace, key string, p crdt.Path, now hlc.Time) ([]Object, error) {
	now = r.judge(now)
	if p.IsRoot() {
		return nil, nil
	}
	hidden, err := r.expired(namespace, key, now)
	if err != nil || hidden {
		return nil, err
	}
	h, err := readHoldings(r.kv, placePrefix(namespace, key, p), true)
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	return h.all(namespace, key, now), nil
}

// all returns everything that is live.
func (h *holdings) all(namespace, key string, now hlc.Time) []Object {
	var objects []Object
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		if h.live(t, now) {
			objects = append(objects, h.object(namespace, key, t, now))
		}
	}
	return objects
}

// ORMapBranches returns the names right below a path after the given one (empty: from the first on) in
// byte order, and whether there are more: at most limit of them, and no more once they and the bytes of
// their registers have maxBytes bytes. Unless limit is 0 it returns at least one if there is one.
func (r *Replica) ORMapBranches(namespace, key string, p crdt.Path, q BranchPage) (page []Branch, more bool, err error) {
	b := branches{r: r, namespace: namespace, key: key, now: r.judge(q.Now), prefix: leafPrefix(namespace, key, p)}
	if hidden, err := r.expired(namespace, key, b.now); err != nil || hidden {
		return nil, false, err
	}
	// The leaves at the path itself come before every name.
	start := append(slices.Clone(b.prefix), escape, terminator)
	if q.After != "" {
		start = prefixEnd(appendName(slices.Clone(b.prefix), q.After))
	}
	for size := 0; ; {
		branch, found, err := b.next(&start)
		if err != nil {
			return nil, false, fmt.Errorf("read names: %w", err)
		}
		if !found {
			return page, false, nil
		}
		if len(page) >= q.Limit || size >= q.MaxBytes && len(page) > 0 {
			return page, true, nil
		}
		page = append(page, branch)
		size += len(branch.Name)
		for i := range branch.Leaves {
			size += len(branch.Leaves[i].Value)
		}
	}
}

// BranchPage asks for a page of names.
type BranchPage struct {
	After           string
	Limit, MaxBytes int
	Now             hlc.Time
}

// branches finds the names right below what prefix stands for.
type branches struct {
	r              *Replica
	namespace, key string
	now            hlc.Time
	prefix         []byte
}

// next returns the first name from start on with a leaf that readers see, and moves start behind it.
func (b *branches) next(start *[]byte) (branch Branch, found bool, err error) {
	end := prefixEnd(b.prefix)
	for {
		var own []byte // what all keys of the name begin with
		var held holdings
		branch = Branch{}
		err = b.r.kv.Scan(*start, end, func(k, v []byte) (bool, error) {
			if own == nil {
				name, _, ok := readName(k[len(b.prefix):])
				if !ok {
					return false, fmt.Errorf("leaf key of %d bytes: %w", len(k), crdt.ErrCorrupt)
				}
				branch.Name, own = name, appendName(slices.Clone(b.prefix), name)
			} else if !bytes.HasPrefix(k, own) {
				return false, nil
			}
			_, t, err := parseLeafKey(k)
			if err != nil {
				return false, err
			}
			if len(k) == len(own)+3 && k[len(own)] == escape && k[len(own)+1] == placeEnd {
				return true, held.load(t, v, true)
			}
			s, err := kinds[t].decode(v)
			branch.Below = err == nil && s.live(b.now)
			return !branch.Below, err
		})
		if err != nil || own == nil {
			return Branch{}, false, err
		}
		*start = prefixEnd(own)
		branch.Leaves = held.all(b.namespace, b.key, b.now)
		if branch.Below || len(branch.Leaves) > 0 {
			return branch, true, nil
		}
	}
}

// explainLeaves lists what the leaves of a map are made of. A part is named by its leaf's path, joined by
// slashes, and the leaf's type; that of an element, field or member of a leaf has its name as well.
func (r *Replica) explainLeaves(namespace, key string, e *Explained) error {
	keys, err := collectKeys(r.kv, leafPrefix(namespace, key, crdt.Path{}), explainElements)
	if err != nil {
		return err
	}
	for _, k := range keys {
		p, t, err := parseLeafKey(k)
		if err != nil {
			return err
		}
		data, _, err := r.kv.Get(k)
		if err != nil {
			return err
		}
		s, err := kinds[t].decode(slices.Clone(data))
		if err != nil {
			return err
		}
		leaf := Explained{Type: t}
		if err := kinds[t].explain(r.kv, s, &leaf); err != nil {
			return err
		}
		name := strings.Join(p.Names(), "/") + " " + t.String()
		for _, part := range leaf.parts(s.live(r.judge(0))) {
			if len(part.Name) > 0 {
				part.Name = append([]byte(name+" "), part.Name...)
			} else {
				part.Name = []byte(name)
			}
			e.Parts = append(e.Parts, part)
		}
		if len(e.Parts) >= explainElements {
			break
		}
	}
	e.Parts = e.Parts[:min(len(e.Parts), explainElements)]
	return nil
}

// parts returns what an object is made of in the form that most types have anyway.
func (e *Explained) parts(live bool) []ExplainedPart {
	switch {
	case e.Register != nil:
		part := ExplainedPart{Value: quoted(e.Register.Value), Dots: crdt.DotSet{e.Register.Dot()}, Time: e.Register.Time, Hidden: !live}
		if e.Register.Deleted {
			part.Value = "removed"
		}
		return []ExplainedPart{part}
	case e.Counter != nil:
		part := explainCounted(nil, *e.Counter)
		if part.Hidden {
			part.Value = "reset"
		}
		return []ExplainedPart{part}
	case len(e.Elements) > 0:
		parts := make([]ExplainedPart, len(e.Elements))
		for i, element := range e.Elements {
			parts[i] = ExplainedPart{Name: element.Element, Value: "added", Dots: element.Dots}
		}
		return parts
	default:
		return e.Parts
	}
}
