package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// settler is a kind that keeps traces of resets until those whose additions were reset have seen it.
// settle drops from an object what is not needed any more; rest is what a pair of table U has behind the
// object's key.
type settler interface {
	settle(w *work, object, rest []byte) error
}

// knows reports whether an actor had seen a reset as of its last event here. What it adds later does not
// go on from what was reset. One that is gone adds nothing.
func (w *work) knows(owner crdt.Actor, reset crdt.Dot) bool {
	return owner == reset.Actor || w.meta.seen[owner].Covers(reset) || w.gone(owner)
}

// gone reports whether all that will ever come of an actor is applied.
func (w *work) gone(a crdt.Actor) bool {
	cut, released := w.released[a]
	return released && w.meta.vector.Get(a) >= cut
}

// compact drops the rows of a counter that nobody needs any more.
func (w *work) compact(rows *crdt.Counter) {
	rows.Compact(w.meta.self, w.meta.vector)
	rows.Settle(w.meta.vector, w.knows)
}

// awaitOwners enters in table U the rows that a reset left, which go once their owners have seen it.
func (w *work) awaitOwners(rows crdt.Counter, reset crdt.Dot, object, element []byte) error {
	for row := range rows.All() {
		if row.Live() || row.Base.Reset != reset {
			continue
		}
		if err := w.kv.Put(unsettledKey(row.Actor, reset, object, element), marker[:]); err != nil {
			return err
		}
		w.meta.unsettled++
	}
	return nil
}

// settle drops, up to a budget, what was kept until an actor had seen the resets of its additions.
func (w *work) settle(owner crdt.Actor, budget int) error {
	keys, err := w.settled(owner, budget)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := w.settleOne(k); err != nil {
			return err
		}
	}
	return nil
}

// settled returns up to limit keys of table U of resets that their owner has seen, or will never see.
func (w *work) settled(owner crdt.Actor, limit int) (keys [][]byte, err error) {
	if w.meta.unsettled == 0 {
		return nil, nil
	}
	if w.gone(owner) {
		all := binary.BigEndian.AppendUint32([]byte{tableUnsettled}, uint32(owner))
		return collectRange(w.kv, all, prefixEnd(all), limit)
	}
	for _, seen := range w.meta.seen[owner].Entries() {
		start := unsettledKey(owner, crdt.Dot{Actor: seen.Actor}, nil, nil)
		end := unsettledKey(owner, crdt.Dot{Actor: seen.Actor, Seq: seen.Seq + 1}, nil, nil)
		some, err := collectRange(w.kv, start, end, limit-len(keys))
		if err != nil {
			return nil, err
		}
		if keys = append(keys, some...); len(keys) >= limit {
			break
		}
	}
	return keys, nil
}

// owners returns the actors whose additions may have been reset, ascending: those with events here, and those that are
// gone without any, whose additions only others have seen that reset them.
func (w *work) owners() []crdt.Actor {
	var owners []crdt.Actor
	for _, last := range w.meta.vector.Entries() {
		owners = append(owners, last.Actor)
	}
	for a := range w.released {
		if w.meta.vector.Get(a) == 0 {
			owners = append(owners, a)
		}
	}
	slices.Sort(owners)
	return owners
}

// settleAll settles of every actor what its own events left over.
func (w *work) settleAll(budget int) error {
	for _, owner := range w.owners() {
		if err := w.settle(owner, budget); err != nil {
			return err
		}
	}
	return nil
}

// unsettled reports whether settleAll would do something.
func (w *work) unsettled() (bool, error) {
	for _, owner := range w.owners() {
		keys, err := w.settled(owner, 1)
		if err != nil || len(keys) > 0 {
			return len(keys) > 0, err
		}
	}
	return false, nil
}

func (w *work) settleOne(key []byte) error {
	const names = 1 + 4 + 4 + 8
	object, t, rest, err := cutObjectKey(key[names:])
	if err != nil {
		return err
	}
	s, ok := kinds[t].(settler)
	if !ok || w.meta.unsettled == 0 {
		return fmt.Errorf("reset of a %v to settle: %w", t, crdt.ErrCorrupt)
	}
	w.meta.unsettled--
	if err := w.kv.Delete(key); err != nil {
		return err
	}
	settle := func() error { return s.settle(w, object, rest) }
	if object[0] == tableLeaf {
		return w.changeLeaf(object, t, crdt.Dot{}, settle)
	}
	return settle()
}

func unsettledKey(owner crdt.Actor, reset crdt.Dot, object, element []byte) []byte {
	b := make([]byte, 0, 17+len(object)+len(element))
	b = binary.BigEndian.AppendUint32(append(b, tableUnsettled), uint32(owner))
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, uint32(reset.Actor)), reset.Seq)
	return append(append(b, object...), element...)
}

// settle implements settler.
func (k counterKind) settle(w *work, object, _ []byte) error {
	data, ok, err := w.kv.Get(object)
	if err != nil || !ok {
		return err
	}
	s, err := k.decode(data)
	if err != nil {
		return err
	}
	c := s.(*counterState)
	w.compact(&c.rows)
	return w.putCounter(object, c)
}

// settle implements settler for one member, whose score stays as it is.
func (counterZSetKind) settle(w *work, object, member []byte) error {
	data, ok, err := w.kv.Get(object)
	if err != nil || !ok {
		return err
	}
	h, err := decodeCounterZSetHeader(data)
	if err != nil {
		return err
	}
	m, err := w.scored(&h, member)
	if err != nil || !m.stored {
		return err
	}
	if err := w.putScored(&h, m); err != nil {
		return err
	}
	return w.putCounterZSet(object, &h)
}
