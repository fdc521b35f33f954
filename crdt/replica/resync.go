package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// This file begins and ends the transfer of a whole state from a replica of another region, the donor, where the
// deltas that would bring it are not to be had any more.
//
// The donor's state of one instant is joined piece by piece, in the order of positions. Everything before the
// cursor then includes the donor's events, although the vector does not yet: what includes what is said by the
// vector and the layers together. So the replica goes on serving and merging in between. A layer that is given up,
// because its donor is gone, says so for ever of what is before its cursor, until the vector says the same.

var (
	// ErrResyncing means that a replica's state is not that of one vector, because a resync is not finished. It can
	// be no donor then, nor be compared with others.
	ErrResyncing = errors.New("a resync is not finished")
	// ErrNoResync means that the resync that is meant is not under way, or not where that is possible.
	ErrNoResync = errors.New("no such resync is under way")
	// ErrResyncNotNeeded means that the replica has all that the donor has.
	ErrResyncNotNeeded = errors.New("the donor has nothing that is not here")
	// ErrTooManyResyncs means that too many unfinished resyncs lie over one another: one must be finished.
	ErrTooManyResyncs = errors.New("too many unfinished resyncs")
	// ErrLostEvents means that the donor, or an event that it includes, knows of events of this replica's actor that are
	// not here: their dots are taken, so the region must come back as a new actor.
	ErrLostEvents = errors.New("the donor has events of this region that are not here")
	// ErrRangeDiffers means that a range is not the same in both replicas, so that it must be sent whole.
	ErrRangeDiffers = errors.New("the range is not the same here")
)

// maxLayers bounds the unfinished resyncs that lie over one another.
const maxLayers = 8

// Donor is what a replica's state, which another one exports, includes.
type Donor struct {
	Actor crdt.Actor
	// Vector is what it has applied, and Times the instant of the last event of each actor.
	Vector crdt.VersionVector
	Times  map[crdt.Actor]hlc.Time
	// Seen is what each actor had seen as of its last event.
	Seen map[crdt.Actor]crdt.VersionVector
	// Collected is the instant up to which all events are included, and traces of deletes may be gone.
	Collected hlc.Time
}

// ResyncState is how far a resync is.
type ResyncState struct {
	ID     uint64
	Donor  crdt.Actor
	Vector crdt.VersionVector
	Cursor Position
}

// layer is a resync that is under way, or was given up.
type layer struct {
	id     uint64
	active bool
	cursor Position
	donor  Donor
}

// Donor returns what this replica's state includes. Error: ErrResyncing.
func (r *Replica) Donor() (Donor, error) {
	if len(r.meta.layers) > 0 {
		return Donor{}, ErrResyncing
	}
	d := Donor{
		Actor: r.meta.self, Vector: r.meta.vector.Clone(), Times: maps.Clone(r.meta.times),
		Seen: maps.Clone(r.meta.seen), Collected: r.meta.collected,
	}
	return d, nil
}

// Resyncing reports whether the state includes more than the vector says in some places.
func (r *Replica) Resyncing() bool { return len(r.meta.layers) > 0 }

// Ahead returns the vector joined with those of all donors whose state was taken over in part.
func (r *Replica) Ahead() crdt.VersionVector {
	ahead := r.Vector()
	for i := range r.meta.layers {
		ahead.Join(r.meta.layers[i].donor.Vector)
	}
	return ahead
}

// Resync returns the resync that is under way, if there is one.
func (r *Replica) Resync() (ResyncState, bool) {
	l := r.meta.active()
	if l == nil {
		return ResyncState{}, false
	}
	return ResyncState{ID: l.id, Donor: l.donor.Actor, Vector: l.donor.Vector.Clone(), Cursor: l.cursor}, true
}

// BeginResync begins to join a donor's state, whose chunks follow in order. One that is under way is given up, but
// for one with the same id, which goes on. id is not 0. Local writes and merges may come in between.
//
// Errors, after which nothing was changed: ErrResyncNotNeeded, ErrTooManyResyncs, ErrLostEvents, *BadDeltaError if
// the donor's description cannot be.
func (r *Replica) BeginResync(id uint64, d Donor) error {
	if l := r.meta.active(); l != nil && l.id == id {
		return nil
	}
	switch reason := d.fault(); {
	case reason != "" || id == 0:
		return &BadDeltaError{crdt.Dot{Actor: d.Actor}, "state of a donor: " + reason}
	case d.Actor == r.meta.self:
		return &BadDeltaError{crdt.Dot{Actor: d.Actor}, "state of this replica's own actor"}
	case d.knows(r.meta.self) > r.Seq():
		return ErrLostEvents
	case r.meta.vector.Descends(d.Vector):
		return ErrResyncNotNeeded
	}
	m := r.meta.clone()
	m.giveUp()
	if len(m.layers) >= maxLayers {
		return ErrTooManyResyncs
	}
	m.layers = append(m.layers, layer{id: id, active: true, donor: d})
	r.meta, r.dirty = m, true
	return nil
}

// knows returns the last event of an actor that the donor, or any whose events it includes, has applied.
func (d *Donor) knows(a crdt.Actor) uint64 {
	last := d.Vector.Get(a)
	for _, seen := range d.Seen {
		last = max(last, seen.Get(a))
	}
	return last
}

// EndResync ends the resync that has reached the end: the vector includes the donor's from now on. Error:
// ErrNoResync, after which nothing was changed; any other means that the storage failed or is corrupt.
func (r *Replica) EndResync(id uint64) error {
	l := r.meta.active()
	if l == nil || l.id != id || !l.cursor.End {
		return ErrNoResync
	}
	d := l.donor
	w := r.begin(true)
	m := w.meta
	m.layers = slices.DeleteFunc(m.layers, func(l layer) bool { return l.active })
	d.Vector.Each(func(a crdt.Actor, seq uint64) {
		if seq > m.vector.Get(a) {
			m.advance(crdt.Dot{Actor: a, Seq: seq}, d.Times[a])
		}
	})
	for _, a := range slices.Sorted(maps.Keys(d.Seen)) {
		if a != m.self { // who knows best what was told
			m.raiseSeen(a, d.Seen[a].Entries())
		}
	}
	m.collected = max(m.collected, d.Collected)
	m.unsure++ // what the donor's events had seen of each other, event by event, was not told
	m.owe(m.last.Next())
	m.dropLayers()
	if err := w.forgetAll(); err != nil {
		return fmt.Errorf("end a resync: %w", err)
	}
	return r.commit(w)
}

// AbandonResync gives up the resync that is under way. What was joined stays. Error: ErrNoResync.
func (r *Replica) AbandonResync(id uint64) error {
	if l := r.meta.active(); l == nil || l.id != id {
		return ErrNoResync
	}
	m := r.meta.clone()
	m.giveUp()
	r.meta, r.dirty = m, true
	return nil
}

// forgetAll drops what was kept for events that have arrived by now, of whomever.
func (w *work) forgetAll() error {
	for _, of := range w.meta.vector.Entries() {
		if err := errors.Join(w.forgetPreremovals(of.Actor), w.forgetAhead(of.Actor)); err != nil {
			return err
		}
	}
	return errors.Join(w.forgetDeferred(), w.settleAll(sweepBudget))
}

// active returns the resync that is under way, nil if none is.
func (m *meta) active() *layer {
	for i := range m.layers {
		if m.layers[i].active {
			return &m.layers[i]
		}
	}
	return nil
}

// giveUp leaves of the resync that is under way what it has joined.
func (m *meta) giveUp() {
	if l := m.active(); l != nil {
		l.active = false
	}
	m.dropLayers()
}

// dropLayers drops what says nothing that the vector, or a layer over it, does not say.
func (m *meta) dropLayers() {
	if len(m.layers) == 0 {
		return
	}
	for i := 0; i < len(m.layers); {
		l := &m.layers[i]
		covered := l.cursor == (Position{}) || m.vector.Descends(l.donor.Vector)
		for j := range m.layers {
			o := &m.layers[j]
			covered = covered || j != i && o.cursor.Compare(l.cursor) >= 0 && o.donor.Vector.Descends(l.donor.Vector)
		}
		if l.active || !covered {
			i++
			continue
		}
		m.layers = slices.Delete(m.layers, i, i+1)
	}
}

// latest returns the latest instant of an event that is included anywhere: what is written next comes after all that
// it may write over.
func (m *meta) latest() hlc.Time {
	latest := m.last
	for i := range m.layers {
		for _, at := range m.layers[i].donor.Times {
			latest = max(latest, at)
		}
	}
	return latest
}

// joined reports whether a layer's part of the state includes an element of an object.
func (l *layer) joined(object, element string) bool {
	return (Position{Object: object, Element: element}).Compare(l.cursor) < 0
}

// ahead reports whether what is at a place includes an event that the vector may not include.
func (m *meta) aheadAt(object, element string, d crdt.Dot) bool {
	for i := range m.layers {
		if l := &m.layers[i]; l.joined(object, element) && l.donor.Vector.Covers(d) {
			return true
		}
	}
	return false
}

// includes reports whether what is at a place includes an event.
func (m *meta) includes(object, element string, d crdt.Dot) bool {
	return m.vector.Covers(d) || m.aheadAt(object, element, d)
}

// collectedAt returns the instant up to which all events are included in an object, and traces of deletes may be
// gone.
func (m *meta) collectedAt(object string) hlc.Time {
	collected := m.collected
	for i := range m.layers {
		if l := &m.layers[i]; l.joined(object, "") {
			collected = max(collected, l.donor.Collected)
		}
	}
	return collected
}

// context returns all that an object, or a part of it, includes. It is the caller's.
func (m *meta) context(object []byte) crdt.VersionVector {
	context := m.vector.Clone()
	for i := range m.layers {
		if l := &m.layers[i]; l.joined(positionOf(object), "") {
			context.Join(l.donor.Vector)
		}
	}
	return context
}

// fault returns what about the description no honest replica says, or "".
func (d *Donor) fault() string {
	switch {
	case d.Vector.Len() == 0:
		return "it includes nothing"
	case len(d.Times) != d.Vector.Len():
		return "its instants are not those of its vector"
	}
	latest := hlc.Time(0)
	for a, at := range d.Times {
		if latest = max(latest, at); at == 0 || d.Vector.Get(a) == 0 {
			return "an instant of no event"
		}
	}
	for a, seen := range d.Seen {
		if seen.Get(a) != 0 || a != d.Actor && d.Vector.Get(a) == 0 {
			return "what nobody has seen"
		}
	}
	if latest > maxTime {
		return "an instant out of range"
	}
	return ""
}

// append appends the encoding:
//
//	actor | collected | number of actors, and in ascending order of them: actor | seq | time 8
//	number of actors, and in ascending order of them: actor | number of dots it has seen | dots
//
// Numbers without a width are varints.
func (d *Donor) append(b []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(d.Actor)), uint64(d.Collected))
	b = binary.AppendUvarint(b, uint64(d.Vector.Len()))
	d.Vector.Each(func(a crdt.Actor, seq uint64) {
		b = binary.BigEndian.AppendUint64(appendDot(b, crdt.Dot{Actor: a, Seq: seq}), uint64(d.Times[a]))
	})
	b = binary.AppendUvarint(b, uint64(len(d.Seen)))
	for _, a := range slices.Sorted(maps.Keys(d.Seen)) {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(a)), uint64(d.Seen[a].Len()))
		d.Seen[a].Each(func(of crdt.Actor, seq uint64) { b = appendDot(b, crdt.Dot{Actor: of, Seq: seq}) })
	}
	return b
}

func readDonor(r *codec.Reader) Donor {
	d := Donor{Times: map[crdt.Actor]hlc.Time{}, Seen: map[crdt.Actor]crdt.VersionVector{}}
	d.Actor, d.Collected = readActor(r), hlc.Time(r.Uvarint(^uint64(0)))
	const entryBytes = 10 // two varints and a time
	for range r.Count(entryBytes) {
		dot, at := readDot(r), hlc.Time(r.Uint64())
		if entries := d.Vector.Entries(); dot.Seq == 0 || len(entries) > 0 && entries[len(entries)-1].Actor >= dot.Actor {
			r.Fail("actors out of order")
		}
		d.Vector.Set(dot.Actor, dot.Seq)
		d.Times[dot.Actor] = at
	}
	last := uint64(0)
	for i := range r.Count(2) {
		a := readActor(r)
		if i > 0 && uint64(a) <= last {
			r.Fail("actors out of order")
		}
		last = uint64(a)
		d.Seen[a] = readSeenDots(r, a)
	}
	return d
}

// donorVersion is the first byte of an encoded Donor.
const donorVersion = 1

// EncodeDonor returns the encoding of a donor's description: version 1 | what Donor.append says.
func EncodeDonor(d Donor) []byte { return d.append([]byte{donorVersion}) }

// DecodeDonor reads what EncodeDonor wrote. It does not check that there can be such a donor; BeginResync does.
func DecodeDonor(data []byte) (Donor, error) {
	r := codec.NewReader("donor", data, donorVersion)
	d := readDonor(r)
	return d, r.Done()
}
