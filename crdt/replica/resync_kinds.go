package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// This file and the next one transfer and join the values of each type. Values that are kept whole are here.

func (registerKind) head(s stored, hidden bool) []byte {
	reg := &s.(*storedRegister).LWWRegister
	if hidden && !reg.Deleted && reg.Expires == 0 {
		return nil
	}
	return reg.Append(nil)
}

func (registerKind) hidden(pair) bool { return false }

func (registerKind) checkHead(data []byte, d *Donor) error {
	reg, err := crdt.DecodeLWWRegister(data)
	if err != nil {
		return err
	}
	return d.checkEvent(reg.Dot(), reg.Time)
}

func (registerKind) checkElement(e pair, _ *Donor) error { return noElements(e) }

// joinObject keeps the later write of the two, unless one side lacks it that has seen it: then it was deleted, or
// had expired.
func (registerKind) joinObject(o *joining) error {
	if !o.head {
		return nil
	}
	data, ok, err := o.w.kv.Get(o.key)
	if err != nil {
		return err
	}
	var mine, theirs crdt.LWWRegister
	if ok {
		if mine, err = crdt.DecodeLWWRegister(data); err != nil {
			return err
		}
		mine.Value = append([]byte(nil), mine.Value...)
	}
	if o.theirs.head != nil {
		if theirs, err = crdt.DecodeLWWRegister(o.theirs.head); err != nil {
			return err
		}
	}
	if insisted, err := o.insist(&mine, &theirs); insisted || err != nil {
		return err
	}
	if err := o.decide(&mine, &theirs, nil); err != nil || theirs.Seq == 0 && mine.Seq == 0 {
		return err
	}
	switch o.later(&mine, &theirs, "") {
	case keepMine:
		return nil
	case keepNeither:
		o.changed = true
		return o.w.dropRegister(o.key, &mine)
	default:
		o.changed = true
		return o.w.putRegister(o.key, &mine, &theirs)
	}
}

// kept is which of two writes stays.
type kept uint8

const (
	keepMine kept = iota
	keepTheirs
	keepNeither
)

// later returns which of two writes, of which one may not be there, is to stay at a place.
func (o *joining) later(mine, theirs *crdt.LWWRegister, element string) kept {
	switch {
	case mine.Seq == 0 && (theirs.Seq == 0 || o.here(element)(theirs.Dot())):
		return keepMine // nothing
	case mine.Seq == 0:
		return keepTheirs
	case theirs.Seq == 0 && !o.hidden && o.there(mine.Dot()):
		return keepNeither
	case theirs.Seq == 0 || mine.Compare(*theirs) >= 0:
		return keepMine
	default:
		return keepTheirs
	}
}

// dropRegister deletes a register without a trace.
func (w *work) dropRegister(object []byte, reg *crdt.LWWRegister) error {
	if err := w.forgetInstants(object, reg); err != nil {
		return err
	}
	w.wrote(object, nil)
	return w.kv.Delete(object)
}

// head is of a counter with rows that are wholly reset hidden: digests leave those out.
func (counterKind) head(s stored, hidden bool) []byte {
	rows := s.(*counterState).rows
	if hidden && rows.LiveRows().Len() == rows.Len() {
		return nil
	}
	return rows.Append(nil)
}

func (counterKind) hidden(pair) bool { return false }

func (counterKind) checkHead(data []byte, d *Donor) error {
	rows, err := crdt.DecodeCounter(data)
	if err != nil {
		return err
	}
	return d.checkRows(rows)
}

func (counterKind) checkElement(e pair, _ *Donor) error { return noElements(e) }

func (k counterKind) joinObject(o *joining) error {
	if !o.head || o.hidden && o.theirs.head == nil {
		return nil
	}
	c := &counterState{}
	data, ok, err := o.w.kv.Get(o.key)
	if err != nil {
		return err
	}
	if ok {
		s, err := k.decode(data)
		if err != nil {
			return err
		}
		c = s.(*counterState)
	}
	var theirs crdt.Counter
	if o.theirs.head != nil {
		if theirs, err = crdt.DecodeCounter(o.theirs.head); err != nil {
			return err
		}
	}
	joined, err := o.rows("", c.rows, theirs)
	if err != nil || joined.Equal(c.rows) {
		return err
	}
	c.rows, c.last = joined, o.mark(c.last)
	return o.w.putCounter(o.key, c)
}

// rows joins the rows of a counter, or of a member of a sorted set, and notes which resets their owners have yet
// to see.
func (o *joining) rows(element string, mine, theirs crdt.Counter) (crdt.Counter, error) {
	joined := crdt.JoinCounters(mine, theirs, o.here(element), o.there)
	o.w.compact(&joined)
	for row := range joined.All() {
		if row.Live() {
			continue
		}
		key := unsettledKey(row.Actor, row.Base.Reset, o.key, []byte(element))
		_, ok, err := o.w.kv.Get(key)
		if err != nil {
			return joined, err
		}
		if ok {
			continue
		}
		if err := o.w.kv.Put(key, marker[:]); err != nil {
			return joined, err
		}
		o.w.meta.unsettled++
	}
	return joined, nil
}

func (wholeKind[V, P, T]) head(s stored, hidden bool) []byte {
	var t T
	w := s.(*wholeState[V, P, T])
	if hidden && w.spent == 0 && !t.hides() {
		return nil
	}
	return P(&w.value).Append(nil)
}

func (wholeKind[V, P, T]) hidden(pair) bool { return false }

// checkHead can say little: events of these types are known by their times.
func (wholeKind[V, P, T]) checkHead(data []byte, _ *Donor) error {
	var t T
	_, err := t.decode(data)
	return err
}

func (wholeKind[V, P, T]) checkElement(e pair, _ *Donor) error { return noElements(e) }

// joinObject joins both values. Of up to the later of the instants from before which nothing is still to come here
// and there, the side with that instant knows all.
func (k wholeKind[V, P, T]) joinObject(o *joining) error {
	var t T
	if !o.head || o.hidden && o.theirs.head == nil {
		return nil
	}
	s, err := k.load(o.w, o.key)
	if err != nil {
		return err
	}
	var theirs V
	if o.theirs.head != nil {
		if theirs, err = t.decode(o.theirs.head); err != nil {
			return err
		}
	}
	before := string(P(&s.value).Append(nil))
	if cut := o.w.meta.collectedAt(o.theirs.object); cut >= o.donor.Collected {
		P(&s.value).Join(t.since(theirs, cut))
	} else {
		mine := t.since(s.value, o.donor.Collected)
		s.value = theirs
		P(&s.value).Join(mine)
	}
	if string(P(&s.value).Append(nil)) == before {
		return nil
	}
	s.last = o.mark(s.last)
	return k.put(o.w, o.key, s)
}

// A bounded counter loses nothing.
func (boundedType) since(c crdt.BoundedCounter, _ hlc.Time) crdt.BoundedCounter { return c }
func (boundedType) hides() bool                                                 { return false }

func (maxType) since(r crdt.MaxRegister, cut hlc.Time) crdt.MaxRegister { return r.Since(cut) }
func (minType) since(r crdt.MinRegister, cut hlc.Time) crdt.MinRegister { return r.Since(cut) }
func (extremeType[V, P]) hides() bool                                   { return false }

func (hllType) since(h crdt.HLL, cut hlc.Time) crdt.HLL { return h.Since(cut) }

// hides returns true: of two sketches with the same registers one may have raised them later.
func (hllType) hides() bool { return true }

func (siblingsKind) head(stored, bool) []byte { return nil }
func (siblingsKind) hidden(pair) bool         { return false }

func (siblingsKind) checkHead(data []byte, _ *Donor) error { return noHead(data) }

func (k siblingsKind) checkElement(e pair, d *Donor) error {
	s, err := k.decodeSibling(e)
	if err != nil {
		return err
	}
	return d.checkEvent(s.Dot, s.Time)
}

// decodeSibling reads what a chunk has of one value.
func (k siblingsKind) decodeSibling(e pair) (crdt.Sibling, error) {
	const nameBytes = 4 + 8
	if len(e.name) != nameBytes || len(e.value) < instantBytes || len(e.value) > instantBytes+k.maxValue() {
		return crdt.Sibling{}, fmt.Errorf("sibling of %d and %d bytes: %w", len(e.name), len(e.value), crdt.ErrCorrupt)
	}
	return crdt.Sibling{
		Dot:   crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(e.name)), Seq: binary.BigEndian.Uint64(e.name[4:])},
		Time:  hlc.Time(binary.BigEndian.Uint64(e.value)),
		Value: e.value[instantBytes:],
	}, nil
}

// deadlineKind: see deadline. Digests have those with an instant only.
func (deadlineKind) head(s stored, hidden bool) []byte {
	if d := s.(*deadline); !hidden || d.expires == 0 {
		return d.append(nil)
	}
	return nil
}

func (deadlineKind) hidden(pair) bool { return false }

func (k deadlineKind) checkHead(data []byte, _ *Donor) error {
	_, err := k.decode(data)
	return err
}

func (deadlineKind) checkElement(e pair, _ *Donor) error { return noElements(e) }

// joinObject keeps the later write of the two, and its end, but neither if the other side has seen and does not
// have it: it was replaced by one that says nothing, and is forgotten. In its place there may be an earlier one: the
// end of it that arrived since.
func (k deadlineKind) joinObject(o *joining) error {
	if !o.head {
		return nil
	}
	mine, err := o.deadlineHere(k)
	if err != nil {
		return err
	}
	theirs, err := k.load(o.theirs.head)
	if err != nil {
		return err
	}
	kept := mine
	if mine != nil && !o.hidden && !mine.same(theirs) && o.there(mine.dot) {
		kept = nil
	}
	fresh := theirs != nil && (theirs.same(mine) || !o.here("")(theirs.dot))
	switch {
	case fresh && (kept == nil || kept.compare(theirs) < 0):
		o.changed = true
		return o.w.putDeadline(o.key, mine, theirs)
	case kept == nil && mine != nil:
		o.changed = true
		return o.w.dropDeadline(o.key, mine)
	default:
		return nil
	}
}

// same reports whether both were written by one event; either may be nil, and not both.
func (d *deadline) same(o *deadline) bool { return d != nil && o != nil && d.dot == o.dot }

// dropDeadline deletes a deadline without a trace.
func (w *work) dropDeadline(object []byte, d *deadline) error {
	if err := w.forgetDeadline(object, d); err != nil {
		return err
	}
	w.wrote(object, nil)
	return w.kv.Delete(object)
}

// deadlineHere returns the deadline here, nil if there is none.
func (o *joining) deadlineHere(k deadlineKind) (*deadline, error) {
	data, ok, err := o.w.kv.Get(o.key)
	if err != nil || !ok {
		return nil, err
	}
	return k.load(data)
}

// load reads a deadline, which is nil if there is none.
func (k deadlineKind) load(data []byte) (*deadline, error) {
	if data == nil {
		return nil, nil
	}
	s, err := k.decode(data)
	if err != nil {
		return nil, err
	}
	return s.(*deadline), nil
}
