package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
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
	values   map[uint64]map[string][]byte
	scores   map[uint64][][]byte // kid -> keys in table Z
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
	zsets  []counterZSetHeader
	// loserBytes is what the losers count for.
	loserBytes uint64
	// ormaps are the headers of maps of leaves by key, less what table N has of them.
	ormaps map[string]ormapHeader
}

// audit checks what must hold between the tables of a replica at all times.
func audit(n *node) error {
	kv, m, err := spread(n)
	if err != nil {
		return err
	}
	a := &auditor{meta: m, tables: map[byte]uint64{}, elements: map[uint64]uint64{}, garbage: map[uint64]bool{},
		odd: map[uint64]error{}, fields: map[uint64]bool{}, timelines: map[uint64]timelineHeader{}, spent: map[string]bool{},
		values: map[uint64]map[string][]byte{}, scores: map[uint64][][]byte{}, ormaps: map[string]ormapHeader{}}
	err = kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		a.tables[k[0]]++
		return true, a.pair(k, v)
	})
	if err != nil {
		return err
	}
	if err := errors.Join(a.auditSets(), a.auditTimelines(), auditFields(kv, m), a.auditCounterZSets(), a.auditORMaps(), auditDeadlines(n)); err != nil {
		return err
	}
	for kid, count := range a.elements {
		if !a.garbage[kid] {
			return fmt.Errorf("%d elements and scores of no set under id %d", count, kid)
		}
	}
	if losers := m.losers.next - m.losers.first; a.tables[tableLosers] != losers || a.tables[tableAhead] != m.ahead || a.tables[tableUnsettled] != m.unsettled || a.loserBytes != m.losers.bytes {
		return fmt.Errorf("meta counts %d losers of %d bytes, %d seen ahead, %d unsettled; tables %v", losers, m.losers.bytes, m.ahead, m.unsettled, a.tables)
	}
	if a.tables[tablePreremoval] != m.preremovals || a.tables[tableDeferred] != m.deferred || a.tables[tableGarbage] != m.garbage {
		return fmt.Errorf("meta counts %d, %d, %d; tables %v", m.preremovals, m.deferred, m.garbage, a.tables)
	}
	return nil
}

func (a *auditor) auditSets() error {
	for _, h := range a.sets {
		if a.elements[h.kid] != h.count || a.garbage[h.kid] || h.kid >= a.meta.nextKid {
			return fmt.Errorf("set %d says %d elements, has %d", h.kid, h.count, a.elements[h.kid])
		}
		if err := a.odd[h.kid]; err != nil {
			return err
		}
		delete(a.elements, h.kid)
	}
	return nil
}

// auditCounterZSets leaves the elements and scores of no object.
func (a *auditor) auditCounterZSets() error {
	for kid := range a.fields {
		delete(a.elements, kid)
		delete(a.scores, kid)
	}
	for i := range a.zsets {
		if err := a.counterZSet(&a.zsets[i]); err != nil {
			return err
		}
	}
	for kid, keys := range a.scores {
		a.elements[kid] += uint64(len(keys))
	}
	return nil
}

func (a *auditor) pair(k, v []byte) error {
	switch k[0] {
	case tableLeaf:
		if err := a.leaf(k, v); err != nil {
			return err
		}
		return a.object(k, v)
	case tableObject:
		return a.object(k, v)
	case tableElement:
		a.element(k, v)
	case tableScore:
		kid := binary.BigEndian.Uint64(k[1:])
		a.scores[kid] = append(a.scores[kid], slices.Clone(k))
	case tableLosers, tableAhead, tableUnsettled:
		return a.causality(k, v)
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

// causality checks a pair of tables A, B and U.
func (a *auditor) causality(k, v []byte) error {
	switch k[0] {
	case tableLosers:
		l, err := decodeLoser(v)
		a.loserBytes += l.size()
		return err
	case tableAhead:
		if a.meta.vector.Get(crdt.Actor(binary.BigEndian.Uint32(k[1:]))) >= binary.BigEndian.Uint64(k[9:]) {
			return fmt.Errorf("event %x, which has arrived, was seen ahead", k[1:])
		}
	case tableUnsettled:
		owner, reset := crdt.Actor(binary.BigEndian.Uint32(k[1:])), crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(k[5:])), Seq: binary.BigEndian.Uint64(k[9:])}
		if (&work{meta: a.meta}).knows(owner, reset) {
			return fmt.Errorf("reset %v, which actor %d has seen, is not settled", reset, owner)
		}
	}
	return nil
}

// object checks a pair of table K or N, or keeps it for those who look at all of them.
func (a *auditor) object(k, v []byte) error {
	switch t := crdt.Type(k[len(k)-1]); t {
	case t | deadlineBit: // auditDeadlines looks at them
	case crdt.TypeORMap:
		h, err := decodeORMapHeader(v)
		a.ormaps[string(k)] = h
		return err
	case crdt.TypeTimeline:
		return a.timeline(k, v)
	case crdt.TypeCounterZSet:
		h, err := decodeCounterZSetHeader(v)
		a.zsets = append(a.zsets, h)
		return err
	default:
		return auditObject(a.meta, k, v, &a.sets, a.fields)
	}
	return nil
}

// element keeps a pair of table E for those who know what its kid is.
func (a *auditor) element(k, v []byte) {
	kid := binary.BigEndian.Uint64(k[1:])
	a.elements[kid]++
	if a.values[kid] == nil {
		a.values[kid] = map[string][]byte{}
	}
	a.values[kid][string(elementOf(k))] = slices.Clone(v)
	if e, err := decodeEntry(k, v); err == nil {
		a.entries, a.entryKids = append(a.entries, e), append(a.entryKids, kid)
		return
	}
	dots, err := crdt.DecodeDotSet(v)
	outside := func(d crdt.Dot) bool { return !somewhere(a.meta, d) }
	if err != nil || len(dots) == 0 || slices.ContainsFunc(dots, outside) {
		a.odd[kid] = fmt.Errorf("element with dots %v at vector %v, %w", dots, a.meta.vector, err)
	}
}

// counterZSet checks the members of a sorted set, its counts and its order of scores.
func (a *auditor) counterZSet(h *counterZSetHeader) error {
	var present, traces uint64
	var scores [][]byte
	for member, v := range a.values[h.kid] {
		c, err := crdt.DecodeCounter(v)
		if err != nil || c.Len() == 0 {
			return fmt.Errorf("member without rows, %w", err)
		}
		if slices.ContainsFunc(c.Rows(), a.needless) {
			return fmt.Errorf("rows %+v of a member at vector %v", c, a.meta.vector)
		}
		if c.Empty() {
			traces++
			continue
		}
		present++
		scores = append(scores, scoreKey(h.kid, orderOf(c.Value()), []byte(member)))
	}
	slices.SortFunc(scores, bytes.Compare)
	if present != h.present || traces != h.traces || a.garbage[h.kid] || h.kid >= a.meta.nextKid {
		return fmt.Errorf("sorted set %+v has %d members and %d traces", h, present, traces)
	}
	if !slices.EqualFunc(scores, a.scores[h.kid], bytes.Equal) {
		return fmt.Errorf("scores %x, want %x", a.scores[h.kid], scores)
	}
	delete(a.elements, h.kid)
	delete(a.scores, h.kid)
	return nil
}

// needless reports whether a row of a counter cannot be or need not be.
func (a *auditor) needless(r crdt.Row) bool {
	early := r.Entry.Seq != 0 && !somewhere(a.meta, crdt.Dot{Actor: r.Actor, Seq: r.Entry.Seq})
	// After a resync, a reset that overtook its addition may stay until its owner has told that it has seen it.
	idle := r.Entry.Seq == 0 && r.Base.Seq <= a.meta.vector.Get(r.Actor) && a.meta.unsure == 0 && len(a.meta.layers) == 0
	return early || r.Actor == a.meta.self && !r.Live() || idle
}

// somewhere reports whether an event is included at least in a part of the state.
func somewhere(m *meta, d crdt.Dot) bool {
	return m.vector.Covers(d) || slices.ContainsFunc(m.layers, func(l layer) bool { return l.donor.Vector.Covers(d) })
}

func auditObject(m *meta, k, v []byte, owned *[]setHeader, fields map[uint64]bool) error {
	_, t, _, err := cutObjectKey(k)
	if err != nil {
		return err
	}
	switch t {
	case crdt.TypeLWWRegister:
		reg, err := crdt.DecodeLWWRegister(v)
		if err != nil || reg.Time > m.latest() || !somewhere(m, reg.Dot()) {
			return fmt.Errorf("register %+v at %v, %w", reg, m.last, err)
		}
	case crdt.TypeCounter:
		return auditCounter(m, v)
	case crdt.TypeMVRegister, crdt.TypeEWFlag:
		return auditSiblings(m, t, v)
	case crdt.TypeBoundedCounter, crdt.TypeMaxRegister, crdt.TypeMinRegister, crdt.TypeHLL:
		s, err := kinds[t].decode(v)
		if err != nil || !bytes.Equal(s.append(nil), v) {
			return fmt.Errorf("%v %x, %w", t, v, err)
		}
	case crdt.TypeLWWMap, crdt.TypeZSet:
		h, err := decodeFieldsHeader(v)
		if err != nil || !somewhere(m, h.last) {
			return fmt.Errorf("header of fields %+v at %v, %w", h, m.vector, err)
		}
		fields[h.kid] = true
	default:
		h, err := decodeSetHeader(v)
		*owned = append(*owned, h)
		return err
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
		if row.Entry.Seq != 0 && !somewhere(m, crdt.Dot{Actor: row.Actor, Seq: row.Entry.Seq}) {
			return fmt.Errorf("counter entry %+v outside of the vector", row)
		}
	}
	return nil
}
