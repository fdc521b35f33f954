package replica

import (
	"bytes"
	"math"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// This file folds the types that are decided by time: an actor's later event is later for everyone.

// foldLast keeps the last change.
type foldLast struct{ met bool }

func (registerKind) folding() folding { return &foldLast{} }

// Whoever ends a deadline ends the last one that it knows, which is no earlier than its own.
func (deadlineKind) folding() folding { return &foldLast{} }

func (f *foldLast) fold(_ *Delta, c Change) Change {
	if f.met {
		return nil
	}
	f.met = true
	return c
}

// foldFields keeps the last write or remove of each field, and the last delete.
type foldFields struct {
	kind    fieldsKind
	deleted bool
	// until is an instant up to which a later change deletes all.
	until   hlc.Time
	written map[string]bool
}

func (k fieldsKind) folding() folding { return &foldFields{kind: k, written: map[string]bool{}} }

func (f *foldFields) fold(d *Delta, c Change) Change {
	change := fieldsOf(c)
	switch {
	case f.deleted, change.Action == FieldsDeleteUntil && change.Until <= f.until, change.Action != FieldsDeleteUntil && d.Time <= f.until:
		return nil
	case change.Action == FieldsDelete:
		f.deleted = true
		return c
	case change.Action == FieldsDeleteUntil:
		f.until = change.Until
		return c
	}
	left := make([]FieldChange, 0, len(change.Fields))
	for _, field := range change.Fields {
		if name := string(field.Name); !f.written[name] {
			f.written[name] = true
			left = append(left, field)
		}
	}
	switch len(left) {
	case 0:
		return nil
	case len(change.Fields):
		return c
	default:
		return f.kind.change(FieldsChange{Action: change.Action, Fields: left})
	}
}

// foldTimeline leaves out what a later trim takes away.
type foldTimeline struct{ before hlc.Time }

func (timelineKind) folding() folding { return &foldTimeline{} }

func (f *foldTimeline) fold(d *Delta, c Change) Change {
	change := c.(*TimelineChange)
	if change.VoidSeq != 0 {
		if change.VoidTime < f.before {
			return nil
		}
		return c
	}
	switch {
	case change.Before == 0 && d.Time < f.before, change.Before != 0 && change.Before <= f.before:
		return nil
	}
	f.before = max(f.before, change.Before)
	return c
}

// foldWhole leaves out what the later changes, joined, know better.
type foldWhole[V any, P joinable[V], T wholeType[V]] struct{ later V }

func (wholeKind[V, P, T]) folding() folding { return &foldWhole[V, P, T]{} }

func (f *foldWhole[V, P, T]) fold(_ *Delta, c Change) Change {
	var t T
	change := c.(*wholeChange[V, P, T])
	left, any := t.fold(&f.later, change.value)
	switch {
	case crdt.HasFields(P(&change.value).Append(nil)):
		return c
	case !any:
		return nil
	}
	return &wholeChange[V, P, T]{left}
}

// fold keeps the last row: the totals in it include all before.
func (boundedType) fold(later *crdt.BoundedCounter, c crdt.BoundedCounter) (crdt.BoundedCounter, bool) {
	if later.Len() > 0 {
		return crdt.BoundedCounter{}, false
	}
	*later = c
	return c, true
}

// fold leaves out a write or delete that later ones make void.
func (extremeType[V, P]) fold(later *V, v V) (V, bool) {
	before := P(later).Append(nil)
	P(later).Join(v)
	return v, !bytes.Equal(before, P(later).Append(nil))
}

// fold leaves out the registers that a later event raised as far, or took away. All that is later than v
// can be one layer.
func (hllType) fold(later *crdt.HLL, h crdt.HLL) (crdt.HLL, bool) {
	deleted := h.Deleted() > later.Deleted()
	later.Join(h)
	left := h
	if instants := h.Instants(); len(instants) > 0 {
		left = later.At(instants[0])
	}
	later.Collapse(math.MaxUint64)
	return left, deleted || !left.Empty()
}
