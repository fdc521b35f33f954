package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// setMerge is a set while the effect of one delta is merged into it.
type setMerge struct {
	*work
	delta  *Delta
	effect *Effect
	key    []byte
	header setHeader
	// deferred is what was cleared but may still arrive.
	deferred crdt.VersionVector
	// existed says that the storage has a header, and changed that it is not this one.
	existed, changed bool
}

// merge applies clears and removes before the add that comes with them, element by element.
func (setKind) merge(w *work, d *Delta, e *Effect) error {
	change := e.Change.(*SetChange)
	m, err := w.openSet(d, e)
	if err != nil {
		return err
	}
	if change.Cleared != nil {
		if err := m.clear(*change.Cleared); err != nil {
			return err
		}
	}
	if err := m.readDeferred(); err != nil {
		return err
	}
	for i := range change.Elements {
		if err := m.mergeElement(&change.Elements[i]); err != nil {
			return err
		}
	}
	if m.header.count > 0 || m.existed || m.changed {
		m.header.last, m.changed = d.Dot, true
	}
	if e.Path.IsRoot() {
		return nil
	}
	return w.closeSet() // whoever counts the leaves of a map looks at once
}

// openSet returns the set that an effect is on. It stays open until closeSet: most effects of a run are on
// the same set, whose header is then read and written once.
func (w *work) openSet(d *Delta, e *Effect) (*setMerge, error) {
	if m := w.set; m != nil && m.effect.id() == e.id() {
		m.delta, m.effect = d, e
		return m, nil
	}
	if err := w.closeSet(); err != nil {
		return nil, err
	}
	m := &setMerge{work: w, delta: d, effect: e, key: e.object()}
	data, existed, err := w.kv.Get(m.key)
	if err != nil {
		return nil, err
	}
	if existed {
		m.existed = true
		if m.header, err = decodeSetHeader(data); err != nil {
			return nil, err
		}
	}
	w.set = m
	return m, nil
}

// closeSet writes the header of the set that is open.
func (w *work) closeSet() error {
	m := w.set
	w.set = nil
	if m == nil || !m.changed {
		return nil
	}
	return w.putSet(m.key, &m.header)
}

// mergeElement joins the element here, whose context is the vector with what was removed ahead of
// its arrival, with the delta, whose context is what it removed, with the earlier adds of its actor: those
// in between are missing in a run.
func (m *setMerge) mergeElement(change *ElementChange) error {
	if err := m.recordPreremovals(m.key, change.Element, change.Removed); err != nil {
		return err
	}
	var have, added crdt.DotSet
	var removedAhead bool
	var err error
	if m.header.count != 0 {
		if have, err = m.dots(&m.header, change.Element); err != nil {
			return err
		}
	}
	if change.Added {
		added = crdt.DotSet{m.delta.Dot}
		if removedAhead, err = m.wasRemovedAhead(m.delta.Dot, m.key, change.Element); err != nil {
			return err
		}
		removedAhead = removedAhead || m.deferred.Covers(m.delta.Dot)
	}
	if len(have) == 0 && len(change.Removed) == 0 && change.Added && !removedAhead {
		return m.putElement(change.Element, have, added) // as most are
	}
	joined := crdt.JoinDots(have, added,
		func(crdt.Dot) bool { return removedAhead },
		takesAway(m.delta.Dot.Actor, change.Added, change.Removed))
	if !change.Added {
		if err := m.outliveAll(contest{m.delta, m.effect, change.Element}, joined); err != nil {
			return err
		}
	}
	if slices.Equal(have, joined) {
		return nil
	}
	return m.putElement(change.Element, have, joined)
}

func (m *setMerge) putElement(element []byte, have, joined crdt.DotSet) error {
	switch {
	case len(joined) == 0:
		m.header.count--
		return m.header.delete(m.work, element)
	case len(have) == 0:
		m.header.count++
	}
	m.data = joined.Append(m.data[:0])
	return m.header.put(m.work, element, m.data, nil)
}

// recordPreremovals keeps the removed adds that have not arrived yet: delivery is in order per
// actor only, so a remove can overtake the add of a third actor that it observed.
func (w *work) recordPreremovals(objectKey, element []byte, removed crdt.DotSet) error {
	for _, d := range removed {
		if w.meta.vector.Covers(d) {
			continue
		}
		key := preremovalKey(d, objectKey, element)
		_, ok, err := w.kv.Get(key)
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		if err := w.kv.Put(key, marker[:]); err != nil {
			return err
		}
		w.meta.preremovals++
	}
	return nil
}

// wasRemovedAhead reports whether table R says that an add was removed before it arrived.
func (w *work) wasRemovedAhead(d crdt.Dot, objectKey, element []byte) (bool, error) {
	if w.meta.preremovals == 0 {
		return false, nil
	}
	_, ok, err := w.kv.Get(preremovalKey(d, objectKey, element))
	return ok, err
}

// readDeferred reads the set's deferred clear.
func (m *setMerge) readDeferred() error {
	if m.meta.deferred == 0 {
		return nil
	}
	data, ok, err := m.kv.Get(deferredKey(m.key))
	if err != nil || !ok {
		return err
	}
	m.deferred, err = crdt.DecodeVersionVector(data)
	return err
}

// clear removes every add that a clear observed, and defers the clear for those still to arrive.
func (m *setMerge) clear(cleared crdt.VersionVector) error {
	if !m.meta.vector.Descends(cleared) {
		if err := m.deferClear(m.key, cleared); err != nil {
			return err
		}
	}
	if m.header.count == 0 {
		return nil
	}
	var gone, changed uint64
	var standing crdt.DotSet // what the clear may not have seen
	seen := m.meta.seen[m.delta.Dot.Actor]
	err := m.survey(cleared, func(_ []byte, have, left crdt.DotSet) {
		for _, d := range left {
			if !seen.Covers(d) {
				standing = append(standing, d)
			}
		}
		switch {
		case len(left) == 0:
			gone++
		case len(left) < len(have):
			changed++
		}
	})
	if err == nil {
		err = m.outliveAll(contest{delta: m.delta, effect: m.effect}, standing)
	}
	switch {
	case err != nil:
		return err
	case gone > m.header.count/2:
		return m.moveSurvivors(cleared)
	case gone+changed > 0:
		return m.removeCleared(cleared)
	default:
		return nil
	}
}

// deferClear remembers a clear for the adds that it covers and that are still to arrive.
func (w *work) deferClear(object []byte, cleared crdt.VersionVector) error {
	key := deferredKey(object)
	data, ok, err := w.kv.Get(key)
	if err != nil {
		return err
	}
	joined := cleared.Clone()
	if ok {
		earlier, err := crdt.DecodeVersionVector(data)
		if err != nil {
			return err
		}
		joined.Join(earlier)
	} else {
		w.meta.deferred++
	}
	return w.kv.Put(key, joined.Append(nil))
}

// survey visits the elements with the adds they have and those that a clear leaves.
func (m *setMerge) survey(cleared crdt.VersionVector, visit func(element []byte, have, left crdt.DotSet)) error {
	seen := uint64(0)
	err := m.header.scan(m.kv, nil, nil, func(element, v []byte) (bool, error) {
		have, err := crdt.DecodeDotSet(v)
		if err != nil {
			return false, err
		}
		seen++
		left := slices.DeleteFunc(slices.Clone(have), cleared.Covers)
		visit(element, have, left)
		return true, nil
	})
	if err == nil && seen != m.header.count {
		err = fmt.Errorf("set of %d elements has %d: %w", m.header.count, seen, crdt.ErrCorrupt)
	}
	return err
}

// survivor is an element with the adds that a clear left.
type survivor struct {
	element []byte
	left    crdt.DotSet
}

// moveSurvivors begins anew with the few elements that are left, and leaves the many to sweep.
func (m *setMerge) moveSurvivors(cleared crdt.VersionVector) error {
	var moved []survivor
	err := m.survey(cleared, func(element []byte, _, left crdt.DotSet) {
		if len(left) > 0 {
			moved = append(moved, survivor{slices.Clone(element), left})
		}
	})
	if err != nil {
		return err
	}
	if err := m.header.discard(m.work); err != nil {
		return err
	}
	m.header.count = uint64(len(moved))
	for _, s := range moved {
		if err := m.header.put(m.work, s.element, s.left.Append(nil), nil); err != nil {
			return err
		}
	}
	return nil
}

// removeCleared takes the few elements that the clear concerns out of the many.
func (m *setMerge) removeCleared(cleared crdt.VersionVector) error {
	var affected []survivor
	err := m.survey(cleared, func(element []byte, have, left crdt.DotSet) {
		if len(left) < len(have) {
			affected = append(affected, survivor{slices.Clone(element), left})
		}
	})
	if err != nil {
		return err
	}
	for _, s := range affected {
		if len(s.left) > 0 {
			err = m.header.put(m.work, s.element, s.left.Append(nil), nil)
		} else {
			m.header.count--
			err = m.header.delete(m.work, s.element)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
