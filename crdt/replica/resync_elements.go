package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

func (setKind) head(stored, bool) []byte { return nil }
func (setKind) hidden(pair) bool         { return false }

func (setKind) checkHead(data []byte, _ *Donor) error { return noHead(data) }

func (setKind) checkElement(e pair, d *Donor) error {
	dots, err := crdt.DecodeDotSet(e.value)
	if err == nil && (len(dots) == 0 || slices.ContainsFunc(dots, func(dot crdt.Dot) bool { return !d.Vector.Covers(dot) })) {
		err = fmt.Errorf("element with dots %v, which the donor has not seen: %w", dots, crdt.ErrCorrupt)
	}
	return err
}

// joinObject joins elements by their adds. A side has seen an add that its vector includes, that a clear covers
// there, or that was removed there before it arrived.
func (setKind) joinObject(o *joining) error {
	m := &setMerge{work: o.w, key: o.key}
	data, existed, err := o.w.kv.Get(o.key)
	if err != nil {
		return err
	}
	if existed {
		if m.header, err = decodeSetHeader(data); err != nil {
			return err
		}
	}
	all, err := o.elements(&m.header.elements)
	if err != nil {
		return err
	}
	if err := m.readDeferred(); err != nil {
		return err
	}
	for _, b := range all {
		if err := o.joinElement(m, b); err != nil {
			return err
		}
	}
	if err := o.removeAhead(); err != nil {
		return err
	}
	if c := o.theirs.cleared; c.Len() > 0 && !o.w.meta.vector.Descends(c) {
		if err := o.w.deferClear(o.key, c); err != nil {
			return err
		}
	}
	if !o.changed {
		return nil
	}
	m.header.last = o.mark(m.header.last)
	return o.w.putSet(o.key, &m.header)
}

func (o *joining) joinElement(m *setMerge, b both) error {
	var mine, theirs crdt.DotSet
	var err error
	if b.mine != nil {
		if mine, err = crdt.DecodeDotSet(b.mine); err != nil {
			return err
		}
	}
	if b.theirs != nil {
		if theirs, err = crdt.DecodeDotSet(b.theirs); err != nil {
			return err
		}
	}
	element := string(b.name)
	included, failed := o.here(element), error(nil)
	here := func(d crdt.Dot) bool {
		ahead, err := o.w.wasRemovedAhead(d, o.key, b.name)
		if err != nil {
			failed = err
		}
		return ahead || included(d) || m.deferred.Covers(d)
	}
	there := func(d crdt.Dot) bool {
		return o.there(d) || o.theirs.cleared.Covers(d) || o.theirs.removes(element, d)
	}
	joined := crdt.JoinDots(mine, theirs, here, there)
	if failed != nil || slices.Equal(joined, mine) {
		return failed
	}
	o.changed = true
	return m.putElement(b.name, mine, joined)
}

// removes reports whether the object has an add among those that were removed before they arrived.
func (o *chunkObject) removes(element string, d crdt.Dot) bool {
	_, found := slices.BinarySearchFunc(o.removed, removedAhead{element, d}, compareRemoved)
	return found
}

// removeAhead remembers what the donor knows to be removed and that has not arrived here either.
func (o *joining) removeAhead() error {
	for _, r := range o.theirs.removed {
		if !o.covers(r.element) || o.here(r.element)(r.dot) {
			continue
		}
		if err := o.w.recordPreremovals(o.key, []byte(r.element), crdt.DotSet{r.dot}); err != nil {
			return err
		}
	}
	return nil
}

// joinObject joins puts by their dots. There is one of an actor at most, but for between two chunks.
func (k siblingsKind) joinObject(o *joining) error {
	s := &siblings{}
	data, ok, err := o.w.kv.Get(o.key)
	if err != nil {
		return err
	}
	if ok {
		read, err := k.decode(slices.Clone(data))
		if err != nil {
			return err
		}
		s = read.(*siblings)
	}
	list := slices.Clone(s.list)
	var theirs crdt.DotSet
	for _, e := range o.theirs.elements {
		sibling, err := k.decodeSibling(e)
		if err != nil {
			return err
		}
		if string(e.name) >= o.low {
			theirs, list = append(theirs, sibling.Dot), append(list, sibling)
		}
	}
	joined, err := o.joinSiblings(dotsOf(s.list), theirs)
	if err != nil {
		return err
	}
	if err := o.removeAhead(); err != nil || slices.Equal(joined, dotsOf(s.list)) {
		return err
	}
	s.list, s.last = pick(list, joined), o.mark(s.last)
	return o.w.putSiblings(o.key, s)
}

func (o *joining) joinSiblings(mine, theirs crdt.DotSet) (crdt.DotSet, error) {
	var failed error
	here := func(d crdt.Dot) bool {
		ahead, err := o.w.wasRemovedAhead(d, o.key, nil)
		if err != nil {
			failed = err
		}
		return ahead || o.here(siblingName(d))(d)
	}
	there := func(d crdt.Dot) bool {
		if o.theirs.removes("", d) {
			return true
		}
		name := siblingName(d)
		inRange := name >= o.low && (o.high == "" || name < o.high)
		return inRange && !o.hidden && o.there(d)
	}
	return crdt.JoinDots(mine, theirs, here, there), failed
}

// head is the last delete of all fields: time 8 | dot.
func (fieldsKind) head(s stored, _ bool) []byte {
	if h := s.(*fieldsHeader); h.stamp.Seq != 0 {
		return appendStamp(nil, &h.stamp)
	}
	return nil
}

// hidden reports whether a field is a tombstone.
func (fieldsKind) hidden(e pair) bool {
	reg, err := crdt.DecodeLWWRegister(e.value)
	return err != nil || reg.Deleted
}

func decodeStampHead(data []byte) (crdt.LWWRegister, error) {
	r := codec.NewReader("last delete of fields", append([]byte{chunkVersion}, data...), chunkVersion)
	stamp := readStamp(r)
	return stamp, r.Done()
}

func (fieldsKind) checkHead(data []byte, d *Donor) error {
	stamp, err := decodeStampHead(data)
	if err != nil {
		return err
	}
	return d.checkEvent(stamp.Dot(), stamp.Time)
}

func (k fieldsKind) checkElement(e pair, d *Donor) error {
	reg, err := crdt.DecodeLWWRegister(e.value)
	if err == nil && k.of == crdt.TypeZSet && !reg.Deleted {
		_, err = scoreIn(reg.Value)
	}
	if err != nil {
		return err
	}
	return d.checkEvent(reg.Dot(), reg.Time)
}

// joinObject keeps of each field the later write, as of a register, and of all what is after the last delete.
func (k fieldsKind) joinObject(o *joining) error {
	f, err := o.w.readFields(k.of, o.key)
	if err != nil {
		return err
	}
	if o.head && o.theirs.head != nil {
		stamp, err := decodeStampHead(o.theirs.head)
		if err != nil {
			return err
		}
		if stamp.Compare(f.header.stamp) > 0 && !o.here("")(stamp.Dot()) {
			o.changed = true
			if err := f.deleteUntil(stamp); err != nil {
				return err
			}
		}
	}
	all, err := o.elements(&f.header.elements)
	if err != nil {
		return err
	}
	for _, b := range all {
		if err := o.joinField(f, b); err != nil {
			return err
		}
	}
	if !o.changed {
		return nil
	}
	f.header.last = o.mark(f.header.last)
	return f.store()
}

func (o *joining) joinField(f *fields, b both) error {
	var mine, theirs crdt.LWWRegister
	var err error
	if b.mine != nil {
		if mine, err = crdt.DecodeLWWRegister(b.mine); err != nil {
			return err
		}
	}
	if b.theirs != nil {
		if theirs, err = crdt.DecodeLWWRegister(b.theirs); err != nil {
			return err
		}
		if theirs.Compare(f.header.stamp) <= 0 {
			if mine.Seq == 0 {
				return nil
			}
			theirs = crdt.LWWRegister{}
		}
	}
	if theirs.Seq != 0 {
		if err := o.decide(&mine, &theirs, b.name); err != nil {
			return err
		}
	}
	switch o.later(&mine, &theirs, string(b.name)) {
	case keepNeither:
		o.changed = true
		return f.remove(b.name, &mine)
	case keepTheirs:
		o.changed = true
		return f.write(b.name, &mine, &theirs)
	default:
		return nil
	}
}

// head is the mark.
func (timelineKind) head(s stored, _ bool) []byte {
	if h := s.(*timelineHeader); h.mark != 0 {
		return binary.BigEndian.AppendUint64(nil, uint64(h.mark))
	}
	return nil
}

func (timelineKind) hidden(pair) bool { return false }

func (timelineKind) checkHead(data []byte, d *Donor) error {
	latest := hlc.Time(0)
	for _, at := range d.Times {
		latest = max(latest, at)
	}
	if len(data) != instantBytes || hlc.Time(binary.BigEndian.Uint64(data)) > latest.Next() {
		return fmt.Errorf("mark of %d bytes, or in the future: %w", len(data), crdt.ErrCorrupt)
	}
	return nil
}

func (timelineKind) checkElement(e pair, d *Donor) error {
	entry, err := decodeEntry(elementKey(0, e.name), e.value)
	if err != nil {
		return err
	}
	return d.checkEvent(crdt.Dot{Actor: entry.Actor, Seq: entry.Seq}, entry.Time)
}

// joinObject keeps the entries that neither side lacks that has seen them, from the later mark on.
func (timelineKind) joinObject(o *joining) error {
	t := &timeline{work: o.w, object: o.key, timelineHeader: &timelineHeader{}}
	data, ok, err := o.w.kv.Get(o.key)
	if err != nil {
		return err
	}
	if ok {
		if *t.timelineHeader, err = decodeTimelineHeader(data); err != nil {
			return err
		}
	}
	if o.head && o.theirs.head != nil {
		if mark := hlc.Time(binary.BigEndian.Uint64(o.theirs.head)); mark > t.mark {
			if _, err := t.trim(o.mark(t.last), mark); err != nil {
				return err
			}
		}
	}
	all, err := o.elements(&t.elements)
	if err != nil {
		return err
	}
	for _, b := range all {
		if err := o.joinEntry(t, b); err != nil {
			return err
		}
	}
	if !o.changed {
		return nil
	}
	if t.count == 0 {
		t.elements = elements{} // each was deleted
	}
	t.last = o.mark(t.last)
	return t.store()
}

func (o *joining) joinEntry(t *timeline, b both) error {
	entry, err := decodeEntry(elementKey(0, b.name), append([]byte{storeVersion}, b.mine...)) // whose id is all that counts
	if err != nil {
		return err
	}
	dot := crdt.Dot{Actor: entry.Actor, Seq: entry.Seq}
	switch {
	case b.mine == nil && entry.Time >= t.mark && !o.here(string(b.name))(dot):
		o.changed = true
		t.count++
		return t.elements.put(o.w, b.name, b.theirs, nil)
	case b.mine != nil && b.theirs == nil && !o.hidden && o.there(dot):
		o.changed = true
		t.count--
		return t.elements.delete(o.w, b.name)
	default:
		return nil
	}
}

func (counterZSetKind) head(stored, bool) []byte { return nil }

// hidden reports whether a member has rows that are wholly reset.
func (counterZSetKind) hidden(e pair) bool {
	c, err := crdt.DecodeCounter(e.value)
	return err != nil || c.LiveRows().Len() < c.Len()
}

func (counterZSetKind) checkHead(data []byte, _ *Donor) error { return noHead(data) }

func (counterZSetKind) checkElement(e pair, d *Donor) error {
	return counterKind{}.checkHead(e.value, d)
}

// joinObject joins the members' counters.
func (counterZSetKind) joinObject(o *joining) error {
	var h counterZSetHeader
	data, ok, err := o.w.kv.Get(o.key)
	if err != nil {
		return err
	}
	if ok {
		if h, err = decodeCounterZSetHeader(data); err != nil {
			return err
		}
	}
	all, err := o.elements(&h.elements)
	if err != nil {
		return err
	}
	for _, b := range all {
		if err := o.joinMember(&h, b); err != nil {
			return err
		}
	}
	if !o.changed {
		return nil
	}
	h.last = o.mark(h.last)
	return o.w.putCounterZSet(o.key, &h)
}

func (o *joining) joinMember(h *counterZSetHeader, b both) error {
	m, err := o.w.scored(h, b.name)
	if err != nil {
		return err
	}
	var theirs crdt.Counter
	if b.theirs != nil {
		if theirs, err = crdt.DecodeCounter(b.theirs); err != nil {
			return err
		}
	}
	before := m.rows.Append(nil)
	if m.rows, err = o.rows(string(b.name), m.rows, theirs); err != nil || bytes.Equal(m.rows.Append(nil), before) {
		return err
	}
	o.changed = true
	return o.w.putScored(h, m)
}
