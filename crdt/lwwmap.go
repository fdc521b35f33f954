package crdt

import (
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// LWWMap is a last-writer-wins map of named fields: the last event that concerns a field, by
// (time, actor), decides it. That is a put of the field, a remove of it, or a delete of the whole map.
//
// Tie rule: at equal times the larger actor wins, as with LWWRegister. No two events share both; one
// event may put several fields. An event cannot both delete the map and put a field, because the
// field would not be after the delete.
//
// Deletes: a remove and a delete win over every earlier put, concurrent or not, and lose to every
// later one. A remove leaves a tombstone of its field, even of a field that is not there, because an
// earlier put may still be on its way. A delete leaves one mark for the whole map, and takes the
// place of all that is not after it, tombstones too.
//
// Garbage collection: a tombstone or mark can go once no event of its time or earlier can arrive; see
// Collect. Fields do not expire.
//
// Laws: Join is commutative, associative and idempotent; the zero LWWMap is neutral. Size: per field,
// or tombstone of one, its name, its value and about 15 bytes; as much once for the mark.
//
// A copy by assignment shares memory with the original: Clone before changing either. Values are
// shared in any case, and never changed.
//
// Ref: Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types",
// INRIA RR-7506, 2011, §3.2.1 and §3.3.3.
type LWWMap struct {
	// fields are the fields and tombstones after deleted.
	fields map[string]LWWRegister
	// deleted is the last delete of the whole map, or the zero register.
	deleted LWWRegister
	unknown Fields
}

// Put writes a field as event d at an instant, and returns the change as a map to join elsewhere. It
// has no effect if the map holds a later event of the field. The map keeps value, which the caller
// must not change any more. A field's name has 1 to MaxElementBytes bytes.
func (m *LWWMap) Put(at hlc.Time, d Dot, field string, value []byte) LWWMap {
	return m.write(field, LWWRegister{Time: at, Actor: d.Actor, Seq: d.Seq, Value: value})
}

// Remove removes a field as event d at an instant, and returns the change as a map to join elsewhere.
func (m *LWWMap) Remove(at hlc.Time, d Dot, field string) LWWMap {
	return m.write(field, LWWRegister{Time: at, Actor: d.Actor, Seq: d.Seq, Deleted: true})
}

// Delete removes every field as event d at an instant, and returns the change as a map to join
// elsewhere. Fields that were written later stay.
func (m *LWWMap) Delete(at hlc.Time, d Dot) LWWMap {
	delta := LWWMap{deleted: LWWRegister{Time: at, Actor: d.Actor, Seq: d.Seq, Deleted: true}}
	m.Join(delta)
	return delta
}

func (m *LWWMap) write(field string, r LWWRegister) LWWMap {
	delta := LWWMap{fields: map[string]LWWRegister{field: r}}
	m.Join(delta)
	return delta
}

// Join merges o, which may be a whole map or a change.
func (m *LWWMap) Join(o LWWMap) {
	if o.deleted.Compare(m.deleted) > 0 {
		m.deleted = o.deleted
		maps.DeleteFunc(m.fields, func(_ string, r LWWRegister) bool { return r.Compare(m.deleted) <= 0 })
	}
	if m.fields == nil {
		m.fields = make(map[string]LWWRegister, len(o.fields))
	}
	for field, r := range o.fields {
		if r.Compare(m.deleted) > 0 {
			m.fields[field] = m.fields[field].Join(r)
		}
	}
	m.unknown = m.unknown.Join(o.unknown)
}

// Collect drops the tombstones and the mark of a delete that are not later than cut. What the map
// shows, and what it will show, stays the same, given that every event up to cut is in it. Join with
// the state of a replica that lacks some of these events would bring removed fields back: whoever
// keeps states has to know by their dots which events of another state are old.
func (m *LWWMap) Collect(cut hlc.Time) {
	maps.DeleteFunc(m.fields, func(_ string, r LWWRegister) bool { return r.Deleted && r.Time <= cut })
	if m.deleted.Time <= cut {
		m.deleted = LWWRegister{}
	}
}

// Get returns a field's value, which the caller must not change, and whether the field is there.
func (m LWWMap) Get(field string) ([]byte, bool) {
	r, ok := m.fields[field]
	return r.Value, ok && !r.Deleted
}

// Register returns the last write of a field that is after the last delete of the map: a value, a
// tombstone, or the zero register.
func (m LWWMap) Register(field string) LWWRegister { return m.fields[field] }

// Deleted returns the last delete of the whole map, or the zero register.
func (m LWWMap) Deleted() LWWRegister { return m.deleted }

// Fields returns the names of the fields that are there, in ascending order.
func (m LWWMap) Fields() []string {
	names := make([]string, 0, len(m.fields))
	for field, r := range m.fields {
		if !r.Deleted {
			names = append(names, field)
		}
	}
	slices.Sort(names)
	return names
}

// Len returns the number of fields that are there.
func (m LWWMap) Len() int {
	n := 0
	for _, r := range m.fields {
		if !r.Deleted {
			n++
		}
	}
	return n
}

// Equal reports whether two maps have the same fields, tombstones and last delete.
func (m LWWMap) Equal(o LWWMap) bool {
	return m.unknown == o.unknown && m.deleted.Equal(o.deleted) && maps.EqualFunc(m.fields, o.fields, LWWRegister.Equal)
}

// Clone returns a copy that shares no memory that is ever changed.
func (m LWWMap) Clone() LWWMap { return LWWMap{maps.Clone(m.fields), m.deleted, m.unknown} }

// Append appends the map's encoding:
//
//	version 1 | mark, as length varint and register; length 0 if the map was never deleted
//	then, to the end: field (length varint, bytes) | length varint and register
//
// Registers are as LWWRegister.Append writes them. Fields ascend, and their registers, tombstones
// among them, are after the mark and do not expire.
func (m LWWMap) Append(b []byte) []byte {
	b = appendVersion(b, m.unknown)
	if m.deleted.Seq == 0 {
		b = append(b, 0)
	} else {
		b = codec.AppendBytes(b, m.deleted.Append(nil))
	}
	var scratch []byte
	for _, field := range slices.Sorted(maps.Keys(m.fields)) {
		scratch = m.fields[field].Append(scratch[:0])
		b = codec.AppendBytes(codec.AppendBytes(b, field), scratch)
	}
	return b
}

// DecodeLWWMap reads what Append wrote. The values share data's memory.
func DecodeLWWMap(data []byte) (LWWMap, error) {
	return readMap("map", data, func([]byte) string { return "" })
}

// readMap reads a map whose values fault finds nothing wrong with.
func readMap(what string, data []byte, fault func(value []byte) string) (LWWMap, error) {
	r, unknown := newReader(what, data)
	m := LWWMap{fields: map[string]LWWRegister{}, unknown: unknown}
	if mark := r.Bytes(r.Len()); len(mark) > 0 {
		m.deleted = readRegister(r, mark)
		if !m.deleted.Deleted || m.deleted.Home != 0 || m.deleted.Compare(LWWRegister{}) <= 0 {
			r.Fail("mark is no delete")
		}
	}
	last := ""
	for r.Len() > 0 {
		field := string(r.Bytes(MaxElementBytes))
		if field <= last {
			r.Fail("field empty or out of order")
		}
		last = field
		register := readRegister(r, r.Bytes(r.Len()))
		if register.Compare(m.deleted) <= 0 {
			r.Fail("field not after the delete of the map")
		}
		if register.Expires != 0 {
			r.Fail("field with an expiry")
		}
		if register.Home != 0 {
			r.Fail("field with a home")
		}
		if reason := fault(register.Value); !register.Deleted && reason != "" {
			r.Fail("%s", reason)
		}
		m.fields[field] = register
	}
	if err := r.Done(); err != nil {
		return LWWMap{}, err
	}
	return m, nil
}

func readRegister(r *codec.Reader, data []byte) LWWRegister {
	if !r.OK() {
		return LWWRegister{}
	}
	register, err := DecodeLWWRegister(data)
	if err != nil {
		r.FailWith(err)
	}
	return register
}
