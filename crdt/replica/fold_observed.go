package replica

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// This file folds the types that are decided by what was observed. An actor has observed all its earlier
// events, so an add takes the place of its earlier ones, and a remove of one of them that of those before it,
// whether they are named or not.

// takesAway returns what a change of author's with these removed dots, and maybe an add, takes away of what
// was there before.
func takesAway(author crdt.Actor, added bool, removed crdt.DotSet) func(have crdt.Dot) bool {
	last := lastOf(author, removed)
	return func(have crdt.Dot) bool {
		if have.Actor == author && (added || have.Seq <= last) {
			return true
		}
		return removed.Contains(have)
	}
}

// lastOf returns an actor's largest sequence number among dots, 0 if there is none.
func lastOf(a crdt.Actor, dots crdt.DotSet) (seq uint64) {
	for _, d := range dots {
		if d.Actor == a {
			seq = d.Seq // they ascend
		}
	}
	return seq
}

// foldRemoved joins what two changes of author's removed. Of the author's own dots it keeps the last, none
// beside an add.
func foldRemoved(author crdt.Actor, added bool, a, b crdt.DotSet) crdt.DotSet {
	last := max(lastOf(author, a), lastOf(author, b))
	var joined crdt.DotSet
	for _, d := range crdt.NewDotSet(slices.Concat(a, b)...) {
		if d.Actor != author || !added && d.Seq == last {
			joined = append(joined, d)
		}
	}
	return joined
}

// foldSet keeps the last clear, and of each element what is left after it: the last add, with all that was
// removed.
type foldSet struct {
	cleared  crdt.VersionVector
	elements map[string]*ElementChange
}

func (setKind) folding() folding { return &foldSet{elements: map[string]*ElementChange{}} }

func (f *foldSet) fold(d *Delta, c Change) Change {
	change := c.(*SetChange)
	left := &SetChange{Elements: make([]ElementChange, 0, len(change.Elements))}
	// The adds of a change come after its clear.
	for i := range change.Elements {
		f.element(d, &change.Elements[i], left)
	}
	if change.Cleared != nil && !f.cleared.Descends(*change.Cleared) {
		left.Cleared = change.Cleared
		f.cleared = f.cleared.Clone()
		f.cleared.Join(*change.Cleared)
	}
	if left.Cleared == nil && len(left.Elements) == 0 {
		return nil
	}
	return left
}

// element adds what is left of an element's change to left, which has room, or to a later change.
func (f *foldSet) element(d *Delta, e *ElementChange, left *SetChange) {
	author := d.Dot.Actor
	added := e.Added && !f.cleared.Covers(d.Dot)
	removed := slices.DeleteFunc(slices.Clone(e.Removed), f.cleared.Covers)
	later := f.elements[string(e.Element)]
	if later != nil {
		if added = added && !takesAway(author, later.Added, later.Removed)(d.Dot); !added {
			later.Removed = foldRemoved(author, later.Added, removed, later.Removed)
			return
		}
	}
	if !added && len(removed) == 0 {
		return
	}
	left.Elements = append(left.Elements, ElementChange{
		Element: e.Element, Added: added, Removed: foldRemoved(author, added, removed, nil),
	})
	f.elements[string(e.Element)] = &left.Elements[len(left.Elements)-1]
}

// foldSiblings keeps the last put, or enable, with all that was removed.
type foldSiblings struct{ later *SiblingsChange }

func (siblingsKind) folding() folding { return &foldSiblings{} }

func (f *foldSiblings) fold(d *Delta, c Change) Change {
	change := c.(*SiblingsChange)
	author, later := d.Dot.Actor, f.later
	if later != nil && (!change.Added || takesAway(author, later.Added, later.Removed)(d.Dot)) {
		later.Removed = foldRemoved(author, later.Added, change.Removed, later.Removed)
		return nil
	}
	f.later = &SiblingsChange{
		Added: change.Added, Value: change.Value, Removed: foldRemoved(author, change.Added, change.Removed, nil),
	}
	return f.later
}

// foldRows keeps of each row of a counter the last that was written: the author's entry is a running sum,
// or was reset, and a later reset observed what the earlier one did.
type foldRows struct {
	rows crdt.Counter
	// entry is the next change with an entry of the author, where voids belong.
	entry *crdt.Counter
}

// fold leaves in left, which is a copy, the rows that are left: all of them, if a newer program says something about
// them.
func (f *foldRows) fold(author crdt.Actor, left *crdt.Counter) {
	if crdt.HasFields(left.Append(nil)) {
		f.rows.Join(left.Known())
	} else {
		voids := f.foldVoids(left.Voids())
		var rows []crdt.Row
		for _, row := range left.Rows() {
			before := f.rows.Clone()
			f.rows.Join(crdt.NewCounter([]crdt.Row{row}))
			if !f.rows.Equal(before) && !f.void(row) {
				rows = append(rows, row)
			}
		}
		*left = crdt.NewCounter(rows)
		left.Join(voids)
	}
	for row := range left.All() {
		if row.Actor == author && row.Entry.Seq != 0 {
			f.entry = left
		}
	}
}

// foldVoids returns the voids that are left: not those of what is reset later, and of those about one event the
// last. Where a later entry is left, they go there: the one that they are about may be left out in its favour, and
// then they would come before it.
func (f *foldRows) foldVoids(voids []crdt.Void) crdt.Counter {
	if len(voids) == 0 {
		return crdt.Counter{}
	}
	f.rows.Join(crdt.NewVoids(voids))
	known := f.rows.Voids()
	left := crdt.NewVoids(slices.DeleteFunc(voids, func(v crdt.Void) bool { return !slices.Contains(known, v) }))
	if f.entry != nil {
		f.entry.Join(left)
		return crdt.Counter{}
	}
	return left
}

// void reports that a later reset has observed the row's entry, which so adds nothing to a counter.
func (f *foldRows) void(row crdt.Row) bool {
	return row.Entry.Seq != 0 && !f.row(row.Actor).Live()
}

func (f *foldRows) row(a crdt.Actor) crdt.Row {
	for _, row := range f.rows.Rows() {
		if row.Actor == a {
			return row
		}
	}
	return crdt.Row{}
}

type foldCounter struct{ foldRows }

func (counterKind) folding() folding { return &foldCounter{} }

func (f *foldCounter) fold(d *Delta, c Change) Change {
	left := &CounterChange{c.(*CounterChange).Clone()}
	if f.foldRows.fold(d.Dot.Actor, &left.Counter); left.Len() == 0 {
		return nil
	}
	return left
}

// foldCounterZSet folds each member as a counter.
type foldCounterZSet struct{ members map[string]*foldRows }

func (counterZSetKind) folding() folding {
	return &foldCounterZSet{members: map[string]*foldRows{}}
}

func (f *foldCounterZSet) fold(d *Delta, c Change) Change {
	change := c.(*CounterZSetChange)
	left := &CounterZSetChange{Members: make([]MemberChange, 0, len(change.Members))}
	for _, m := range change.Members {
		rows := f.members[string(m.Member)]
		if rows == nil {
			rows = &foldRows{}
			f.members[string(m.Member)] = rows
		}
		// There is room: what is left of a member stays where it is.
		left.Members = append(left.Members, MemberChange{Member: m.Member, Rows: m.Rows.Clone()})
		last := len(left.Members) - 1
		if rows.fold(d.Dot.Actor, &left.Members[last].Rows); left.Members[last].Rows.Len() == 0 {
			left.Members = left.Members[:last]
		}
	}
	if len(left.Members) == 0 {
		return nil
	}
	return left
}
