package replica

import (
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// fieldsKind keeps a collection of last-writer-wins fields: a header in table K, and in elements one
// crdt.LWWRegister per field, tombstones among them. Table Y says from when on nobody needs a
// tombstone, or the header's stamp of the last delete.
type fieldsKind struct{ of crdt.Type }

// fieldsHeader is what is stored of a collection besides fields outside. It exists as long as there is a
// field, a tombstone or a stamp.
type fieldsHeader struct {
	last crdt.Dot
	// count and tombstones are how many elements are fields, and how many were removed.
	count, tombstones uint64
	elements
	// stamp is the last delete of the whole collection; its Seq is 0 if there was none.
	stamp crdt.LWWRegister
}

// append appends the encoding:
//
//	version 1 | last actor | last seq | kid | fields | tombstones | of the stamp, if there is one: time 8 | actor | seq
//	version 2 | last actor | last seq | fields | tombstones | flags 1 (1 stamp) | the stamp, if flagged | elements
func (h *fieldsHeader) append(b []byte) []byte {
	if len(h.inside) > 0 {
		return h.appendWithElements(b)
	}
	b = appendDot(append(b, storeVersion), h.last)
	for _, n := range []uint64{h.kid, h.count, h.tombstones} {
		b = binary.AppendUvarint(b, n)
	}
	if h.stamp.Seq != 0 {
		b = appendStamp(b, &h.stamp)
	}
	return b
}

func (h *fieldsHeader) appendWithElements(b []byte) []byte {
	b = appendDot(append(b, headerVersion2), h.last)
	b = binary.AppendUvarint(binary.AppendUvarint(b, h.count), h.tombstones)
	if h.stamp.Seq != 0 {
		b = appendStamp(append(b, fieldsStamped), &h.stamp)
	} else {
		b = append(b, 0)
	}
	return h.appendInside(b)
}

// fieldsStamped is the flag of a header of version 2 with a stamp.
const fieldsStamped = 1

func appendStamp(b []byte, stamp *crdt.LWWRegister) []byte {
	return appendDot(binary.BigEndian.AppendUint64(b, uint64(stamp.Time)), stamp.Dot())
}

func readStamp(r *codec.Reader) crdt.LWWRegister {
	at := hlc.Time(r.Uint64())
	stamp := removedAt(at, readDot(r))
	if stamp.Seq == 0 {
		r.Fail("stamp of no event")
	}
	return stamp
}

func (h *fieldsHeader) live(hlc.Time) bool { return h.count != 0 }
func (h *fieldsHeader) version() string    { return h.last.String() }
func (h *fieldsHeader) show(o *Object)     { o.Size = h.count }

func decodeFieldsHeader(data []byte) (fieldsHeader, error) {
	const any = ^uint64(0)
	r, version := readHeader("header of fields", data)
	h := fieldsHeader{last: readDot(r)}
	if version == headerVersion2 {
		h.readWithElements(r)
		return h, r.Done()
	}
	h.kid, h.count, h.tombstones = r.Uvarint(any), r.Uvarint(any), r.Uvarint(any)
	if r.Len() > 0 {
		h.stamp = readStamp(r)
	}
	pairs := h.count != 0 || h.tombstones != 0
	if pairs != (h.kid != 0) || !pairs && h.stamp.Seq == 0 {
		r.Fail("fields without id, or nothing at all")
	}
	return h, r.Done()
}

func (h *fieldsHeader) readWithElements(r *codec.Reader) {
	h.count, h.tombstones = r.Uvarint(^uint64(0)), r.Uvarint(^uint64(0))
	switch flags := r.Byte(); flags {
	case 0:
	case fieldsStamped:
		h.stamp = readStamp(r)
	default:
		r.Fail("unknown flags %#x", flags)
	}
	h.elements = readInside(r)
	if n := uint64(len(h.inside)); h.count > n || h.tombstones != n-h.count {
		r.Fail("%d fields and %d tombstones in %d elements", h.count, h.tombstones, n)
	}
}

func (fieldsKind) decode(data []byte) (stored, error) {
	h, err := decodeFieldsHeader(data)
	return &h, err
}

// removedAt returns the register that a remove or delete leaves.
func removedAt(at hlc.Time, d crdt.Dot) crdt.LWWRegister {
	return crdt.LWWRegister{Time: at, Actor: d.Actor, Seq: d.Seq, Deleted: true}
}

// fields is a collection while an operation, a delta or the collection of garbage changes it.
type fields struct {
	*work
	of     crdt.Type
	object []byte
	header fieldsHeader
}

// readFields reads the header of a collection, which is empty if there is none.
func (w *work) readFields(t crdt.Type, object []byte) (*fields, error) {
	f := &fields{work: w, of: t, object: object}
	data, ok, err := w.kv.Get(object)
	if err == nil && ok {
		f.header, err = decodeFieldsHeader(data)
	}
	return f, err
}

// get reads a field or its tombstone; Seq is 0 if there is neither. It shares the storage's memory.
func (f *fields) get(name []byte) (crdt.LWWRegister, error) {
	return f.header.field(f.kv, name)
}

func (h *fieldsHeader) field(kv reader, name []byte) (crdt.LWWRegister, error) {
	data, ok, err := h.elements.get(kv, name)
	if err != nil || !ok {
		return crdt.LWWRegister{}, err
	}
	return crdt.DecodeLWWRegister(data)
}

// write writes a field or its tombstone in place of old, whose Seq is 0 if there is neither. The header
// is to be stored afterwards.
func (f *fields) write(name []byte, old, reg *crdt.LWWRegister) error {
	if err := f.forget(name, old); err != nil {
		return err
	}
	f.data = reg.Append(f.data[:0])
	if err := f.header.put(f.work, name, f.data, fieldsKind{f.of}.ordering()); err != nil {
		return err
	}
	if reg.Deleted {
		f.header.tombstones++
		return f.kv.Put(f.spentKey(reg.Time, name), marker[:])
	}
	f.header.count++
	return f.index(reg.Value, name, true)
}

// forget deletes what other tables say of a field or tombstone, and counts it no more. The Value of old
// may be invalid afterwards.
func (f *fields) forget(name []byte, old *crdt.LWWRegister) error {
	switch {
	case old.Seq == 0:
		return nil
	case old.Deleted:
		f.header.tombstones--
		return f.kv.Delete(f.spentKey(old.Time, name))
	}
	f.header.count--
	return f.index(old.Value, name, false)
}

// index enters a member of a sorted set under its score in table Z, or takes it out. It does nothing
// for a map.
func (f *fields) index(value, name []byte, in bool) error {
	if f.of != crdt.TypeZSet {
		return nil
	}
	score, err := scoreIn(value)
	if err != nil {
		return err
	}
	return f.header.elements.index(f.work, orderedScore(score), name, in)
}

// ordering returns that of a sorted set by its scores; a map has none.
func (k fieldsKind) ordering() ordering {
	if k.of != crdt.TypeZSet {
		return nil
	}
	return func(value []byte) (uint64, bool, error) {
		reg, err := crdt.DecodeLWWRegister(value)
		if err != nil || reg.Deleted {
			return 0, false, err
		}
		score, err := scoreIn(reg.Value)
		return orderedScore(score), true, err
	}
}

// remove deletes a field or tombstone without a trace.
func (f *fields) remove(name []byte, old *crdt.LWWRegister) error {
	if err := f.forget(name, old); err != nil {
		return err
	}
	return f.header.elements.delete(f.work, name)
}

// spentKey returns the key in table Y of a field's tombstone; the empty name gives the stamp's.
func (f *fields) spentKey(at hlc.Time, name []byte) []byte {
	return append(instantKey(tableSpent, at, f.object), name...)
}

// stamp notes that everything up to an event was deleted.
func (f *fields) stamp(reg crdt.LWWRegister) error {
	if f.header.stamp.Seq != 0 {
		if err := f.kv.Delete(f.spentKey(f.header.stamp.Time, nil)); err != nil {
			return err
		}
	}
	f.header.stamp = reg
	return f.kv.Put(f.spentKey(reg.Time, nil), marker[:])
}

// leave gives up all pairs in constant time: sweep deletes them. Their entries in table Y stay until
// the cut, and find nothing then.
func (f *fields) leave() error {
	f.header.count, f.header.tombstones = 0, 0
	return f.header.elements.discard(f.work)
}

// store writes the header, or deletes it if nothing is left.
func (f *fields) store() error {
	f.wrote(f.object, nil)
	h := &f.header
	if h.count == 0 && h.tombstones == 0 {
		h.kid = 0
		if h.stamp.Seq == 0 {
			return f.kv.Delete(f.object)
		}
	}
	f.data = h.append(f.data[:0])
	return f.kv.Put(f.object, f.data)
}

// collect removes a tombstone, or with an empty name the stamp, that is not after the cut. Another may
// have taken its place since, or nothing.
func (k fieldsKind) collect(w *work, object []byte, cut hlc.Time, name []byte) error {
	f, err := w.readFields(k.of, object)
	if err != nil {
		return err
	}
	if len(name) == 0 {
		if f.header.stamp.Seq == 0 || f.header.stamp.Time > cut {
			return nil
		}
		f.header.stamp = crdt.LWWRegister{}
		return f.store()
	}
	reg, err := f.get(name)
	if err != nil || !reg.Deleted || reg.Time > cut {
		return err
	}
	if err := f.remove(name, &reg); err != nil {
		return err
	}
	return f.store()
}

func (fieldsKind) digest(_ *digestSum, _ []byte, s stored, _ hlc.Time) uint64 {
	return s.(*fieldsHeader).kid
}

// digestElement leaves tombstones out: each region removes them when it can.
func (fieldsKind) digestElement(data []byte) ([]byte, error) {
	reg, err := crdt.DecodeLWWRegister(data)
	if err != nil || reg.Deleted {
		return nil, err
	}
	return data, nil
}

func (k fieldsKind) explain(kv KV, s stored, e *Explained) error {
	h := s.(*fieldsHeader)
	e.Size = h.count + h.tombstones
	if h.stamp.Seq != 0 {
		e.Size++
		e.Parts = append(e.Parts, ExplainedPart{Value: "all before was deleted", Dots: crdt.DotSet{h.stamp.Dot()}, Time: h.stamp.Time, Hidden: true})
	}
	if h.count == 0 && h.tombstones == 0 {
		return nil
	}
	return h.elements.scan(kv, nil, nil, func(name, v []byte) (bool, error) {
		reg, err := crdt.DecodeLWWRegister(v)
		if err != nil {
			return false, err
		}
		part := ExplainedPart{Name: slices.Clone(name), Value: "removed", Dots: crdt.DotSet{reg.Dot()}, Time: reg.Time, Hidden: reg.Deleted}
		if !reg.Deleted {
			part.Value = k.text(reg.Value)
		}
		e.Parts = append(e.Parts, part)
		return len(e.Parts) < explainElements, nil
	})
}

// text returns a field's value, or a member's score, for people.
func (k fieldsKind) text(value []byte) string {
	if k.of == crdt.TypeZSet {
		if score, err := scoreIn(value); err == nil {
			return strconv.FormatFloat(score, 'g', -1, 64)
		}
	}
	return quoted(value)
}
