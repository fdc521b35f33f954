package replica

import (
	"encoding/binary"
	"maps"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// storeVersion is the first byte of the values in tables M and, but for registers, K.
const storeVersion = 1

// meta is what a replica knows besides its objects: one pair, written once per Flush.
type meta struct {
	self crdt.Actor
	// last is the latest instant issued or merged.
	last hlc.Time
	// nextKid is the next set's local id. Ids are not replicated and never reused.
	nextKid uint64
	// How many pairs are in tables R, D and G, so that nothing looks for what is not there.
	preremovals, deferred, garbage uint64
	// vector is what was applied of each actor, and times the instant of the last of it.
	vector crdt.VersionVector
	times  map[crdt.Actor]hlc.Time
}

func (m *meta) clone() *meta {
	c := *m
	c.vector, c.times = m.vector.Clone(), maps.Clone(m.times)
	return &c
}

// advance records that an actor's event was applied, with all before it.
func (m *meta) advance(d crdt.Dot, at hlc.Time) {
	m.vector.Set(d.Actor, d.Seq)
	m.times[d.Actor] = at
	m.last = max(m.last, at)
}

// append appends the encoding:
//
//	version 1 | self | last 8 | next kid | pre-removals | deferred clears | garbage kids
//	then, to the end, in ascending order of actors: actor | seq | time 8
//
// Numbers without a width are varints.
func (m *meta) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, storeVersion), uint64(m.self))
	b = binary.BigEndian.AppendUint64(b, uint64(m.last))
	for _, n := range []uint64{m.nextKid, m.preremovals, m.deferred, m.garbage} {
		b = binary.AppendUvarint(b, n)
	}
	m.vector.Each(func(a crdt.Actor, seq uint64) {
		b = appendDot(b, crdt.Dot{Actor: a, Seq: seq})
		b = binary.BigEndian.AppendUint64(b, uint64(m.times[a]))
	})
	return b
}

func decodeMeta(data []byte) (*meta, error) {
	const any = ^uint64(0)
	r := codec.NewReader("replica meta", data, storeVersion)
	m := &meta{self: crdt.Actor(r.Uvarint(uint64(^crdt.Actor(0)))), times: map[crdt.Actor]hlc.Time{}}
	m.last = hlc.Time(r.Uint64())
	m.nextKid, m.preremovals, m.deferred, m.garbage = r.Uvarint(any), r.Uvarint(any), r.Uvarint(any), r.Uvarint(any)
	if m.nextKid == 0 {
		r.Fail("next kid is 0")
	}
	for r.Len() > 0 {
		d, at := readDot(r), hlc.Time(r.Uint64())
		if _, ok := m.times[d.Actor]; ok || d.Seq == 0 || at > m.last {
			r.Fail("bad vector entry")
		}
		m.vector.Set(d.Actor, d.Seq)
		m.times[d.Actor] = at
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	return m, nil
}
