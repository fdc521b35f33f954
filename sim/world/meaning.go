package world

import (
	"fmt"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/spec"
)

// operation is an operation, and what it means if it has an effect. What a delete is of shows only then.
type operation struct {
	replica.Op
	id    valueID
	event spec.Event
}

// expiring begins the keys whose values may expire: these are compared between regions, and not with the
// specification, which knows no deadlines.
const expiring = "t"

func expires(key string) bool { return strings.HasPrefix(key, expiring) }

// forgets reports whether an event is only about values that may expire.
func forgets(d *replica.Delta) bool {
	for i := range d.Effects {
		if !expires(d.Effects[i].Key) {
			return false
		}
	}
	return true
}

// names reports whether a version is that of an event.
func names(d *replica.Delta, version string) bool {
	return version == d.Dot.String() || version == fmt.Sprintf("%016x%08x", uint64(d.Time), uint32(d.Dot.Actor))
}

// concerns reports whether an event is about an operation's key.
func concerns(d *replica.Delta, op *operation) bool {
	return len(d.Effects) > 0 && d.Effects[0].Key == op.Key
}

// means enters what an operation did.
func (g *group) means(op *operation, d *replica.Delta, out replica.Outcome) {
	w := g.site.w
	event := &(*w.ledger.history(g.site, g.id))[d.Dot.Seq-1]
	for i := range d.Effects {
		e := &d.Effects[i]
		event.ids = append(event.ids, valueID{e.Key, e.Path.Encoded(), e.Type})
	}
	if expires(op.Key) {
		return
	}
	if !atHome(op.Key) && (g.leader == nil || g.resyncing) {
		for _, id := range append(event.ids, op.id) {
			w.ledger.value(g, id).vague = true
		}
	}
	base := op.event
	base.Rank = rankOf(d)
	base.Actor, base.Seq, base.Time = uint32(d.Dot.Actor), d.Dot.Seq, uint64(d.Time)
	base.Seen = make(map[uint32]uint64, len(event.seen))
	for i, n := range event.seen {
		base.Seen[uint32(w.authors[i].actor)] = n
	}
	if op.id.of != 0 {
		if base.Of == crdt.TypeZSet && len(base.Names) > 0 {
			base.Values = []string{fmt.Sprint(out.Score)} // an increment writes the sum
		}
		w.ledger.value(g, op.id).add(&base)
		return
	}
	for _, id := range event.ids {
		part := base
		part.Clears, part.Of = true, id.of
		w.ledger.value(g, id).add(&part)
	}
}

// addedTogether enters an addition that became one event with another of the same entry.
func (g *group) addedTogether(op *operation, version string) bool {
	if expires(op.Key) {
		return true
	}
	v := g.site.w.ledger.value(g, op.id)
	if len(v.events) == 0 {
		return false
	}
	last := v.events[len(v.events)-1]
	if version != (crdt.Dot{Actor: crdt.Actor(last.Actor), Seq: last.Seq}).String() || last.Actor != uint32(g.site.actor) {
		return false
	}
	last.N += op.event.N
	return true
}

func (l *ledger) value(g *group, id valueID) *value {
	v := l.values[g.id][id]
	if v == nil {
		v = &value{}
		l.values[g.id][id] = v
	}
	return v
}

func (v *value) add(e *spec.Event) { v.events = append(v.events, e) }

// at returns what a value is to those who have applied that much.
func (v *value) at(w *World, have []uint64) string {
	applied := map[uint32]uint64{}
	for i, n := range have {
		applied[uint32(w.authors[i].actor)] = n
	}
	var seen spec.History
	var sum int64
	for _, e := range v.events {
		if e.Seq <= applied[e.Actor] {
			seen = append(seen, e)
			sum += e.N
		}
	}
	if len(seen) > oftenSpecified && v.onlyAdds() {
		return fmt.Sprint(sum)
	}
	return seen.Text()
}

// onlyAdds reports whether a value is a counter that nothing but additions were made to.
func (v *value) onlyAdds() bool {
	for _, e := range v.events {
		if e.Of != crdt.TypeCounter || e.Clears || e.Replaces {
			return false
		}
	}
	return true
}

// last returns the event that wins of those that some have applied, but for one, nil if there is none.
func (v *value) last(w *World, have []uint64, but crdt.Dot) *spec.Event {
	var last *spec.Event
	for _, e := range v.events {
		author := w.authorNamed(crdt.Actor(e.Actor))
		if e.Seq <= have[author] && (crdt.Dot{Actor: crdt.Actor(e.Actor), Seq: e.Seq}) != but && (last == nil || e.After(last)) {
			last = e
		}
	}
	return last
}
