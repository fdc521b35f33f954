package replica

import (
	"bytes"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// ascending returns the distinct elements in order, as deltas have them.
func ascending(elements [][]byte) [][]byte {
	sorted := slices.Clone(elements)
	slices.SortFunc(sorted, bytes.Compare)
	return slices.CompactFunc(sorted, bytes.Equal)
}

// observed reads the surviving adds of elements; a set that is absent has none.
func (o *operation) observed(elements [][]byte) ([]crdt.DotSet, error) {
	dots := make([]crdt.DotSet, len(elements))
	if o.held.set.kid == 0 {
		return dots, nil
	}
	for i, element := range elements {
		var err error
		if dots[i], err = o.work.dots(o.held.set.kid, element); err != nil {
			return nil, err
		}
	}
	return dots, nil
}

// addElements gives each element the operation's dot in place of the adds it had: one that was there
// already is added anew, so that it survives a concurrent remove.
func (o *operation) addElements() (Outcome, []Effect, error) {
	set := &o.held.set
	elements := ascending(o.Elements)
	if len(elements) == 0 {
		return Outcome{Size: set.count}, nil, nil
	}
	observed, err := o.observed(elements)
	if err != nil {
		return Outcome{}, nil, err
	}
	var added uint64
	for _, dots := range observed {
		if len(dots) == 0 {
			added++
		}
	}
	if added > 0 && set.count+added > MaxSetElements {
		return Outcome{}, nil, refuse(ErrTooManyElements)
	}
	// Nothing was written so far, and nothing is refused from here on.
	if set.kid == 0 {
		set.kid = o.work.newKid()
	}
	changes := make([]ElementEffect, len(elements))
	value := crdt.DotSet{o.dot}.Append(nil)
	for i, element := range elements {
		changes[i] = ElementEffect{Element: element, Added: true, Removed: observed[i]}
		if err := o.work.kv.Put(elementKey(set.kid, element), value); err != nil {
			return Outcome{}, nil, err
		}
	}
	set.count += added
	return o.storeSet(added, &SetEffect{Elements: changes})
}

// removeElements takes away every add of the elements that is here.
func (o *operation) removeElements() (Outcome, []Effect, error) {
	set := &o.held.set
	elements := ascending(o.Elements)
	observed, err := o.observed(elements)
	if err != nil {
		return Outcome{}, nil, err
	}
	var changes []ElementEffect
	for i, element := range elements {
		if len(observed[i]) == 0 {
			continue
		}
		changes = append(changes, ElementEffect{Element: element, Removed: observed[i]})
		if err := o.work.kv.Delete(elementKey(set.kid, element)); err != nil {
			return Outcome{}, nil, err
		}
	}
	if len(changes) == 0 {
		return Outcome{Size: set.count}, nil, nil
	}
	removed := uint64(len(changes))
	set.count -= removed
	return o.storeSet(removed, &SetEffect{Elements: changes})
}

// clearSet empties the set in constant time: its elements are left for sweep under an id that no
// set has any more. The delta names what was seen by the vector, not element by element.
func (o *operation) clearSet() (Outcome, []Effect, error) {
	set := &o.held.set
	if err := o.work.discard(set.kid); err != nil {
		return Outcome{}, nil, err
	}
	removed := set.count
	set.count = 0
	seen := o.work.meta.vector.Clone()
	return o.storeSet(removed, &SetEffect{Cleared: &seen})
}

// storeSet writes the set's header, and returns what an operation that changed it answers.
func (o *operation) storeSet(changed uint64, effect *SetEffect) (Outcome, []Effect, error) {
	set := &o.held.set
	set.last = o.dot
	outcome := Outcome{Version: o.dot.String(), Size: set.count, Changed: changed}
	e := o.effect(crdt.TypeAWSet)
	e.Set = effect
	return outcome, []Effect{e}, o.work.putSet(objectKey(o.Namespace, o.Key, e.Type), *set)
}

// newKid returns an id for a set's elements that was never used.
func (w *work) newKid() uint64 {
	kid := w.meta.nextKid
	w.meta.nextKid++
	return kid
}
