package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// timelineKind keeps a timeline's header in table K and in elements its entries, under their time, actor
// and sequence number.
//
// An entry is there if its add was applied and is not before the mark of any trim that was applied.
// That is the largest mark, so it is all that is kept of trims, and only as long as an earlier entry
// may still arrive: table Y says when.
type timelineKind struct{}

// timelineHeader is what is stored of a timeline besides entries outside. It exists if there are entries
// or a mark.
type timelineHeader struct {
	last  crdt.Dot
	count uint64
	elements
	// mark is the instant of the last trim: there is no entry before it. It is 0 if there was none, or
	// if nothing from before it can arrive any more.
	mark hlc.Time
}

// append appends the encoding:
//
//	version 1 | last actor | last seq | kid | count | mark 8
//	version 2 | last actor | last seq | mark 8 | elements
func (h *timelineHeader) append(b []byte) []byte {
	if len(h.inside) > 0 {
		b = appendDot(append(b, headerVersion2), h.last)
		return h.appendInside(binary.BigEndian.AppendUint64(b, uint64(h.mark)))
	}
	b = appendDot(append(b, storeVersion), h.last)
	b = binary.AppendUvarint(binary.AppendUvarint(b, h.kid), h.count)
	return binary.BigEndian.AppendUint64(b, uint64(h.mark))
}

func (h *timelineHeader) live(hlc.Time) bool { return h.count != 0 }
func (h *timelineHeader) version() string    { return h.last.String() }
func (h *timelineHeader) show(o *Object)     { o.Size = h.count }

func decodeTimelineHeader(data []byte) (timelineHeader, error) {
	r, version := readHeader("timeline header", data)
	h := timelineHeader{last: readDot(r)}
	if version == headerVersion2 {
		h.mark = hlc.Time(r.Uint64())
		h.elements = readInside(r)
		h.count = uint64(len(h.inside))
		return h, r.Done()
	}
	h.kid, h.count, h.mark = r.Uvarint(^uint64(0)), r.Uvarint(^uint64(0)), hlc.Time(r.Uint64())
	if (h.kid == 0) != (h.count == 0) || h.kid == 0 && h.mark == 0 {
		r.Fail("timeline of %d entries under id %d, mark %v", h.count, h.kid, h.mark)
	}
	return h, r.Done()
}

func (timelineKind) decode(data []byte) (stored, error) {
	h, err := decodeTimelineHeader(data)
	return &h, err
}

// digest has the entries hashed. Marks are left out: when one is forgotten is each replica's own affair.
func (timelineKind) digest(_ *digestSum, _ []byte, s stored, _ hlc.Time) uint64 {
	return s.(*timelineHeader).kid
}

func checkTrim(o *Op) error {
	if o.At == 0 {
		return errors.New("no instant to trim to")
	}
	return nil
}

// timeline returns what the operation's key holds of a timeline.
func (o *operation) timeline() *timelineHeader {
	if h, ok := o.held.get(crdt.TypeTimeline).(*timelineHeader); ok {
		return h
	}
	return &timelineHeader{}
}

// runTimelineAdd adds an entry at the event's instant. No mark is after that: a mark is at most the
// next instant after the event that set it.
func runTimelineAdd(o *operation) (Outcome, []Effect, error) {
	h := o.timeline()
	if h.count >= MaxSetElements {
		return Outcome{}, nil, refuse(ErrTooManyElements)
	}
	change := &TimelineChange{Value: o.Value}
	t := timeline{work: o.work, object: o.key(crdt.TypeTimeline), timelineHeader: h}
	if err := t.add(o.dot, o.at, change.Value); err != nil {
		return Outcome{}, nil, err
	}
	return o.timelineOutcome(h, 1, change)
}

// runTimelineTrim raises the mark. That has an effect even if no entry here goes: one from before the
// mark may be on its way.
func runTimelineTrim(o *operation) (Outcome, []Effect, error) {
	before := o.At
	if latest := o.at.Next(); before > latest {
		if !o.AnyType {
			return Outcome{}, nil, refuse(ErrTrimInFuture)
		}
		// It was acknowledged already, by a node whose clock is ahead.
		before = latest
	}
	return o.trimTimeline(before)
}

// delete trims to just after the operation's instant, which is after all entries here, or after that up to
// which they have expired.
func (timelineKind) delete(o *operation) (Outcome, []Effect, error) {
	if o.until != 0 {
		return o.trimTimeline(o.until.Next())
	}
	return o.trimTimeline(o.at.Next())
}

func (o *operation) trimTimeline(before hlc.Time) (Outcome, []Effect, error) {
	h := o.timeline()
	if before <= h.mark {
		return Outcome{Size: h.count}, nil, nil
	}
	t := timeline{work: o.work, object: o.key(crdt.TypeTimeline), timelineHeader: h}
	removed, err := t.trim(o.dot, before)
	if err != nil {
		return Outcome{}, nil, err
	}
	return o.timelineOutcome(h, removed, &TimelineChange{Before: before})
}

func (o *operation) timelineOutcome(h *timelineHeader, changed uint64, c *TimelineChange) (Outcome, []Effect, error) {
	return Outcome{Version: h.version(), Size: h.count, Changed: changed}, o.effects(crdt.TypeTimeline, c), nil
}

// merge applies an entry, its removal, or a trim of another actor. An entry from before the mark was trimmed ahead
// of its arrival, and a trim to before the mark changes nothing.
func (timelineKind) merge(w *work, d *Delta, e *Effect) error {
	t := timeline{work: w, object: e.object(), timelineHeader: &timelineHeader{}}
	data, ok, err := w.kv.Get(t.object)
	if err != nil {
		return err
	}
	if ok {
		if *t.timelineHeader, err = decodeTimelineHeader(data); err != nil {
			return err
		}
	}
	change := e.Change.(*TimelineChange)
	switch {
	case change.VoidSeq != 0:
		return t.remove(d.Dot, TimelineID(crdt.TimelineEntry{Time: change.VoidTime, Actor: d.Dot.Actor, Seq: change.VoidSeq}))
	case change.Before == 0 && d.Time >= t.mark:
		return t.add(d.Dot, d.Time, change.Value)
	case change.Before > t.mark:
		_, err = t.trim(d.Dot, change.Before)
	}
	return err
}

// timeline is a timeline under change.
type timeline struct {
	*work
	object []byte
	*timelineHeader
}

func (t *timeline) add(d crdt.Dot, at hlc.Time, value []byte) error {
	t.count++
	t.last = d
	id := TimelineID(crdt.TimelineEntry{Time: at, Actor: d.Actor, Seq: d.Seq})
	if err := t.elements.put(t.work, id, append([]byte{storeVersion}, value...), nil); err != nil {
		return err
	}
	return t.store()
}

// remove takes away an entry that the author of the event d added before it. It leaves no trace: the entry came
// before d, as all events of one author do.
func (t *timeline) remove(d crdt.Dot, id []byte) error {
	_, ok, err := t.elements.get(t.kv, id)
	if err != nil || !ok {
		return err // trimmed
	}
	t.last = d
	if t.count--; t.count == 0 {
		if err := t.elements.discard(t.work); err != nil {
			return err
		}
		return t.store()
	}
	if err := t.elements.delete(t.work, id); err != nil {
		return err
	}
	return t.store()
}

// trim raises the mark, and returns how many entries went. If all do, they are left for sweep, which
// takes constant time.
func (t *timeline) trim(d crdt.Dot, before hlc.Time) (removed uint64, err error) {
	if err := t.moveMark(before); err != nil {
		return 0, err
	}
	t.last = d
	if t.count == 0 {
		return 0, t.store()
	}
	left := false
	bound := binary.BigEndian.AppendUint64(nil, uint64(before))
	err = t.elements.scan(t.kv, bound, nil, func(_, _ []byte) (bool, error) {
		left = true
		return false, nil
	})
	if err != nil {
		return 0, err
	}
	if left {
		removed, err = t.elements.cut(t.work, bound)
	} else {
		removed, err = t.count, t.elements.discard(t.work)
	}
	if err != nil {
		return 0, err
	}
	if removed > t.count || (removed == t.count) == left {
		return 0, fmt.Errorf("timeline of %d entries has more: %w", t.count, crdt.ErrCorrupt)
	}
	t.count -= removed
	return removed, t.store()
}

// moveMark changes the mark, and what table Y says of it: that it is of no use once nothing can arrive from the
// instant before it or earlier, which is at most that of the event.
func (t *timeline) moveMark(to hlc.Time) error {
	if t.mark != 0 {
		if err := t.kv.Delete(instantKey(tableSpent, t.mark-1, t.object)); err != nil {
			return err
		}
	}
	t.mark = to
	return t.kv.Put(instantKey(tableSpent, to-1, t.object), marker[:])
}

// store writes the header, or deletes it if there is nothing to keep.
func (t *timeline) store() error {
	t.wrote(t.object, nil)
	if t.count == 0 && t.mark == 0 {
		return t.kv.Delete(t.object)
	}
	t.data = t.timelineHeader.append(t.data[:0])
	return t.kv.Put(t.object, t.data)
}

// collect forgets the mark, of which table Y said that it was due.
func (timelineKind) collect(w *work, object []byte, cut hlc.Time, _ []byte) error {
	data, ok, err := w.kv.Get(object)
	if err != nil || !ok {
		return err
	}
	h, err := decodeTimelineHeader(data)
	if err != nil || h.mark-1 > cut {
		return err
	}
	h.mark = 0
	t := timeline{work: w, object: object, timelineHeader: &h}
	return t.store()
}
