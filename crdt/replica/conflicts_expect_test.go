package replica

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// judge says what a region that has applied some events has to decide when another arrives.
func (w *conflictWorld) judge(s *conflictSite, e *witnessed) {
	for i := range e.Effects {
		effect := &e.Effects[i]
		switch change := effect.Change.(type) {
		case *RegisterChange:
			w.decided(s, e, effect, "")
		case *MapChange:
			w.judgeFields(s, e, effect, &change.FieldsChange)
		case *ZSetChange:
			w.judgeFields(s, e, effect, &change.FieldsChange)
		case *SiblingsChange:
			w.judgeSiblings(s, e, effect, change)
		case *SetChange:
			w.judgeSet(s, e, effect, change)
		case *CounterChange:
			w.judgeRows(s, e, effect, "")
		case *CounterZSetChange:
			for _, m := range change.Members {
				w.judgeRows(s, e, effect, string(m.Member))
			}
		}
	}
}

// concurrent is by what the authors had applied.
func (w *conflictWorld) concurrent(e, f *witnessed) bool {
	if e.Dot.Actor == f.Dot.Actor {
		return false
	}
	if f.seen[e.Dot.Actor] >= e.Dot.Seq {
		w.inversions++
		return false
	}
	return e.seen[f.Dot.Actor] < f.Dot.Seq
}

func (w *conflictWorld) count(s *conflictSite, e, f *witnessed, effect *Effect) {
	a, b := e.Dot.Actor, f.Dot.Actor
	s.want[conflictID{effect.Namespace, effect.Type, min(a, b), max(a, b)}]++
}

// write is what an event writes to a register or field.
type write struct {
	value   []byte
	deleted bool
	// all is for the delete of a whole map.
	all bool
}

// writeTo returns what an event writes to a register, or to a field or all of them.
func writeTo(e *witnessed, effect *Effect, field string) (write, bool) {
	for i := range e.Effects {
		f := &e.Effects[i]
		if f.Key != effect.Key || f.Type != effect.Type {
			continue
		}
		if r, ok := f.Change.(*RegisterChange); ok {
			return write{value: r.Value, deleted: r.Deleted}, true
		}
		c := fieldsOf(f.Change)
		if c.Action == FieldsDelete {
			return write{deleted: true, all: true}, true
		}
		for _, x := range c.Fields {
			if string(x.Name) == field {
				return write{value: x.Value, deleted: c.Action == FieldsRemove}, true
			}
		}
	}
	return write{}, false
}

func later(e, f *witnessed) bool {
	return e.Time > f.Time || e.Time == f.Time && e.Dot.Actor > f.Dot.Actor
}

// current returns the event that a region reads in a register or field, nil if none has written it.
func (s *conflictSite) current(effect *Effect, field string) (last *witnessed) {
	for _, f := range s.applied {
		if _, ok := writeTo(f, effect, field); ok && (last == nil || later(f, last)) {
			last = f
		}
	}
	return last
}

// decided judges one write that arrives.
func (w *conflictWorld) decided(s *conflictSite, e *witnessed, effect *Effect, field string) {
	f := s.current(effect, field)
	if f == nil {
		return
	}
	arrives, _ := writeTo(e, effect, field)
	here, _ := writeTo(f, effect, field)
	if arrives.deleted && here.deleted || !w.concurrent(e, f) {
		return
	}
	w.count(s, e, f, effect)
	won, lost, value := f, e, arrives
	if later(e, f) {
		won, lost, value = e, f, here
	}
	if !value.deleted {
		s.losers = append(s.losers, fmt.Sprintf("%s/%s/%q lost by %v at %v to %v at %v",
			effect.Key, field, value.value, lost.Dot, lost.Time, won.Dot, won.Time))
	}
}

func (w *conflictWorld) judgeFields(s *conflictSite, e *witnessed, effect *Effect, c *FieldsChange) {
	for _, f := range c.Fields {
		w.decided(s, e, effect, string(f.Name))
	}
	if c.Action != FieldsDelete {
		return
	}
	for _, field := range []string{"a", "b", "c"} {
		if f := s.current(effect, field); f != nil {
			if here, _ := writeTo(f, effect, field); !here.deleted {
				w.decided(s, e, effect, field)
			}
		}
	}
}

// changesOf calls visit with the changes of one object that a region has applied, and with e's.
func changesOf[C Change](s *conflictSite, e *witnessed, effect *Effect, visit func(f *witnessed, c C)) {
	for _, f := range append(slices.Clone(s.applied), e) {
		for i := range f.Effects {
			if x := &f.Effects[i]; x.Key == effect.Key && x.Type == effect.Type {
				visit(f, x.Change.(C))
			}
		}
	}
}

func (w *conflictWorld) judgeSiblings(s *conflictSite, e *witnessed, effect *Effect, c *SiblingsChange) {
	standing := map[crdt.Dot]*witnessed{}
	changesOf(s, e, effect, func(f *witnessed, c *SiblingsChange) {
		if c.Added {
			standing[f.Dot] = f
		}
	})
	changesOf(s, e, effect, func(f *witnessed, c *SiblingsChange) {
		maps.DeleteFunc(standing, func(d crdt.Dot, _ *witnessed) bool {
			return c.Removed.Contains(d) || c.Added && d.Actor == f.Dot.Actor && d.Seq < f.Dot.Seq
		})
	})
	if c.Added && (effect.Type == crdt.TypeEWFlag || standing[e.Dot] == nil) {
		return
	}
	for _, f := range standing {
		if w.concurrent(e, f) {
			w.count(s, e, f, effect)
		}
	}
}

func (w *conflictWorld) judgeSet(s *conflictSite, e *witnessed, effect *Effect, c *SetChange) {
	var names []string
	if c.Cleared != nil {
		names = []string{"a", "b", "c"}
	}
	for _, x := range c.Elements {
		if !x.Added {
			names = append(names, string(x.Element))
		}
	}
	for _, name := range names {
		for _, f := range standingAdds(s, e, effect, name) {
			if w.concurrent(e, f) {
				w.count(s, e, f, effect)
			}
		}
	}
}

// standingAdds returns the adds of an element that no event has removed.
func standingAdds(s *conflictSite, e *witnessed, effect *Effect, name string) map[crdt.Dot]*witnessed {
	standing := map[crdt.Dot]*witnessed{}
	changesOf(s, e, effect, func(f *witnessed, c *SetChange) {
		for _, x := range c.Elements {
			if x.Added && string(x.Element) == name {
				standing[f.Dot] = f
			}
		}
	})
	changesOf(s, e, effect, func(_ *witnessed, c *SetChange) {
		maps.DeleteFunc(standing, func(d crdt.Dot, _ *witnessed) bool {
			return c.Cleared != nil && c.Cleared.Covers(d) || slices.ContainsFunc(c.Elements, func(x ElementChange) bool {
				return string(x.Element) == name && x.Removed.Contains(d)
			})
		})
	})
	return standing
}

// rowsOf returns the rows that a change has of a counter or of a member.
func rowsOf(c Change, member string) []crdt.Row {
	if c, ok := c.(*CounterChange); ok {
		return c.Rows()
	}
	for _, m := range c.(*CounterZSetChange).Members {
		if bytes.Equal(m.Member, []byte(member)) {
			return m.Rows.Rows()
		}
	}
	return nil
}

// judgeRows looks, if an event resets, at the last addition of every actor.
func (w *conflictWorld) judgeRows(s *conflictSite, e *witnessed, effect *Effect, member string) {
	resets := func(r crdt.Row) bool { return r.Base.Seq != 0 }
	if !slices.ContainsFunc(rowsOf(effect.Change, member), resets) {
		return
	}
	last, reset := map[crdt.Actor]*witnessed{}, map[crdt.Actor]uint64{}
	changesOf(s, e, effect, func(f *witnessed, c Change) {
		for _, r := range rowsOf(c, member) {
			if resets(r) {
				reset[r.Actor] = max(reset[r.Actor], r.Base.Seq)
			} else {
				last[r.Actor] = f // an actor's events are in order
			}
		}
	})
	for a, f := range last {
		if f.Dot.Seq > reset[a] && w.concurrent(e, f) {
			w.count(s, e, f, effect)
		}
	}
}
