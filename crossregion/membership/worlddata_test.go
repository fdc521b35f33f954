package membership

import (
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// write makes an event, if the region believes that it may.
func (w *world) write(m *member, p int) {
	q := m.parts[p]
	if !m.up || m.ahead || !m.copied || m.state.MayWrite(m.id, m.epoch) != nil {
		return
	}
	if f, known := q.facts.fact(m.actor()); known && (f.State != ActorOpen || f.Joining) {
		return // the partition has taken over that its region writes no more
	}
	q.last += 1 + w.rng.Uint64N(3)
	d := dot{m.actor(), p, q.applied[m.actor()] + 1}
	if _, used := w.events[d]; used {
		w.violate("event %d of actor %d in partition %d was made twice", d.seq, d.actor, p)
	}
	w.events[d] = q.last
	q.applied[d.actor], q.at[d.actor] = d.seq, q.last
	if w.chance(4) {
		q.old = q.clone()
		q.old.trimmed, q.old.marks = q.trimmed, maps.Clone(q.marks)
	}
}

// merge brings the next event of an actor from the region that wrote it, or of a closed one from whoever
// has it.
func (w *world) merge(m, from *member, p int) {
	if m == from || !w.together(m, from) || !m.copied && !w.joiningHere(m) {
		return
	}
	if !m.copied && m.parts[p].facts.Epoch == 0 {
		return // without facts everything would be admitted: that is for the founders only
	}
	for _, a := range sortedActors(from.parts[p].applied) {
		if a != m.actor() {
			w.fetch(m, from, p, a)
		}
	}
}

// fetch merges what another has of an actor, up to some events.
func (w *world) fetch(m, from *member, p int, a crdt.Actor) {
	q, have := m.parts[p], from.parts[p]
	own := a == from.actor()
	if f, known := q.facts.fact(a); !own && (!known || f.State != ActorClosed) {
		return // only its origin hands on what is open
	}
	for range 1 + w.rng.IntN(8) {
		d := dot{a, p, q.applied[a] + 1}
		if have.applied[a] < d.seq || !w.rules.admits(&q.facts, a, d.seq) {
			return
		}
		if own && have.trimmed >= d.seq {
			return // it has left the outbox: who lacks it copies a state
		}
		w.arrive(m, q, d)
	}
}

// arrive merges one event, and checks that nothing was collected too early.
func (w *world) arrive(m *member, q *part, d dot) {
	at := w.events[d]
	// Who was given up begins anew before it counts again.
	if r := w.newest.Region(m.id); at <= q.cut && r.living() && r.Actor().Epoch == m.epoch {
		w.violate("region %d collected up to %d and then got event %d of actor %d, which is of %d", m.id, q.cut, d.seq, d.actor, at)
	}
	q.applied[d.actor], q.at[d.actor] = d.seq, at
	q.last = max(q.last, at)
}

// joiningHere reports whether a region that has no state yet takes part.
func (w *world) joiningHere(m *member) bool {
	r := m.state.Region(m.id)
	return r != nil && r.State == Joining && r.Actor().Epoch == m.epoch
}

// collect drops what no event can be older than.
func (w *world) collect(m *member, p int) {
	q := m.parts[p]
	if !m.up || !m.copied || q.facts.Epoch == 0 {
		return
	}
	cut := q.last
	for _, f := range q.facts.Facts {
		if a := topology.Actor(f.Region, f.Epoch); a != m.actor() && f.HoldsBack(q.applied[a]) {
			cut = min(cut, q.at[a])
		}
	}
	q.cut = max(q.cut, cut)
}

// acknowledge tells an origin how far its events are applied, and lets it trim.
func (w *world) acknowledge(m, origin *member, p int) {
	if m == origin || !w.together(m, origin) || !m.copied {
		return
	}
	q := origin.parts[p]
	if q.facts.Epoch == 0 {
		return
	}
	f, known := q.facts.fact(m.actor())
	if !known || !f.Destination {
		return // a word of an earlier epoch
	}
	q.marks[m.id] = max(q.marks[m.id], m.parts[p].applied[origin.actor()])
	trim := q.applied[origin.actor()]
	for _, f := range q.facts.Facts {
		if f.Destination && f.Region != origin.id {
			trim = min(trim, q.marks[f.Region])
		}
	}
	q.trimmed = max(q.trimmed, trim)
}

// copy begins or ends a transfer of a donor's state to a joining region.
func (w *world) copy(m, donor *member) {
	if !m.up || m.copied || !w.joiningHere(m) || m.taken() == 0 {
		return
	}
	if m.copying == nil {
		w.beginCopy(m, donor)
		return
	}
	for p, q := range m.parts {
		for a, seq := range m.copying.parts[p].applied {
			if seq > q.applied[a] && !w.rules.admits(&q.facts, a, seq) {
				m.copying = nil // it stands in a closing: copy again when that is over
				return
			}
		}
	}
	w.endCopy(m)
}

func (w *world) beginCopy(m, donor *member) {
	if !w.together(m, donor) || !donor.copied || donor.ahead || !w.rules.mayCopy(m.state, m.id) {
		return
	}
	r, since := donor.state.Region(donor.id), donor.taken()
	if r == nil || r.State != Active || since < m.state.Region(m.id).AckedAt {
		return
	}
	m.copying = &transfer{donor: donor.id, since: since}
	for _, q := range donor.parts {
		m.copying.parts = append(m.copying.parts, q.clone())
	}
}

func (w *world) endCopy(m *member) {
	t := m.copying
	for p, q := range m.parts {
		from := t.parts[p]
		for a, seq := range from.applied {
			if seq > q.applied[a] {
				q.applied[a], q.at[a] = seq, from.at[a]
			}
		}
		q.last, q.cut = max(q.last, from.last), max(q.cut, from.cut)
	}
	m.copying, m.copied, m.donor, m.since = nil, true, t.donor, t.since
	w.say("region %d has the state of region %d", m.id, t.donor)
}

// loseTail sets a partition of a region back to an old copy, if others have events that are lost by it.
func (w *world) loseTail(m *member) {
	if !m.up || !m.copied || m.state.MayWrite(m.id, m.epoch) != nil {
		return
	}
	for _, other := range w.members {
		for p, q := range m.parts {
			if other != m && q.old != nil && other.parts[p].applied[m.actor()] > q.old.applied[m.actor()] {
				m.parts[p], m.ahead = q.old, true
				w.say("region %d is set back in partition %d, and region %d knows of more", m.id, p, other.id)
				return
			}
		}
	}
}

func sortedActors(m map[crdt.Actor]uint64) []crdt.Actor { return slices.Sorted(maps.Keys(m)) }
