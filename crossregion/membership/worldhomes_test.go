package membership

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// The world's regions have one home, of which each partition is moved by its own log and taken over by heirs, as package
// region does: written again here, from what a partition knows, so that what the membership decides is checked by its purpose.

// homeChange is an event that makes an actor's region the home; the higher term counts.
type homeChange struct {
	dot   dot
	given crdt.Actor
	term  int
}

// homeOf returns the last change of the home that a partition has.
func (w *world) homeOf(q *part, p int) homeChange {
	last := homeChange{given: topology.Actor(1, 0)}
	for _, c := range w.homes {
		if c.dot.p == p && q.applied[c.dot.actor] >= c.dot.seq && c.term > last.term {
			last = c
		}
	}
	return last
}

func regionOf(a crdt.Actor) topology.RegionID {
	id, _ := topology.ActorRegion(a)
	return id
}

// passedOn returns the heir of the first actor of a region, from one on, that has any.
func passedOn(f *Facts, from crdt.Actor) (Heir, bool) {
	at := slices.IndexFunc(f.Heirs, func(h Heir) bool { return regionOf(h.Of) == regionOf(from) && h.Of >= from })
	if at < 0 {
		return Heir{}, false
	}
	return f.Heirs[at], true
}

// writes reports whether a region makes events in a partition.
func (w *world) writes(m *member, q *part) bool {
	f, known := q.facts.fact(m.actor())
	return m.up && !m.ahead && m.copied && known && f.State == ActorOpen && !f.Joining && m.state.MayWrite(m.id, m.epoch) == nil
}

// serves reports whether a region acts as the home in a partition.
func (w *world) serves(m *member, p int) bool {
	q := m.parts[p]
	given := w.homeOf(q, p).given
	_, passed := passedOn(&q.facts, given)
	return w.writes(m, q) && regionOf(given) == m.id && !passed
}

// inherits reports whether a region may take the home over: heirs lead from the home to it, and all that counts of those before
// it is there.
func (w *world) inherits(m *member, p int) bool {
	q := m.parts[p]
	at, passed := w.homeOf(q, p).given, false
	for h, ok := passedOn(&q.facts, at); ok; h, ok = passedOn(&q.facts, at) {
		if !w.over(q, at, h.Of) {
			return false
		}
		at, passed = h.Heir, true
	}
	return passed && regionOf(at) == m.id && w.writes(m, q) && (at == m.actor() || w.over(q, at, m.actor()-topology.Actor(0, 1)))
}

// over reports whether nothing comes any more of a region's actors from one to another, and all of them is there.
func (w *world) over(q *part, from, to crdt.Actor) bool {
	first, known := crdt.Actor(0), false
	for _, f := range q.facts.Facts {
		a := topology.Actor(f.Region, f.Epoch)
		if regionOf(a) != regionOf(from) {
			continue
		}
		if !known {
			first, known = a, true
		}
		if a >= from && a <= to && !w.rules.over(&f, q.applied[a]) {
			return false
		}
	}
	return known && (first > to || slices.ContainsFunc(q.facts.Facts, func(f Fact) bool { return topology.Actor(f.Region, f.Epoch) == to }))
}

// home moves the home, or takes it over.
func (w *world) home(m, other *member, p int) {
	q := m.parts[p]
	from := w.homeOf(q, p)
	change := homeChange{dot: dot{m.actor(), p, q.applied[m.actor()] + 1}, given: m.actor(), term: from.term + 1}
	switch {
	case w.inherits(m, p):
		w.taken++
	case w.serves(m, p) && m != other && w.chance(8):
		at := slices.IndexFunc(q.facts.Facts, func(f Fact) bool { return f.Region == other.id && f.State == ActorOpen && !f.Joining })
		if at < 0 {
			return
		}
		change.given = topology.Actor(other.id, q.facts.Facts[at].Epoch)
	default:
		return
	}
	w.write(m, p)
	if q.applied[m.actor()] == change.dot.seq {
		w.checkChange(m, from.given, change)
		w.homes = append(w.homes, change)
		w.say("region %d makes actor %d the home of partition %d", m.id, change.given, p)
	}
}

// checkChange: who changes the home knows of all changes that count, and who takes over from an actor has all of it that counts.
func (w *world) checkChange(by *member, from crdt.Actor, made homeChange) {
	q := by.parts[made.dot.p]
	passed, inherits := passedOn(&q.facts, from)
	for _, m := range w.members {
		if !w.takesPart(by) || !w.takesPart(m) || m.ahead {
			continue
		}
		theirs := m.parts[made.dot.p]
		if c := w.homeOf(theirs, made.dot.p); c.term >= made.term {
			w.violate("region %d makes actor %d the home of partition %d, and region %d knows that actor %d became it", by.id, made.given, made.dot.p, m.id, c.given)
		}
		if inherits && theirs.applied[passed.Of] > q.applied[passed.Of] {
			w.violate("region %d takes partition %d over from actor %d, of which region %d has more", by.id, made.dot.p, passed.Of, m.id)
		}
	}
}

// checkHomes: of the regions that take part, one at most acts as the home.
func (w *world) checkHomes() {
	for p := range worldPartitions {
		var home *member
		for _, m := range w.members {
			if !w.takesPart(m) || !w.serves(m, p) {
				continue
			}
			if home != nil {
				w.violate("regions %d and %d are both the home of partition %d", home.id, m.id, p)
			}
			home = m
		}
	}
}

// checkHeirs: they are named once, of what is not open, to what is, and stay.
func (w *world) checkHeirs(before, after *State, c Command) {
	for _, h := range before.Heirs {
		if !slices.Contains(after.Heirs, h) {
			w.violate("%v: the heir of actor %d is forgotten, or another", c.Kind, h.Of)
		}
	}
	for _, h := range after.Heirs {
		if slices.Contains(before.Heirs, h) {
			continue
		}
		of, e := topology.ActorRegion(h.Of)
		heir, he := topology.ActorRegion(h.Heir)
		if r := after.Region(of); r.living() || r.Actor().Epoch != e {
			w.violate("%v: epoch %d of region %d gets an heir, and is %v under epoch %d", c.Kind, e, of, r.State, r.Actor().Epoch)
		}
		if r := after.Region(heir); r.State != Active || r.Actor().Epoch != he {
			w.violate("%v: epoch %d of region %d is named as an heir, and is %v", c.Kind, he, heir, r.State)
		}
	}
}

// nameHeir has an operator name an heir, of one of a region's epochs.
func (w *world) nameHeir(m, about *member) {
	r := m.state.Region(about.id)
	if w.chance(2) { // the home's
		r = m.state.Region(regionOf(w.homeOf(m.parts[0], 0).given))
	}
	if r != nil {
		e := r.Actors[w.rng.IntN(len(r.Actors))].Epoch
		w.propose(m, NameHeirCommand(r.ID, e, w.any().id))
	}
}

// settleHomes has an heir named of a home that is lost, and somebody act as the home in the end.
func (w *world) settleHomes() {
	for p := range worldPartitions {
		for range worldHealing {
			if w.fault != "" || w.acted(p) || !w.hasHeir(p) {
				break
			}
			w.step()
			w.check()
		}
		if w.fault == "" && !w.acted(p) && w.hasHeir(p) {
			w.violate("nobody acts as the home of partition %d: %s", p, w.describe())
		}
	}
}

// acted reports whether somebody acts as the home, or was set back, and has to be given up.
func (w *world) acted(p int) bool {
	return slices.ContainsFunc(w.members, func(m *member) bool { return w.takesPart(m) && (m.ahead || w.serves(m, p)) })
}

// hasHeir reports whether the home, or who takes over from it, takes writes; it has an heir named if not.
func (w *world) hasHeir(p int) bool {
	var last homeChange
	for _, m := range w.members {
		if c := w.homeOf(m.parts[p], p); w.takesPart(m) && c.term >= last.term {
			last = c
		}
	}
	f := Facts{Heirs: w.newest.Heirs}
	at := last.given
	for h, ok := passedOn(&f, at); ok; h, ok = passedOn(&f, at) {
		at = h.Heir
	}
	r := w.newest.Region(regionOf(at))
	if r.State == Active {
		return true
	}
	for m := range w.newest.Writing().All() {
		w.propose(w.members[m-1], NameHeirCommand(r.ID, r.Actor().Epoch, m))
		break
	}
	return !r.living()
}
