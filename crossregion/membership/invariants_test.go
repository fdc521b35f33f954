package membership

import (
	"bytes"
	"slices"

	"github.com/atolldb/atoll/topology"
)

// check holds the world to what must be true after every step.
func (w *world) check() {
	for i, m := range w.members {
		for _, other := range w.members[:i] {
			w.checkLogs(m, other)
		}
		w.checkMember(m)
	}
	for i := range w.newest.Regions {
		r := &w.newest.Regions[i]
		for j := range r.Actors {
			w.checkActor(r, &r.Actors[j])
		}
	}
	w.checkHomes()
}

// checkLogs: what one region holds as decided, no other holds otherwise. Two halves that fence each
// other would break it.
func (w *world) checkLogs(a, b *member) {
	n := min(len(a.log), len(b.log))
	if n > 0 && !bytes.Equal(a.log[n-1], b.log[n-1]) {
		w.violate("regions %d and %d hold different commands to be the decided number %d", a.id, b.id, n)
	}
}

// checkMember: no outbox has let go of what a region that takes part lacks.
func (w *world) checkMember(m *member) {
	r := w.newest.Region(m.id)
	if r == nil || r.State != Active || r.Actor().Epoch != m.epoch || !m.copied || m.ahead {
		return
	}
	for _, origin := range w.members {
		o := w.newest.Region(origin.id)
		if origin == m || o == nil || !o.living() || o.Actor().Epoch != origin.epoch || origin.ahead {
			continue
		}
		for p, q := range origin.parts {
			if have := m.parts[p].applied[origin.actor()]; have < q.trimmed {
				w.violate("region %d has event %d of region %d, whose outbox begins after %d in partition %d", m.id, have, origin.id, q.trimmed, p)
			}
		}
	}
}

// checkActor: nobody who takes part has more of a closed actor than its cut, somebody has all of that,
// and everybody once it is released.
func (w *world) checkActor(r *Region, a *Actor) {
	if a.State != ActorClosed {
		return
	}
	actor := topology.Actor(r.ID, a.Epoch)
	best := make([]uint64, worldPartitions)
	setBack := false
	for _, m := range w.members {
		if !w.takesPart(m) {
			continue
		}
		if m.ahead { // it may have lost of this actor too, and is given up soon
			setBack = true
			continue
		}
		for p, have := range m.vector(actor) {
			best[p] = max(best[p], have)
			if have > a.Cut[p] {
				w.violate("region %d has event %d of actor %d, closed at %d in partition %d", m.id, have, actor, a.Cut[p], p)
			}
			if a.Released && w.newest.Region(m.id).State != Joining && have < a.Cut[p] {
				w.violate("actor %d is released, and region %d has %d of %d in partition %d", actor, m.id, have, a.Cut[p], p)
			}
		}
	}
	if !a.Released && !setBack && !slices.Equal(best, a.Cut) {
		w.violate("actor %d is closed at %v, and those who take part have %v", actor, a.Cut, best)
	}
}

// takesPart reports whether a region's present life counts.
func (w *world) takesPart(m *member) bool {
	r := w.newest.Region(m.id)
	return r != nil && r.Actor().Epoch == m.epoch && r.living()
}

// checkStep holds one command to what must be true of any.
func (w *world) checkStep(before, after *State, c Command) {
	if after != before && after.Epoch != before.Epoch+1 {
		w.violate("%v went from membership %d to %d", c.Kind, before.Epoch, after.Epoch)
	}
	if again, err := w.rules.apply(after, c); err == nil && again != after {
		w.violate("%v changes something when it comes twice", c.Kind)
	}
	if decoded, err := DecodeState(after.Encode()); err != nil || !bytes.Equal(decoded.Encode(), after.Encode()) {
		w.violate("the state after %v does not survive its encoding: %v", c.Kind, err)
	}
	if before.Founded() && after.Writing() == 0 {
		w.violate("after %v nobody takes writes", c.Kind)
	}
	w.checkHeirs(before, after, c)
	for i := range before.Regions {
		was := &before.Regions[i]
		is := after.Region(was.ID)
		if is == nil || is.Actor().Epoch < was.Actor().Epoch {
			w.violate("%v: region %d is gone, or its epoch fell", c.Kind, was.ID)
			continue
		}
		for j := range was.Actors {
			w.checkActorStep(was.ID, &was.Actors[j], is.actor(was.Actors[j].Epoch), c)
		}
	}
}

// checkActorStep: an actor is never reopened, a release never taken back, a cut only falls.
func (w *world) checkActorStep(id topology.RegionID, was, is *Actor, c Command) {
	switch {
	case is == nil && !was.Released:
		w.violate("%v: epoch %d of region %d is forgotten, and not released", c.Kind, was.Epoch, id)
	case is == nil:
	case was.State != ActorOpen && is.State == ActorOpen:
		w.violate("%v: epoch %d of region %d is open again", c.Kind, was.Epoch, id)
	case was.Released && !is.Released:
		w.violate("%v: epoch %d of region %d is released no more", c.Kind, was.Epoch, id)
	case was.State == ActorClosed && is.State == ActorClosed && !slices.Equal(was.Cut, is.Cut):
		w.violate("%v: the cut of epoch %d of region %d changed", c.Kind, was.Epoch, id)
	}
}
