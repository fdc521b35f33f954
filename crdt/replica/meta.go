package replica

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// storeVersion is the first byte of the values in table K, but for registers, and of most others.
const storeVersion = 1

// metaVersion is the first byte of the pair in table M. Version 1 ended after the vector, which had no
// number before it, version 2 did not say what is owed, and version 3 nothing of resyncs.
const metaVersion = 4

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
	// seen is what each actor had seen of the others as of its last event here, and for self what the own
	// events have told. The vectors are not changed in place.
	seen map[crdt.Actor]crdt.VersionVector
	// ahead and unsettled are the pairs in tables A and U, unsure what did not find room in A.
	ahead, unsettled, unsure uint64
	losers                   loserWindow
	// owed is the instant at or after which others may wait for an own event, 0 if they do not: it is after that
	// of the last own event.
	owed hlc.Time
	// collected is the latest instant up to which Expire was told that no event is still to come.
	collected hlc.Time
	// layers are the resyncs that are not finished, at most one of them under way. Donors are not changed in place.
	layers []layer
}

func newMeta(self crdt.Actor) *meta {
	return &meta{self: self, nextKid: 1, times: map[crdt.Actor]hlc.Time{}, seen: map[crdt.Actor]crdt.VersionVector{}}
}

func (m *meta) clone() *meta {
	c := *m
	c.vector, c.times, c.seen = m.vector.Clone(), maps.Clone(m.times), maps.Clone(m.seen)
	c.layers = slices.Clone(m.layers)
	return &c
}

// advance records that an actor's event was applied, with all before it.
func (m *meta) advance(d crdt.Dot, at hlc.Time) {
	m.vector.Set(d.Actor, d.Seq)
	m.times[d.Actor] = at
	m.last = max(m.last, at)
	if d.Actor == m.self && at >= m.owed {
		m.owed = 0
	}
}

// instant returns the instant that the next own event gets: after all that this replica has seen, and
// not past what other replicas accept, however wrong the proposer's clock is.
func (m *meta) instant(now hlc.Time) hlc.Time { return max(min(now, maxTime), m.latest().Next()) }

// append appends the encoding:
//
//	version 4 | self | last 8 | next kid | pre-removals | deferred clears | garbage kids
//	seen ahead | resets unsettled | unsure | first loser | next loser | bytes of losers | losers let go | owed
//	collected | number of layers | layers: id | flags (1 under way) | cursor | what Donor.append says, as bytes
//	number of actors, and in ascending order of them: actor | seq | time 8
//	then, to the end, in ascending order of actors: actor | number of dots it has seen | dots
//
// Numbers without a width are varints.
func (m *meta) append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, metaVersion), uint64(m.self))
	b = binary.BigEndian.AppendUint64(b, uint64(m.last))
	for _, n := range []uint64{
		m.nextKid, m.preremovals, m.deferred, m.garbage, m.ahead, m.unsettled, m.unsure,
		m.losers.first, m.losers.next, m.losers.bytes, m.losers.letGo, uint64(m.owed), uint64(m.collected), uint64(len(m.layers)),
	} {
		b = binary.AppendUvarint(b, n)
	}
	for i := range m.layers {
		b = m.layers[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(m.vector.Len()))
	m.vector.Each(func(a crdt.Actor, seq uint64) {
		b = appendDot(b, crdt.Dot{Actor: a, Seq: seq})
		b = binary.BigEndian.AppendUint64(b, uint64(m.times[a]))
	})
	for _, a := range slices.Sorted(maps.Keys(m.seen)) {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(a)), uint64(m.seen[a].Len()))
		m.seen[a].Each(func(of crdt.Actor, seq uint64) { b = appendDot(b, crdt.Dot{Actor: of, Seq: seq}) })
	}
	return b
}

func decodeMeta(data []byte) (*meta, error) {
	const any = ^uint64(0)
	r, version := codec.NewReaderOf("replica meta", data, metaVersion)
	m := newMeta(readActor(r))
	m.last = hlc.Time(r.Uint64())
	m.nextKid, m.preremovals, m.deferred, m.garbage = r.Uvarint(any), r.Uvarint(any), r.Uvarint(any), r.Uvarint(any)
	if m.nextKid == 0 {
		r.Fail("next kid is 0")
	}
	if version == 1 {
		for r.Len() > 0 {
			m.readVectorEntry(r)
		}
		m.oweAfterUpgrade()
		return m, r.Done()
	}
	m.ahead, m.unsettled, m.unsure = r.Uvarint(any), r.Uvarint(any), r.Uvarint(any)
	m.losers = loserWindow{first: r.Uvarint(any), next: r.Uvarint(any), bytes: r.Uvarint(any), letGo: r.Uvarint(any)}
	if m.losers.first > m.losers.next {
		r.Fail("losers end before they begin")
	}
	if version > 2 {
		m.owed = hlc.Time(r.Uvarint(any))
	}
	if version > 3 {
		m.readLayers(r)
	}
	const entryBytes = 10 // two varints and a time
	for range r.Count(entryBytes) {
		m.readVectorEntry(r)
	}
	for r.Len() > 0 {
		m.readSeen(r)
	}
	switch {
	case version == 2:
		m.oweAfterUpgrade()
	case m.owed != 0 && m.owed <= m.times[m.self]:
		r.Fail("owes what the last own event has told")
	}
	return m, r.Done()
}

// oweAfterUpgrade has a replica of a program that made no ticks make one if there are other regions.
func (m *meta) oweAfterUpgrade() {
	others := m.vector.Len()
	if m.vector.Get(m.self) > 0 {
		others--
	}
	if others > 0 {
		m.owe(m.last.Next())
	}
}

func readActor(r *codec.Reader) crdt.Actor { return crdt.Actor(r.Uvarint(uint64(^crdt.Actor(0)))) }

func (m *meta) readVectorEntry(r *codec.Reader) {
	d, at := readDot(r), hlc.Time(r.Uint64())
	if _, ok := m.times[d.Actor]; ok || d.Seq == 0 || at > m.last {
		r.Fail("bad vector entry")
	}
	m.vector.Set(d.Actor, d.Seq)
	m.times[d.Actor] = at
}

func (m *meta) readSeen(r *codec.Reader) {
	a := readActor(r)
	if _, ok := m.seen[a]; ok {
		r.Fail("actor %d has seen twice", a)
	}
	m.seen[a] = readSeenDots(r, a)
}

// readSeenDots reads what an actor has seen of the others.
func readSeenDots(r *codec.Reader, a crdt.Actor) crdt.VersionVector {
	var seen crdt.VersionVector
	for range r.Count(2) {
		d := readDot(r)
		if d.Seq == 0 || d.Actor == a {
			r.Fail("bad entry of what an actor has seen")
		}
		seen.Set(d.Actor, d.Seq)
	}
	return seen
}

// layerActive is the flag of a layer that is under way.
const layerActive = 1

func (l *layer) append(b []byte) []byte {
	b = append(binary.AppendUvarint(b, l.id), byte(count(l.active)))
	return codec.AppendBytes(l.cursor.append(b), l.donor.append(nil))
}

func (m *meta) readLayers(r *codec.Reader) {
	m.collected = hlc.Time(r.Uvarint(^uint64(0)))
	const layerBytes = 5
	n := r.Count(layerBytes)
	if n > maxLayers+1 {
		r.Fail("%d layers", n)
		return
	}
	for range n {
		l := layer{id: r.Uvarint(^uint64(0))}
		flags := r.Byte()
		l.active, l.cursor = flags == layerActive, readPosition(r)
		if flags > layerActive || l.active && m.active() != nil {
			r.Fail("flags %#x of a layer", flags)
		}
		l.donor = readDonorBytes(r)
		m.layers = append(m.layers, l)
		if !r.OK() {
			return
		}
	}
}

// readDonorBytes reads a donor's description that has its length before it.
func readDonorBytes(r *codec.Reader) Donor {
	d, err := DecodeDonor(append([]byte{donorVersion}, r.Bytes(r.Len())...))
	if err != nil {
		r.FailWith(err)
	}
	return d
}
