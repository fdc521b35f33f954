package world

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// What the membership promises, held against the books. A region that was given up is out of comparison until it begins
// anew: it may have events that do not count, and nobody waits for it.

// in reports whether a region takes part under the epoch that it has, whatever it knows.
func (s *site) in() bool {
	if s.w.council == nil {
		return true
	}
	st := s.w.council.newest()
	return st.Living().Has(s.id) && st.Region(s.id).Actor().Epoch == s.epoch
}

// authorOf is the number of a region's actor in a state.
func (w *World) authorOf(r *membership.Region) int {
	return int(r.Actor().Epoch-firstEpoch)*w.plan.Regions + int(r.ID) - 1
}

// actorIn returns an author's actor in a state, nil if it is not known there.
func (a *author) in(st *membership.State) *membership.Actor {
	r := st.Region(a.site.id)
	for i := range r.Actors {
		if r.Actors[i].Epoch == a.epoch {
			return &r.Actors[i]
		}
	}
	return nil
}

// changed checks a change of the membership, and counts it.
func (c *council) changed(before, next *membership.State, cmd *membership.Command) {
	w := c.w
	for i := range w.authors {
		was, is := w.authors[i].in(before), w.authors[i].in(next)
		if is == nil {
			continue
		}
		if is.State == membership.ActorClosed && (was == nil || was.State != membership.ActorClosed) {
			w.counts.Closings++
			c.cuts[i] = is.Cut
			c.checkCut(i, is)
			w.closeHomes(i, is.Cut)
		} else if is.State != membership.ActorClosed {
			c.cuts[i] = nil
		}
		if is.Released && !was.Released {
			w.counts.Releases++
			c.checkRelease(i, is)
		}
	}
	switch s := w.sites[cmd.Region-1]; cmd.Kind {
	case membership.Fence:
		w.counts.Fences++
	case membership.Drain:
		w.counts.Drains++
	case membership.Join:
		w.counts.Joins++
		s.checkJoin()
	case membership.Rejoin:
		w.after(w.between1to5ms()*50, func() { s.beginAnew(cmd.Epoch) })
	}
}

// checkCut checks that a cut is the most that any region that takes part has, so that what any of them has is kept.
func (c *council) checkCut(author int, a *membership.Actor) {
	for p, cut := range a.Cut {
		most := uint64(0)
		for _, s := range c.w.sites {
			if s.in() {
				most = max(most, s.groups[p].books.have[author])
			}
		}
		if cut != most {
			c.w.fail("a cut is the most that anybody has", "%v is closed at %d in partition %d, the most is %d", &c.w.authors[author], cut, p, most)
		}
	}
}

// checkRelease checks that nobody lacks anything of an actor that nobody waits for any more.
func (c *council) checkRelease(author int, a *membership.Actor) {
	for _, s := range c.w.sites {
		for p, cut := range a.Cut {
			if have := s.groups[p].books.have[author]; s.in() && have != cut {
				c.w.fail("an actor is released when everybody is at its cut", "%v is released at %d in partition %d, where %v has %d",
					&c.w.authors[author], cut, p, s, have)
			}
		}
	}
}

// checkJoin checks that a region that takes writes from now on has everything that is closed.
func (s *site) checkJoin() {
	for author, cut := range s.w.council.cuts {
		for p := range cut {
			if have := s.groups[p].books.have[author]; s.w.released(author) && have != cut[p] {
				s.w.fail("a region that has joined has what others have", "%v has %d of %d of %v in partition %d",
					s, have, cut[p], &s.w.authors[author], p)
			}
		}
	}
}

func (w *World) released(author int) bool {
	a := w.authors[author].in(w.council.newest())
	return a != nil && a.Released
}

// bury keeps the books of a region's life that is over.
func (c *council) bury(s *site) {
	me := s.author()
	for _, g := range s.groups {
		c.gone[me] = append(c.gone[me], g.books)
	}
}

// countGivenUp counts what regions had acknowledged that nobody else has: what lies beyond their cuts.
func (c *council) countGivenUp() {
	for i, cuts := range c.cuts {
		for p, cut := range cuts {
			head := uint64(len(*c.w.ledger.of(i, topology.PartitionID(p))))
			if cut > head {
				c.w.fail("a cut is not beyond what was written", "%v wrote %d, and is closed at %d", &c.w.authors[i], head, cut)
				return
			}
			c.w.counts.GivenUp += head - cut
		}
	}
}

// String names an author.
func (a *author) String() string { return fmt.Sprintf("%v in epoch %d", a.site, a.epoch) }

// ever is the most that one author's region ever had of another's events.
func (w *World) ever(reader int, p topology.PartitionID, of int) uint64 {
	s := w.authors[reader].site
	switch {
	case s.author() == reader:
		return s.groups[p].books.ever[of]
	case w.council != nil && w.council.gone[reader] != nil:
		return w.council.gone[reader][p].ever[of]
	}
	return 0
}

// awaited are the authors that a group's outbox waits for.
func (g *group) awaited() (authors []int) {
	w := g.site.w
	if g.books.facts == 0 {
		for _, o := range w.others(g.site) {
			authors = append(authors, o.index)
		}
		return authors
	}
	st := w.council.states[g.books.facts]
	for id := range st.Destinations(g.site.id).All() {
		authors = append(authors, w.authorOf(st.Region(id)))
	}
	return authors
}

// checkFacts checks what a group has taken in of the membership.
func (g *group) checkFacts(view *region.MachineView) {
	w, b := g.site.w, &g.books
	if view.Facts.Epoch == b.facts {
		return
	}
	if view.Facts.Epoch < b.facts || view.Facts.Epoch > g.site.known.Epoch {
		w.fail("partitions follow the membership", "%v took in %d after %d, and knows of %d", g.site, view.Facts.Epoch, b.facts, g.site.known.Epoch)
		return
	}
	b.facts = view.Facts.Epoch
	st := w.council.states[b.facts]
	for _, f := range view.Facts.Facts {
		id, epoch := topology.ActorRegion(f.Actor)
		a := (&author{site: w.sites[id-1], epoch: epoch}).in(st)
		switch {
		case a == nil || membership.ActorState(f.State) != a.State || f.Released != a.Released:
			w.fail("partitions know the membership as it is", "%v: %+v is %+v", g.site, f, a)
		case f.State == region.ActorClosed && f.Cut != a.Cut[g.id]:
			w.fail("all regions agree on the cut", "%v closes %v at %d, not at %d", g.site, f.Actor, f.Cut, a.Cut[g.id])
		}
	}
	for _, a := range g.awaited() {
		if !b.waits[a] { // what left the outbox before, it gets with a state
			b.waits[a], b.floor[a] = true, view.Outbox.First-1
		}
	}
}

// checkClosed checks that nothing is here of what closed actors wrote beyond their cuts.
func (g *group) checkClosed() {
	w := g.site.w
	if w.council == nil || !g.site.in() {
		return
	}
	for a, cut := range w.council.cuts {
		if have := g.books.have[a]; cut != nil && have > cut[g.id] {
			w.fail("nothing of a closed actor counts beyond its cut", "%v has %d of %v, closed at %d", g.site, have, &w.authors[a], cut[g.id])
		}
	}
}

// checkMayIssue checks that a group that has taken in that its region takes no writes makes no events.
func (g *group) checkMayIssue() {
	w, s := g.site.w, g.site
	if g.books.facts == 0 {
		return
	}
	r := w.council.states[g.books.facts].Region(s.id)
	if r.State != membership.Active || r.Actor().Epoch != s.epoch {
		w.fail("a region issues no events under an epoch that it knows to be closed", "%v in epoch %d is %v in epoch %d", s, s.epoch, r.State, r.Actor().Epoch)
	}
}

// checkTakesWrites checks that a region that knows that it takes no writes takes none.
func (s *site) checkTakesWrites() {
	if s.w.council == nil {
		return
	}
	r := s.known.Region(s.id)
	if r == nil || r.State != membership.Active || r.Actor().Epoch != s.epoch {
		s.w.fail("a region takes no writes that knows it was given up", "%v takes one in epoch %d", s, s.epoch)
	}
}

// unsettled says what of the membership is under way, "" if nothing is.
func (c *council) unsettled() string {
	st := c.newest()
	for i := range st.Regions {
		r := &st.Regions[i]
		if r.State != membership.Active && r.State != membership.Closed {
			return fmt.Sprintf("region %d is %v in epoch %d, awaiting %v", r.ID, r.State, r.Actor().Epoch, r.Awaiting)
		}
		for j := range r.Actors {
			if a := &r.Actors[j]; a.State != membership.ActorOpen && !a.Released {
				return fmt.Sprintf("region %d in epoch %d is not released, waiting for %v", r.ID, a.Epoch, st.Lagging(r.ID, a))
			}
		}
	}
	return ""
}

// heard says which region does not know of the newest membership, or has not begun anew, "" if all do and have.
func (c *council) heard() string {
	st, w := c.newest(), c.w
	for _, s := range w.sites {
		r := st.Region(s.id)
		switch {
		case w.plan.Returns && r.State == membership.Closed && r.Actor().Epoch+1 < firstEpoch+mostLives:
			return fmt.Sprintf("%v has not come back", s)
		case !s.in() && r.State != membership.Closed:
			return fmt.Sprintf("%v has not begun anew", s)
		case !s.in():
			continue
		case s.known != st:
			return fmt.Sprintf("%v knows of membership %d only, it is %d", s, s.known.Epoch, st.Epoch)
		}
		for _, g := range s.groups {
			if g.books.facts != st.Epoch {
				return fmt.Sprintf("partition %d of %v has taken in membership %d only, it is %d", g.id, s, g.books.facts, st.Epoch)
			}
		}
	}
	return ""
}

// behind says who of some regions has not applied what counts; "" if all have everything. Where not all of them are there,
// what is under way in the membership may have to wait, and everybody with it.
func (c *council) behind(sites []*site) string {
	w, all := c.w, len(sites) == len(c.w.sites)
	text := c.unsettled()
	if all && text == "" {
		text = c.heard()
	}
	if text != "" && all {
		return text
	} else if text != "" {
		return ""
	}
	for _, s := range sites {
		if !s.in() {
			continue
		}
		for _, g := range s.groups {
			if text := g.busy(); text != "" {
				return text
			}
			for a := range w.authors {
				if text := g.lacks(a, c.counts(a, g.id, sites)); text != "" {
					return text
				}
			}
		}
	}
	return ""
}

// counts is how many of an author's events everybody has in the end.
func (c *council) counts(a int, p topology.PartitionID, sites []*site) uint64 {
	if c.cuts[a] != nil {
		return c.cuts[a][p]
	}
	for _, s := range sites {
		if s.author() == a && s.in() {
			return uint64(len(*c.w.ledger.of(a, p)))
		}
	}
	return 0
}

// late counts a frame that is refused because its region was given up.
func (s *site) late(from *site) {
	s.w.counts.LateFrames++
	s.w.mention("%v refuses what comes late of %v", s, from)
}

// refused counts a frame that is refused, and why.
func (s *site) refused(from *site, err error) {
	if err == nil || errors.Is(err, protocol.ErrOldEpoch) {
		s.late(from)
		return
	}
	s.w.counts.Damaged++
}

// outlasting are the tables of what has not arrived: what is there of events that were given up stays.
var outlasting = map[byte]bool{'R': true, 'D': true, 'G': true, 'A': true}

// orphaned reports whether some of what was applied had been made by authors who had seen events that were given up: a
// region can have shipped events that it had made of those of another, and both of them are lost.
func (b *books) orphaned() bool { return !b.closed() }

// alone reports whether a group waits for no other region: then it collects what has expired by its own clock, though it has
// issued and merged nothing since, and there is nobody to differ from.
func (g *group) alone() bool {
	if g.books.facts == 0 {
		return false
	}
	awaited := g.site.w.council.states[g.books.facts].Stability()
	return len(awaited) == 1 && awaited[0] == g.site.actor
}
