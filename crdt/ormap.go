package crdt

import (
	"maps"
	"slices"
	"strings"
)

// ORMap is a nested map: paths of names lead to leaves, which are sets, counters, registers and
// flags. A leaf is named by its path and its type, so two regions that create different types at one
// path do not meet: both leaves stay. A path exists if, at it or below it, some leaf is not empty;
// there is nothing to create or delete but leaves.
//
// Operations: Update does an operation of a leaf, see LeafOp; Remove takes away all that it observed
// at a path and below it; the root, which is the zero Path, stands for the whole map.
//
// Concurrent operations: those on different leaves do not affect each other. In a leaf, adds win: an
// element that was added, an amount, a value that was put and a flag that was enabled survive every
// Remove that did not observe them. What survives is only that, not the rest of the leaf: a counter
// of 10 that one region removes while another adds 2 is 2. Concurrent values of a register all stay,
// until a later put.
//
// Each leaf has the dots of the events that made it, and the whole map has one causal context: a dot
// that the context covers and no leaf has was removed. So removes leave no tombstones and the levels
// of the map have no clocks. The exception are counters: where another actor had added, a remove
// leaves a row, about 40 bytes, that says how much it took away, until that actor's next Compact.
//
// Laws: Join is commutative, associative and idempotent over states of one history; the zero ORMap is
// neutral; states of the same events are equal. Size: per leaf its path and, for each element, value
// or flag, about 6 bytes per concurrent operation, for counters 20 per actor; and the context.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// This is the model of what a remove means. Package crdt/replica, which serves maps with leaves of all types
// but bounded counters, shares no code with it: there a leaf is an object of its type, and a remove is the
// deletes of the leaves that it observed. The types that are not here are decided by time, so that their
// deletes leave tombstones; with them the model would be all that of the package once more under one context,
// and would show nothing but that leaves do not affect each other. What storage gives for all types is held
// against a specification by history there.
//
// Ref: Almeida, Shoker, Baquero, "Delta State Replicated Data Types", JPDC 2018, §7, for maps with
// one context; the meaning of Remove is that of Antidote's map_rr.
type ORMap struct {
	leaves  map[LeafKey]leaf // none of them gone
	context VersionVector
	unknown Fields
}

// LeafKey names a leaf.
type LeafKey struct {
	Path Path
	Type LeafType
}

func compareLeafKeys(a, b LeafKey) int {
	if c := strings.Compare(a.Path.encoded, b.Path.encoded); c != 0 {
		return c
	}
	return int(a.Type) - int(b.Type)
}

// Update does op on the leaf at path p, of the type that op belongs to, as event d. The context must
// not cover d yet, and includes all earlier events of d's actor.
//
// Errors: ErrBadPath if p is the root, ErrCounterOverflow if a counter would leave int64. Nothing
// was changed then, and d did not happen.
func (m *ORMap) Update(d Dot, p Path, op LeafOp) error {
	if p == (Path{}) {
		return ErrBadPath
	}
	key := LeafKey{p, op.leafType()}
	l := m.leaves[key]
	if err := op.apply(&l, d); err != nil {
		return err
	}
	m.put(key, l)
	m.context.Set(d.Actor, d.Seq)
	return nil
}

// Remove takes away, as event d, all that is in the leaves at p and below it.
func (m *ORMap) Remove(d Dot, p Path) {
	for key, l := range m.leaves {
		if key.Path.within(p) {
			l.clear(d)
			m.put(key, l)
		}
	}
	m.context.Set(d.Actor, d.Seq)
}

// Compact forgets, as event d, the rows of d's actor in counters where they are wholly reset. Others
// forget them when they learn of it. Without it, nothing is wrong but space.
func (m *ORMap) Compact(d Dot) {
	for key, l := range m.leaves {
		l.forget(d.Actor)
		m.put(key, l)
	}
	m.context.Set(d.Actor, d.Seq)
}

func (m *ORMap) put(key LeafKey, l leaf) {
	switch {
	case l.gone():
		delete(m.leaves, key)
	case m.leaves == nil:
		m.leaves = map[LeafKey]leaf{key: l}
	default:
		m.leaves[key] = l
	}
}

// Exists reports whether some leaf at p or below it is not empty.
func (m ORMap) Exists(p Path) bool {
	for key, l := range m.leaves {
		if key.Path.within(p) && !l.empty() {
			return true
		}
	}
	return false
}

// Leaves returns the names of the leaves at p and below it that are not empty, a leaf before those
// below it. The order is otherwise fixed but without meaning.
func (m ORMap) Leaves(p Path) []LeafKey {
	var keys []LeafKey
	for key, l := range m.leaves {
		if key.Path.within(p) && !l.empty() {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareLeafKeys)
	return keys
}

// Names returns the names right below p at which there is something, in ascending order.
func (m ORMap) Names(p Path) []string {
	depth := len(p.Names())
	var names []string
	for _, key := range m.Leaves(p) {
		if full := key.Path.Names(); len(full) > depth {
			names = append(names, full[depth])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Elements returns the elements of the set at p in ascending order.
func (m ORMap) Elements(p Path) []string {
	var names []string
	for _, e := range m.leaves[LeafKey{p, LeafSet}].elements {
		names = append(names, e.name)
	}
	return names
}

// Count returns the value of the counter at p, and whether there is one.
func (m ORMap) Count(p Path) (int64, bool) {
	c := m.leaves[LeafKey{p, LeafCounter}].counter
	return c.Value(), !c.Empty()
}

// Values returns the concurrent values of the register at p in ascending order of dots. The slice is
// the caller's; the bytes are not to be changed.
func (m ORMap) Values(p Path) []LeafValue {
	return slices.Clone(m.leaves[LeafKey{p, LeafRegister}].values)
}

// Enabled reports whether the flag at p is enabled.
func (m ORMap) Enabled(p Path) bool { return !m.leaves[LeafKey{p, LeafFlag}].empty() }

// Context returns the events that the map includes.
func (m ORMap) Context() VersionVector { return m.context.Clone() }

// Join merges the whole state of another replica of the map.
func (m *ORMap) Join(o ORMap) {
	mine, theirs := m.leaves, o.leaves
	m.leaves = make(map[LeafKey]leaf, max(len(mine), len(theirs)))
	join := func(key LeafKey) {
		m.put(key, joinLeaves(mine[key], theirs[key], m.context.Covers, o.context.Covers))
	}
	for key := range mine {
		join(key)
	}
	for key := range theirs {
		if _, done := mine[key]; !done {
			join(key)
		}
	}
	m.context.Join(o.context)
	m.unknown = m.unknown.Join(o.unknown)
}

// Equal reports whether two maps have the same leaves and context.
func (m ORMap) Equal(o ORMap) bool {
	return m.unknown == o.unknown && m.context.Equal(o.context) && maps.EqualFunc(m.leaves, o.leaves, leaf.equal)
}

// Clone returns a copy that shares no memory that is ever changed.
func (m ORMap) Clone() ORMap {
	leaves := maps.Clone(m.leaves)
	for key, l := range leaves {
		leaves[key] = l.clone()
	}
	return ORMap{leaves, m.context.Clone(), m.unknown}
}
