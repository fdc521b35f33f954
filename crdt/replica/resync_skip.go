package replica

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// This file keeps deltas of what a resync has brought already from being merged again. An add that is included and
// not there was removed, and merging it would bring it back. The vector says so of most events; here it is about
// those that are included before a cursor only.

// partial is a change that is made of parts, which are elements.
type partial interface {
	// without returns the change without some of its elements, nil if nothing is left.
	without(d *Delta, included func(element string) bool) Change
}

// fresh returns what is left of an effect of an event, less what is included where it is on; nil if nothing is.
func (w *work) fresh(d *Delta, e *Effect) *Effect {
	object := positionOf(e.object())
	if w.meta.wholly(object, d.Dot) {
		return nil
	}
	if !w.meta.aheadAt(object, "", d.Dot) {
		return e
	}
	// A cursor is in the object. What the event did to all of it, what is before the elements has; to do that again
	// to all elements does no harm.
	p, ok := e.Change.(partial)
	if !ok {
		return nil
	}
	change := p.without(d, func(element string) bool { return w.meta.aheadAt(object, element, d.Dot) })
	if change == nil {
		return nil
	}
	left := *e
	left.Change = change
	return &left
}

// wholly reports whether all of an object includes an event by a layer.
func (m *meta) wholly(object string, d crdt.Dot) bool {
	return slices.ContainsFunc(m.layers, func(l layer) bool {
		return (l.cursor.End || l.cursor.Object > object) && l.donor.Vector.Covers(d)
	})
}

func (s *SetChange) without(_ *Delta, included func(string) bool) Change {
	left := &SetChange{Cleared: s.Cleared, Elements: slices.DeleteFunc(slices.Clone(s.Elements), func(e ElementChange) bool {
		return included(string(e.Element))
	})}
	if left.Cleared == nil && len(left.Elements) == 0 {
		return nil
	}
	return left
}

func (c *FieldsChange) without(included func(string) bool) (FieldsChange, bool) {
	left := *c
	left.Fields = slices.DeleteFunc(slices.Clone(c.Fields), func(f FieldChange) bool { return included(string(f.Name)) })
	return left, c.deletes() || len(left.Fields) > 0
}

func (c *MapChange) without(_ *Delta, included func(string) bool) Change {
	if left, any := c.FieldsChange.without(included); any {
		return &MapChange{left}
	}
	return nil
}

func (c *ZSetChange) without(_ *Delta, included func(string) bool) Change {
	if left, any := c.FieldsChange.without(included); any {
		return &ZSetChange{left}
	}
	return nil
}

func (c *CounterZSetChange) without(_ *Delta, included func(string) bool) Change {
	left := slices.DeleteFunc(slices.Clone(c.Members), func(m MemberChange) bool { return included(string(m.Member)) })
	if len(left) == 0 {
		return nil
	}
	return &CounterZSetChange{left}
}

// without leaves the add out if it is included: then its actor's earlier ones, which it takes the place of, are
// included as well.
func (c *SiblingsChange) without(d *Delta, included func(string) bool) Change {
	switch {
	case !c.Added || !included(siblingName(d.Dot)):
		return c
	case len(c.Removed) == 0:
		return nil
	default:
		return &SiblingsChange{Removed: c.Removed}
	}
}

func (c *TimelineChange) without(d *Delta, included func(string) bool) Change {
	id := TimelineID(crdt.TimelineEntry{Time: d.Time, Actor: d.Dot.Actor, Seq: d.Dot.Seq})
	if c.Before == 0 && included(string(id)) {
		return nil
	}
	return c
}
