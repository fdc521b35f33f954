package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// FutureQuery asks for values with events from the future.
type FutureQuery struct {
	// After is the latest instant that is not the future.
	After hlc.Time
	// Own leaves the replica's own events after it out, as far as it is known which they are.
	Own uint64
	// From is where to begin.
	From Position
	// Values, Items and Bytes end the page: how many values it has, and how many parts of values were looked at, of how
	// many bytes. Each may be exceeded by what one value, or one part, has.
	Values, Items, Bytes int
}

// FutureValue is a value with an event from the future.
type FutureValue struct {
	Name
	// At is the instant of the newest such event, and Dot the event. Its Seq, and its Actor, are 0 where the type does not
	// keep which event it was.
	At  hlc.Time
	Dot crdt.Dot
	// Last are the last of these events of each actor, in no order. Where Seq is not kept, it is that of the actor's last
	// event of all.
	Last []crdt.Dot
	// Register is the register, if the value is one; the caller's.
	Register *crdt.LWWRegister
}

// FuturePage is what a FutureQuery finds.
type FuturePage struct {
	// Values are in the order of positions. A value may have several parts, and then be in several pages, or twice in one.
	Values []FutureValue
	// Undated counts the values of which neither an instant is kept nor whether their events are from the future: their
	// actors have made such.
	Undated uint64
	// Next is where the next page begins; its End is set if this was the last.
	Next Position
}

// Future returns a page of the values that have events from the future. It looks at what is stored: a value that was
// removed and has left no trace is not found.
//
// An actor's instants only rise. So an event of which no instant is kept is judged by its actor's last one: it is not
// from the future if that is not, and has its instant if it is it. Otherwise nobody knows.
func (r *Replica) Future(q FutureQuery) (FuturePage, error) {
	s := &futureScan{r: r, q: q, page: FuturePage{Next: Position{End: true}}}
	if r.LastHLC() <= q.After {
		return s.page, nil // nothing that is stored is later
	}
	objects := scanObjects(r.kv, q.From, Position{End: true}, false)
	for {
		o, ok, err := objects.next()
		if err == nil && ok {
			if s.full(0) {
				s.page.Next = Position{Object: o.object}
				return s.page, nil
			}
			ok, err = s.object(&o)
		}
		if err != nil {
			return FuturePage{}, fmt.Errorf("look for events from the future: %w", err)
		}
		if !ok {
			return s.page, nil
		}
	}
}

// Register returns the register under a key as it is stored, a tombstone too, and whether there is one. It is the caller's.
func (r *Replica) Register(namespace, key string) (crdt.LWWRegister, bool, error) {
	data, ok, err := r.kv.Get(objectKey(namespace, key, crdt.TypeLWWRegister))
	if err != nil || !ok {
		return crdt.LWWRegister{}, false, err
	}
	reg, err := crdt.DecodeLWWRegister(data)
	reg.Value = slices.Clone(reg.Value)
	return reg, true, err
}

// Saw reports whether an actor had applied an event as of its last own event here, as far as it has told. Unlike with Knows,
// one that is gone has not seen what it did not tell of.
func (r *Replica) Saw(a crdt.Actor, event crdt.Dot) bool {
	return a == event.Actor && r.meta.vector.Covers(event) || r.meta.seen[a].Covers(event)
}

// futureScan is a Future under way.
type futureScan struct {
	r    *Replica
	q    FutureQuery
	page FuturePage
	// items and bytes were looked at.
	items, bytes int
	// found is what was found of the object, or of a part of it, that is being looked at; undated says that something
	// of it is not known.
	found   FutureValue
	undated bool
}

// full reports whether the page has enough, and at least one item was looked at. more is how many values it is about to
// get besides.
func (s *futureScan) full(more int) bool {
	return s.items > 0 && (len(s.page.Values)+more >= s.q.Values || s.items >= s.q.Items || s.bytes >= s.q.Bytes)
}

// object looks at one object. It returns false if the page ends in it.
func (s *futureScan) object(o *scanned) (more bool, err error) {
	name, err := nameAtPosition(o.object)
	if err != nil {
		return false, err
	}
	kind := kindOf(o.t)
	stored, err := kind.decode(o.value)
	if err != nil {
		return false, err
	}
	s.found, s.undated = FutureValue{Name: name}, false
	low, _, head := within(s.q.From, Position{End: true}, o.object)
	if head {
		s.items, s.bytes = s.items+1, s.bytes+len(o.key)+len(o.value)
		s.stamps(stored)
	}
	more = true
	if e, ok := stored.(elemental); ok {
		if more, err = s.elements(o, e.stored(), low); err != nil {
			return false, err
		}
	}
	if name.Namespace != HomeNamespace { // whose writes are events of the program itself
		s.take()
	}
	return more, nil
}

// elements looks at the elements of an object from one on. It returns false if the page ends among them.
func (s *futureScan) elements(o *scanned, e *elements, low string) (more bool, err error) {
	more = true
	err = e.scan(s.r.kv, []byte(low), nil, func(name, value []byte) (bool, error) {
		if string(name) > low && s.items > 0 && (s.items >= s.q.Items || s.bytes >= s.q.Bytes) {
			s.page.Next, more = Position{Object: o.object, Element: string(name)}, false
			return false, nil
		}
		s.items, s.bytes = s.items+1, s.bytes+len(name)+len(value)
		return true, s.elementStamps(o.t, name, value)
	})
	return more, err
}

// take puts what was found of an object into the page. What else was found of the same value is there already if it was
// found just before, as with the leaves of a map.
func (s *futureScan) take() {
	switch n := len(s.page.Values); {
	case s.found.At == 0:
		if s.undated {
			s.page.Undated++
		}
	case n > 0 && s.page.Values[n-1].Name == s.found.Name && s.found.Type != crdt.TypeLWWRegister:
		last := &s.page.Values[n-1]
		if s.found.At > last.At {
			last.At, last.Dot = s.found.At, s.found.Dot
		}
		for _, d := range s.found.Last {
			last.raise(d)
		}
	default:
		s.page.Values = append(s.page.Values, s.found)
	}
}

// raise counts an event among the last of their actors.
func (v *FutureValue) raise(d crdt.Dot) {
	for i := range v.Last {
		if v.Last[i].Actor == d.Actor {
			v.Last[i].Seq = max(v.Last[i].Seq, d.Seq)
			return
		}
	}
	v.Last = append(v.Last, d)
}

// event looks at one event. Its instant is 0 if it is not kept, and so is its number, and its actor.
func (s *futureScan) event(d crdt.Dot, at hlc.Time) {
	meta := s.r.meta
	if d.Actor == meta.self && d.Seq > s.q.Own {
		return
	}
	if at == 0 {
		switch {
		case d.Seq == 0 || meta.times[d.Actor] <= s.q.After:
			return
		case d.Seq != meta.vector.Get(d.Actor):
			s.undated = true
			return
		}
		at = meta.times[d.Actor]
	}
	if at <= s.q.After {
		return
	}
	if at > s.found.At {
		s.found.At, s.found.Dot = at, d
	}
	if d.Seq == 0 {
		d.Seq = meta.vector.Get(d.Actor)
	}
	if d.Actor != 0 || d.Seq != 0 {
		s.found.raise(d)
	}
}
