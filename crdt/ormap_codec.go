package crdt

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// Append appends the map's encoding:
//
//	version 1 | actors varint | that many (actor varint, seq varint): the context
//	then, to the end: names 1 | that many (length varint, bytes) | type 1 | leaf
//
// where the leaf is, by type:
//
//	1 set:      elements varint | that many: element (length varint, bytes) | dots
//	2 counter:  rows varint | that many rows, as in Counter.Append
//	3 register: values varint | that many: actor varint | seq varint | time 8 | value (length varint, bytes)
//	4 flag:     dots
//
// and dots are: count varint | that many (actor varint, seq varint). Actors, elements and dots ascend,
// and so do leaves, by the bytes of their names with lengths, then by type.
func (m ORMap) Append(b []byte) []byte {
	b = appendVersion(b, m.unknown)
	b = appendDots(b, m.context.entries)
	for _, key := range slices.SortedFunc(maps.Keys(m.leaves), compareLeafKeys) {
		b = append(b, byte(len(key.Path.Names())))
		b = append(b, key.Path.encoded...)
		b = append(b, byte(key.Type))
		b = m.leaves[key].append(b, key.Type)
	}
	return b
}

func (l leaf) append(b []byte, t LeafType) []byte {
	switch t {
	case LeafSet:
		b = binary.AppendUvarint(b, uint64(len(l.elements)))
		for _, e := range l.elements {
			b = appendDots(codec.AppendBytes(b, e.name), e.dots)
		}
	case LeafCounter:
		b = appendCountedRows(b, l.counter.rows)
	case LeafRegister:
		b = binary.AppendUvarint(b, uint64(len(l.values)))
		for _, v := range l.values {
			b = binary.BigEndian.AppendUint64(appendDot(b, v.Dot), uint64(v.Time))
			b = codec.AppendBytes(b, v.Value)
		}
	case LeafFlag:
		b = appendDots(b, l.elements[0].dots)
	}
	return b
}

// DecodeORMap reads what Append wrote. The values of registers share data's memory.
func DecodeORMap(data []byte) (ORMap, error) {
	r, unknown := newReader("map", data)
	m := ORMap{leaves: map[LeafKey]leaf{}, context: readMapContext(r), unknown: unknown}
	var last LeafKey
	for r.Len() > 0 {
		key := LeafKey{readPath(r), LeafType(r.Byte())}
		if compareLeafKeys(last, key) >= 0 {
			r.Fail("leaves out of order")
		}
		last = key
		m.leaves[key] = readLeaf(r, key.Type, m.context)
	}
	if err := r.Done(); err != nil {
		return ORMap{}, err
	}
	return m, nil
}

func readMapContext(r *codec.Reader) VersionVector {
	var context VersionVector
	for _, d := range readDots(r) {
		if context.Get(d.Actor) != 0 {
			r.Fail("actor %d twice in the context", d.Actor)
		}
		context.Set(d.Actor, d.Seq)
	}
	return context
}

func readPath(r *codec.Reader) Path {
	names := make([]string, 0, MaxPathNames)
	for range min(r.Byte(), MaxPathNames+1) { // one too many is refused below
		names = append(names, string(r.Bytes(MaxNameBytes)))
	}
	p, err := NewPath(names...)
	if err != nil {
		r.Fail("%v", err)
	}
	return p
}

// readLeaf reads a leaf, whose dots must all be in the context.
func readLeaf(r *codec.Reader, t LeafType, context VersionVector) leaf {
	var l leaf
	switch t {
	case LeafSet:
		l.elements = readElements(r, context)
	case LeafCounter:
		l.counter.rows = readCountedRows(r)
		for _, row := range l.counter.rows {
			if row.Entry.Seq == 0 || !context.Covers(Dot{row.Actor, row.Entry.Seq}) {
				r.Fail("counter row without an entry, or with one outside of the context")
			}
		}
	case LeafRegister:
		l.values = readValues(r, context)
	case LeafFlag:
		l.elements = []leafElement{{flagElement, readLeafDots(r, context)}}
	default:
		r.Fail("unknown leaf type %d", t)
	}
	if r.OK() && l.gone() {
		r.Fail("leaf of nothing")
	}
	return l
}

func readElements(r *codec.Reader, context VersionVector) []leafElement {
	const elementBytes = 5 // the shortest: a byte with its length, one dot
	var elements []leafElement
	last := ""
	for range r.Count(elementBytes) {
		name := string(r.Bytes(MaxElementBytes))
		if name <= last {
			r.Fail("element empty or out of order")
		}
		last = name
		elements = append(elements, leafElement{name, readLeafDots(r, context)})
	}
	return elements
}

func readLeafDots(r *codec.Reader, context VersionVector) DotSet {
	dots := readDots(r)
	if len(dots) == 0 || slices.ContainsFunc(dots, func(d Dot) bool { return !context.Covers(d) }) {
		r.Fail("no dots, or one outside of the context")
	}
	return dots
}

func readValues(r *codec.Reader, context VersionVector) []LeafValue {
	const valueBytes = 11 // the shortest: a dot, a time, no bytes
	var values []LeafValue
	for range r.Count(valueBytes) {
		v := LeafValue{Dot: readDot(r), Time: hlc.Time(r.Uint64()), Value: r.Bytes(MaxValueBytes)}
		if n := len(values); !context.Covers(v.Dot) || n > 0 && values[n-1].Dot.Compare(v.Dot) >= 0 {
			r.Fail("dots out of order, or outside of the context")
		}
		values = append(values, v)
	}
	return values
}
