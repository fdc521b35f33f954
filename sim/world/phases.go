package world

import (
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
)

// How long the phases after the faults may take.
const (
	coreConverges = 60 * time.Second
	allConverge   = 60 * time.Second
	// garbageGoes is longer than the time for which a region waits for another to expire what that has set to.
	garbageGoes = 120 * time.Second
)

// play runs the phases: faults; then only a majority is healed, and all else stays broken; then everything is.
func (w *World) play() {
	for i := range w.plan.Happenings {
		h := &w.plan.Happenings[i]
		w.after(h.At-w.now, func() { w.happen(h) })
	}
	w.run(w.plan.Length)
	if w.failure != nil {
		return
	}
	w.calm = true
	core, rest := w.parties()
	w.say("the faults end; %v are healed, the others stay broken", core)
	w.breakForGood(rest)
	w.heal(core)
	w.await(core, w.patience(coreConverges), "a healed majority converges")
	w.coreTook = w.counts.Converged
	w.say("everything is healed")
	whole := slices.DeleteFunc(slices.Clone(w.sites), func(s *site) bool { return s.restored })
	w.heal(w.sites)
	w.bringBack()
	w.await(whole, w.patience(allConverge), "everything converges")
	if w.council != nil && w.failure == nil {
		w.writeAgain()
		w.await(whole, w.patience(allConverge), "everything converges")
	}
	if w.plan.Homes && w.failure == nil {
		w.homesAgain()
		w.await(whole, w.patience(allConverge), "everything converges")
	}
	if len(whole) == len(w.sites) {
		w.settle()
	} else if w.failure == nil && w.noticeable() {
		w.awaitNotice()
	}
	w.finish()
}

// patience is how long regions may take to converge: longer where they take over states, because donors that are away
// are waited for.
func (w *World) patience(d time.Duration) time.Duration {
	if w.plan.transfers() {
		return 4 * d
	}
	return d
}

// parties returns the regions of the core, and the others.
func (w *World) parties() (core, rest []*site) {
	for _, s := range w.sites {
		if slices.Contains(w.plan.Core, s.index) && !s.restored {
			core = append(core, s)
		} else {
			rest = append(rest, s)
		}
	}
	return core, rest
}

// breakForGood cuts regions off, and ends some of them.
func (w *World) breakForGood(rest []*site) {
	for _, s := range rest {
		for _, o := range w.others(s) {
			w.between(s, o).cutUntil, w.between(o, s).cutUntil = never, never
		}
		if w.rng.IntN(2) == 0 {
			for _, n := range s.nodes {
				if n.up {
					n.stop()
				}
			}
		}
	}
}

// heal mends regions, and the links between them.
func (w *World) heal(sites []*site) {
	for _, s := range sites {
		s.stream.downUntil = 0
		for _, n := range s.nodes {
			n.offset, n.drift = n.offset%(200*time.Millisecond), 0
			if !n.up {
				n.restart()
			}
			for _, m := range n.replicas {
				m.behindUntil = 0
				m.catchUpSoon()
			}
		}
	}
	for _, s := range sites {
		for _, o := range sites {
			if s != o {
				w.between(s, o).heal()
			}
		}
	}
	for _, s := range sites {
		for _, o := range sites {
			if s != o {
				w.after(w.between1to5ms(), func() { w.reconnected(s, o) })
			}
		}
	}
}

// await runs until regions have applied all that any of them has issued.
func (w *World) await(sites []*site, within time.Duration, invariant string) {
	const look = 250 * time.Millisecond
	began := w.now
	for w.failure == nil {
		w.run(w.now + look)
		behind := w.behind(sites)
		switch {
		case w.failure != nil:
		case behind == "":
			w.counts.Converged += w.now - began
			return
		case w.now-began >= within:
			w.fail(invariant, "after %v %s", within, behind)
		}
	}
}

// behind says who has not applied what of whom; "" if all have everything.
func (w *World) behind(sites []*site) string {
	if w.council != nil {
		return w.council.behind(sites)
	}
	for _, s := range sites {
		for _, g := range s.groups {
			if text := g.busy(); text != "" {
				return text
			}
			for _, o := range sites {
				if text := g.lacks(o.author(), uint64(len(*w.ledger.history(o, g.id)))); text != "" {
					return text
				}
			}
		}
	}
	if w.plan.Relay {
		return w.unshared(sites)
	}
	return ""
}

// unshared says which of the regions has not applied what another one has of a region that is away; "" if none. One that
// was restored answers that it has nothing, and is believed until it is given up, which no world does.
func (w *World) unshared(sites []*site) string {
	for _, s := range sites {
		for _, o := range sites {
			for _, g := range s.groups {
				for _, away := range w.sites {
					mine, theirs := g.books.have[away.index], o.groups[g.id].books.have[away.index]
					if mine < theirs && away != s && !away.restored {
						return fmt.Sprintf("%v has applied %d of %v, %v %d", s, mine, away, o, theirs)
					}
				}
			}
		}
	}
	return ""
}

// busy says why it cannot be told yet what a group has; "" if it can.
func (g *group) busy() string {
	switch {
	case g.leader == nil:
		return fmt.Sprintf("partition %d of %v has no leader", g.id, g.site)
	case len(g.queue) > 0 || g.flying != nil:
		return fmt.Sprintf("%v still writes", g.site)
	}
	return ""
}

// lacks says what a group has not applied of an author's first events; "" if nothing.
func (g *group) lacks(author int, want uint64) string {
	w, have := g.site.w, g.books.have[author]
	if have >= want {
		return ""
	}
	text := fmt.Sprintf("%v has applied %d of %d of %v", g.site, have, want, &w.authors[author])
	if g.session == nil {
		return text
	}
	for _, f := range g.session.flows {
		if f != nil && f.author == author {
			flow := protocol.Flow{}
			f.recv.Flow(&flow, w.time())
			text += fmt.Sprintf(" (%+v)", flow)
		}
	}
	return text
}

// settle runs until nothing is left over of what was deleted, shipped and awaited.
func (w *World) settle() {
	const look = 5 * time.Second
	began := w.now
	for w.failure == nil {
		w.run(w.now + look)
		left := w.leftovers()
		if left == "" && w.failure == nil {
			left = w.behind(w.sites)
		}
		switch {
		case left == "" || w.failure != nil:
			return
		case w.now-began >= garbageGoes:
			w.fail("nothing is left over", "after %v %s", garbageGoes, left)
		}
	}
}

// passing are the tables of a replica that are empty once everything has arrived, and every region was heard of.
var passing = map[byte]string{
	'R': "removals of what has not arrived", 'D': "clears of what has not arrived", 'G': "elements of what is cleared",
	'X': "what expires", 'V': "what others have yet to expire", 'Y': "what was deleted", 'A': "events seen ahead",
	'U': "resets not settled", 'L': "the outbox",
}

// leftovers says what is left over, "" if nothing is.
func (w *World) leftovers() string {
	for _, s := range w.sites {
		if !s.in() {
			continue
		}
		for _, g := range s.groups {
			left := ""
			err := g.leader.disk.View(func(kv replica.KV) error {
				return kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
					if what, ok := passing[k[0]]; ok && !(g.books.orphaned() && outlasting[k[0]]) {
						left = fmt.Sprintf("%v keeps, of %s, %q", s, what, k)
					}
					return left == "", nil
				})
			})
			if err != nil || left != "" {
				return left
			}
		}
	}
	return ""
}

// noticeable reports whether others have events of a restored region that it has lost.
func (w *World) noticeable() bool {
	for _, s := range w.sites {
		for _, g := range s.groups {
			if s.restored && g.books.have[s.index] < g.maxElsewhere() {
				return true
			}
		}
	}
	return false
}

// maxElsewhere is the most that other regions have of this region's events.
func (g *group) maxElsewhere() uint64 {
	most := uint64(0)
	for _, o := range g.site.w.others(g.site) {
		most = max(most, o.groups[g.id].books.have[g.site.index])
	}
	return most
}

// awaitNotice runs until a region that has lost events was found out.
func (w *World) awaitNotice() {
	const within = 60 * time.Second
	began := w.now
	for w.failure == nil && w.counts.Noticed == 0 {
		w.run(w.now + time.Second)
		if w.now-began >= within {
			w.fail("a region that lost events is noticed", "not within %v", within)
		}
	}
}

// finish compares all values with the specification.
func (w *World) finish() {
	if w.council != nil && w.failure == nil {
		w.council.countGivenUp()
	}
	for _, s := range w.sites {
		for _, g := range s.groups {
			if w.failure != nil {
				return
			}
			if s.restored || !s.in() || !g.books.closed() {
				continue
			}
			ids := sortedIDs(w.ledger.values[g.id])
			g.checkValues(g.leader, ids, onceSpecified)
			g.checkHomes(g.leader)
		}
	}
	for _, s := range w.sites {
		for _, g := range s.groups {
			w.mix(g.prints[max(0, len(g.prints)-1):]...)
			if g.session != nil {
				g.session.count()
			}
		}
	}
}
