package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/zeebo/xxh3"
)

// fingerprint returns a hash of all that a replica stores.
func fingerprint(n *node) uint64 {
	if err := n.r.Flush(); err != nil {
		panic(err)
	}
	var h xxh3.Hasher
	_ = n.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(k))))
		_, _ = h.Write(k)
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(v))))
		_, _ = h.Write(v)
		return true, nil
	})
	return h.Sum64()
}

// auditor collects what the tables of a replica hold.
type auditor struct {
	meta     *meta
	tables   map[byte]uint64
	elements map[uint64]uint64 // kid -> stored elements
	garbage  map[uint64]bool
	sets     []setHeader
	// timelines are by kid, and entries are what table E has that is no element of a set.
	timelines map[uint64]timelineHeader
	entries   []crdt.TimelineEntry
	entryKids []uint64
	spent     map[string]bool
	// odd says what is wrong with an element under a kid if the kid is a set's.
	odd map[uint64]error
	// fields are the kids of collections of fields, which auditFields looks at.
	fields map[uint64]bool
}

// audit checks what must hold between the tables of a replica at all times.
func audit(n *node) error {
	a := &auditor{meta: n.r.meta, tables: map[byte]uint64{}, elements: map[uint64]uint64{}, garbage: map[uint64]bool{},
		odd: map[uint64]error{}, fields: map[uint64]bool{}, timelines: map[uint64]timelineHeader{}, spent: map[string]bool{}}
	err := n.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		a.tables[k[0]]++
		return true, a.pair(k, v)
	})
	if err != nil {
		return err
	}
	for _, h := range a.sets {
		if a.elements[h.kid] != h.count || a.garbage[h.kid] || h.kid >= a.meta.nextKid {
			return fmt.Errorf("set %d says %d elements, has %d", h.kid, h.count, a.elements[h.kid])
		}
		if err := a.odd[h.kid]; err != nil {
			return err
		}
		delete(a.elements, h.kid)
	}
	if err := a.auditTimelines(); err != nil {
		return err
	}
	if err := auditFields(n); err != nil {
		return err
	}
	for kid := range a.fields {
		delete(a.elements, kid)
	}
	for kid, count := range a.elements {
		if !a.garbage[kid] {
			return fmt.Errorf("%d elements of no set under id %d", count, kid)
		}
	}
	m := a.meta
	if a.tables[tablePreremoval] != m.preremovals || a.tables[tableDeferred] != m.deferred || a.tables[tableGarbage] != m.garbage {
		return fmt.Errorf("meta counts %d, %d, %d; tables %v", m.preremovals, m.deferred, m.garbage, a.tables)
	}
	return nil
}

func (a *auditor) pair(k, v []byte) error {
	switch k[0] {
	case tableObject:
		if k[len(k)-1] == byte(crdt.TypeTimeline) {
			return a.timeline(k, v)
		}
		return auditObject(a.meta, k, v, &a.sets, a.fields)
	case tableElement:
		kid := binary.BigEndian.Uint64(k[1:])
		a.elements[kid]++
		if e, err := decodeEntry(k, v); err == nil {
			a.entries, a.entryKids = append(a.entries, e), append(a.entryKids, kid)
			return nil
		}
		dots, err := crdt.DecodeDotSet(v)
		outside := func(d crdt.Dot) bool { return !a.meta.vector.Covers(d) }
		if err != nil || len(dots) == 0 || slices.ContainsFunc(dots, outside) {
			a.odd[binary.BigEndian.Uint64(k[1:])] = fmt.Errorf("element with dots %v at vector %v, %w", dots, a.meta.vector, err)
		}
	case tableSpent:
		a.spent[string(k)] = true
	case tableGarbage:
		a.garbage[binary.BigEndian.Uint64(k[1:])] = true
	case tablePreremoval:
		d := crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(k[1:])), Seq: binary.BigEndian.Uint64(k[5:])}
		if a.meta.vector.Covers(d) {
			return fmt.Errorf("pre-removal of %v, which has arrived", d)
		}
	case tableDeferred:
		v, err := crdt.DecodeVersionVector(v)
		if err != nil || a.meta.vector.Descends(v) {
			return fmt.Errorf("deferred clear of %v, which has arrived, %w", v, err)
		}
	}
	return nil
}

func auditObject(m *meta, k, v []byte, owned *[]setHeader, fields map[uint64]bool) error {
	_, _, t, err := parseObjectKey(k)
	if err != nil {
		return err
	}
	switch t {
	case crdt.TypeLWWRegister:
		reg, err := crdt.DecodeLWWRegister(v)
		if err != nil || reg.Time > m.last || !m.vector.Covers(reg.Dot()) {
			return fmt.Errorf("register %+v at %v, %w", reg, m.last, err)
		}
	case crdt.TypeCounter:
		return auditCounter(m, v)
	case crdt.TypeMVRegister, crdt.TypeEWFlag:
		return auditSiblings(m, t, v)
	case crdt.TypeBoundedCounter, crdt.TypeMaxRegister, crdt.TypeMinRegister:
		s, err := kinds[t].decode(v)
		if err != nil || !bytes.Equal(s.append(nil), v) {
			return fmt.Errorf("%v %x, %w", t, v, err)
		}
	case crdt.TypeLWWMap, crdt.TypeZSet:
		h, err := decodeFieldsHeader(v)
		if err != nil || !m.vector.Covers(h.last) {
			return fmt.Errorf("header of fields %+v at %v, %w", h, m.vector, err)
		}
		fields[h.kid] = true
	default:
		h, err := decodeSetHeader(v)
		if err != nil {
			return err
		}
		*owned = append(*owned, h)
	}
	return nil
}

func auditCounter(m *meta, v []byte) error {
	o, err := counterKind{}.decode(v)
	if err != nil {
		return err
	}
	c := o.(*counterState)
	if c.rows.Len() == 0 {
		return fmt.Errorf("counter without rows")
	}
	for _, row := range c.rows.Rows() {
		if m.vector.Get(row.Actor) < row.Entry.Seq {
			return fmt.Errorf("counter entry %+v outside of the vector", row)
		}
	}
	return nil
}
