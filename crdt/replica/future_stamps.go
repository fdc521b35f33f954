package replica

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// This file knows which events what is stored of each type names, and of which it has the instants.

// stamps looks at the events that a stored object names besides those in its elements.
func (s *futureScan) stamps(o stored) {
	switch o := o.(type) {
	case *storedRegister:
		s.event(o.Dot(), o.Time)
		if s.found.At != 0 && s.found.Type == crdt.TypeLWWRegister { // and no leaf of a map
			reg := o.LWWRegister
			s.found.Register = &reg
		}
	case *deadline:
		s.event(o.dot, o.at)
	case *counterState:
		s.event(o.last, 0)
		s.rows(o.rows)
	case *setHeader:
		s.event(o.last, 0)
	case *siblings:
		s.hint(o.last)
		for i := range o.list {
			s.event(o.list[i].Dot, o.list[i].Time)
		}
	case *fieldsHeader:
		s.hint(o.last)
		if o.stamp.Seq != 0 {
			s.event(o.stamp.Dot(), o.stamp.Time)
		}
	case *timelineHeader:
		s.hint(o.last)
		s.mark(o.last, o.mark)
	case *counterZSetHeader:
		s.event(o.last, 0)
	default:
		s.wholeStamps(o)
	}
}

// hint looks at the last event that was applied to an object of which the instants are kept otherwise: a removal may have
// left no other trace.
func (s *futureScan) hint(last crdt.Dot) {
	undated := s.undated
	s.event(last, 0)
	s.undated = undated
}

// mark looks at the mark of a trim, before which there are no entries: just after the event that made it at the latest.
func (s *futureScan) mark(last crdt.Dot, mark hlc.Time) {
	if mark > s.q.After.Next() {
		s.moment(last, 0, mark-1)
	}
}

// wholeStamps is stamps for what is kept whole.
func (s *futureScan) wholeStamps(o stored) {
	switch o := o.(type) {
	case *wholeState[crdt.BoundedCounter, *crdt.BoundedCounter, boundedType]:
		s.event(o.last, 0)
		for _, row := range o.value.Rows() {
			s.event(crdt.Dot{Actor: row.Actor, Seq: row.Seq}, 0)
		}
	case *wholeState[crdt.MaxRegister, *crdt.MaxRegister, maxType]:
		s.hint(o.last)
		s.extreme(o.last, o.value.Writes(), o.value.DeletedAt)
	case *wholeState[crdt.MinRegister, *crdt.MinRegister, minType]:
		s.hint(o.last)
		s.extreme(o.last, o.value.Writes(), o.value.DeletedAt)
	case *wholeState[crdt.HLL, *crdt.HLL, hllType]:
		s.hint(o.last)
		for _, at := range append(o.value.Instants(), o.value.Deleted()) {
			s.moment(o.last, 0, at)
		}
	}
}

// extreme looks at the writes and the delete of a maximum or a minimum.
func (s *futureScan) extreme(last crdt.Dot, writes []crdt.ExtremeWrite, deleted func() (hlc.Time, crdt.Actor)) {
	for _, w := range writes {
		s.moment(last, w.Actor, w.Time)
	}
	at, by := deleted()
	s.moment(last, by, at)
}

// moment looks at an event of which the instant is known, and perhaps the actor, but not the number, unless it is that of
// the last event that the object has.
func (s *futureScan) moment(last crdt.Dot, by crdt.Actor, at hlc.Time) {
	if at == 0 {
		return
	}
	d := crdt.Dot{Actor: by}
	if meta := s.r.meta; meta.times[last.Actor] == at && last.Seq == meta.vector.Get(last.Actor) {
		d = last
	}
	s.event(d, at)
}

// rows looks at the last addition of each actor to a counter, and at the resets.
func (s *futureScan) rows(c crdt.Counter) {
	for row := range c.All() {
		s.event(crdt.Dot{Actor: row.Actor, Seq: row.Entry.Seq}, 0)
		s.event(row.Base.Reset, 0)
	}
}

// elementStamps looks at the events that an element of an object of a type names.
func (s *futureScan) elementStamps(t crdt.Type, name, value []byte) error {
	switch t {
	case crdt.TypeAWSet:
		dots, err := crdt.DecodeDotSet(value)
		for _, d := range dots {
			s.event(d, 0)
		}
		return err
	case crdt.TypeLWWMap, crdt.TypeZSet:
		reg, err := crdt.DecodeLWWRegister(value)
		s.event(reg.Dot(), reg.Time)
		return err
	case crdt.TypeTimeline:
		if len(name) != TimelineIDBytes {
			return fmt.Errorf("timeline entry of %d bytes: %w", len(name), crdt.ErrCorrupt)
		}
		at := hlc.Time(binary.BigEndian.Uint64(name))
		s.event(crdt.Dot{Actor: crdt.Actor(binary.BigEndian.Uint32(name[8:])), Seq: binary.BigEndian.Uint64(name[12:])}, at)
		return nil
	case crdt.TypeCounterZSet:
		rows, err := crdt.DecodeCounter(value)
		s.rows(rows)
		return err
	default:
		return fmt.Errorf("element of a %v: %w", t, crdt.ErrCorrupt)
	}
}
