package world

import (
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/spec"
	"github.com/atolldb/atoll/region"
)

// homeBook is what there would be of a partition's namespace with a home if there were a single copy: one region writes at a time,
// each write sees all before it, and what was given up with a region never was.
type homeBook struct {
	// reigns are the homes by their epochs; current is the highest of these, 0 if there is none.
	reigns  map[uint64]reign
	current uint64
	copies  map[string]*oneCopy
	// reach is how far each author's events are ones that any later home must have.
	reach []uint64
	// cuts are the lowest at which authors were ever closed: what lies beyond never counts again.
	cuts []*uint64
}

// reign is a home under one epoch, and the event that made it that.
type reign struct {
	home *site
	by   opEffect
}

// oneCopy is a key.
type oneCopy struct {
	// chain are the writes that homes acknowledged.
	chain []homeLink
	// now is what there is, nil if the key was never written. It is not known before a home has said so.
	now   *spec.Event
	known bool
}

// homeLink is a write in a chain.
type homeLink struct {
	*spec.Event
	by opEffect
}

func newHomeBook(authors int) *homeBook {
	return &homeBook{
		reigns: map[uint64]reign{}, copies: map[string]*oneCopy{}, reach: make([]uint64, authors), cuts: make([]*uint64, authors),
	}
}

func (b *homeBook) copyOf(key string) *oneCopy {
	c := b.copies[key]
	if c == nil {
		c = &oneCopy{}
		b.copies[key] = c
	}
	return c
}

// givenUp reports whether an author's event lies beyond where the author was closed.
func (b *homeBook) givenUp(author int, seq uint64) bool {
	return b.cuts[author] != nil && seq > *b.cuts[author]
}

// doomed reports whether nothing that a group does now counts any more: its region is closed, and does not know yet.
func (g *group) doomed() bool { return g.home().cuts[g.site.author()] != nil }

func (g *group) home() *homeBook { return g.site.w.ledger.homes[g.id] }

// present reports whether a key has a value.
func present(e *spec.Event) bool { return e != nil && !e.Clears }

func versionOf(e *spec.Event) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("%016x%08x", e.Time, e.Actor)
}

func text(e *spec.Event) string {
	if !present(e) {
		return ""
	}
	return "=" + e.Values[0]
}

// rankOf is the epoch of the home that an event was made under, 0 if none.
func rankOf(d *replica.Delta) uint64 {
	if len(d.Effects) > 0 {
		if change, ok := d.Effects[0].Change.(*replica.RegisterChange); ok {
			return change.Home
		}
	}
	return 0
}

// closeHomes forgets what is given up with an author.
func (w *World) closeHomes(author int, cut []uint64) {
	for p, b := range w.ledger.homes {
		if b.cuts[author] == nil || *b.cuts[author] > cut[p] {
			b.cuts[author] = &cut[p]
		}
		most := *b.cuts[author]
		b.reach[author] = min(b.reach[author], most)
		lost := b.current > 0 && b.reigns[b.current].home == w.authors[author].site
		maps.DeleteFunc(b.reigns, func(_ uint64, r reign) bool { return r.by.author == author && r.by.seq > most })
		b.current = 0
		for epoch := range b.reigns {
			b.current = max(b.current, epoch)
		}
		for _, c := range b.copies {
			n := len(c.chain)
			c.chain = slices.DeleteFunc(c.chain, func(l homeLink) bool { return l.by.author == author && l.by.seq > most })
			w.counts.HomeGivenUp += uint64(n - len(c.chain))
			if len(c.chain) > 0 {
				c.now = c.chain[len(c.chain)-1].Event
			} else if lost || n > 0 {
				c.known = false
			}
		}
	}
}

// homesChanged enters that a request made regions homes.
func (g *group) homesChanged(r *request, res region.StepResult, f *fresh) {
	to, epoch := g.site, uint64(0)
	if c := r.command.GetHome(); c != nil {
		if res.Err != nil {
			return // the change may be that of a later request of the entry
		}
		to, epoch = g.site.w.sites[c.GetRegion()-1], c.GetEpoch()
	} else if r.command.GetWrite().GetFirstHome() {
		epoch = firstReign // which it is from the first write on
	}
	d := f.first()
	if d != nil && len(d.Effects) == 1 && d.Effects[0].Namespace == replica.HomeNamespace && rankOf(d) == epoch {
		g.enthrone(f.take(), to, f.facts)
	}
}

// enthrone enters that a region is a home from now on.
func (g *group) enthrone(d *replica.Delta, to *site, facts uint64) {
	w, b, author := g.site.w, g.home(), g.site.author()
	epoch, before := rankOf(d), b.reigns[b.current].home
	if b.givenUp(author, d.Dot.Seq) {
		return
	}
	w.say("%v makes %v the home of partition %d, under epoch %x", g.site, to, g.id, epoch)
	takes := epoch%firstReign == 0 && epoch > firstReign
	if takes {
		w.counts.HomeTakes++
		g.checkTakes(facts)
	} else if before != nil {
		w.counts.HomeMoves++
		if c := w.council; c != nil && !c.mayHold(facts, to) && !c.mayHold(g.books.facts, to) {
			w.fail("homes move to regions that take writes", "%v makes %v the home, which it knows takes none", g.site, to)
		}
		if before != g.site {
			w.fail("only the home moves itself", "%v makes %v the home, which %v is", g.site, to, before)
		}
	}
	if epoch <= b.current {
		w.fail("each home has an epoch of its own", "%v becomes the home under %x, after %x", to, epoch, b.current)
	}
	g.checkReach(d)
	b.reigns[epoch], b.current = reign{to, opEffect{author, d.Dot.Seq}}, epoch
	b.reach[author] = d.Dot.Seq
	for i := range homeKeys {
		if c := b.copyOf(fmt.Sprint(homed, i)); len(c.chain) == 0 && (takes || before == nil) {
			c.known = false
			g.learn(fmt.Sprint(homed, i), crdt.Dot{})
		}
	}
}

// firstReign is the first epoch of a home that was not moved to, and what one that is taken over is a multiple of.
const firstReign = 1 << 32

// mayHold reports whether a region takes writes, to who has taken in a state of the membership, or none yet.
func (c *council) mayHold(facts uint64, s *site) bool {
	return facts == 0 || c.states[facts].Writing().Has(s.id)
}

// checkTakes checks that who takes a home over is alone, as far as it had heard before or after the entry, and has all that is
// closed.
func (g *group) checkTakes(facts uint64) {
	w := g.site.w
	if w.council == nil {
		w.fail(takenOverFromClosed, "%v takes one over, and no region can be", g.site)
		return
	}
	if others := g.notClosed(facts); others != nil && g.notClosed(g.books.facts) != nil {
		w.fail(takenOverFromClosed, "%v takes one over, and %v is not at its cut everywhere", g.site, others)
	}
}

const takenOverFromClosed = "homes are taken over from regions that are closed"

// notClosed returns an actor other than a group's own that is not released in a state of the membership, or that the group
// lacks something of; nil if there is none.
func (g *group) notClosed(facts uint64) *author {
	w := g.site.w
	st := w.council.states[facts]
	for i := range w.authors {
		a := w.authors[i].in(st)
		if a != nil && i != g.site.author() && (!a.Released || g.books.have[i] < a.Cut[g.id]) {
			return &w.authors[i]
		}
	}
	return nil
}

// checkReach checks that who acts as home has all that homes before it acknowledged.
func (g *group) checkReach(d *replica.Delta) {
	w, b := g.site.w, g.home()
	seen := (*w.ledger.history(g.site, g.id))[d.Dot.Seq-1].seen
	for i, need := range b.reach {
		if seen[i] < need {
			w.fail("a home has all that homes before it acknowledged", "%v acts as one with %d of %d of %v", g.site, seen[i], need, &w.authors[i])
			return
		}
	}
}

// learn takes what a home has of a key that no home has written for what there is, but for one event. It reports whether that
// is known now: of a home that is taking over a state it is not, for it may have more of the key than it can tell.
func (g *group) learn(key string, but crdt.Dot) bool {
	c := g.home().copyOf(key)
	if !c.known && g.resyncing {
		return false
	}
	if !c.known {
		c.now, c.known = g.plain(key, but), true
	}
	return true
}

// plain is what was written last to a key, of what a group has, but for one event.
func (g *group) plain(key string, but crdt.Dot) *spec.Event {
	v := g.site.w.ledger.values[g.id][valueID{key, "", crdt.TypeLWWRegister}]
	if v == nil {
		return nil
	}
	return v.last(g.site.w, g.books.have, but)
}

// wroteAtHome enters a write of a namespace that has a home, if a home did it.
func (g *group) wroteAtHome(op *operation, d *replica.Delta, out replica.Outcome) {
	if !atHome(op.Key) {
		return
	}
	w, b := g.site.w, g.home()
	if rankOf(d) == 0 {
		if r, ok := b.reigns[b.current]; ok && g.books.have[r.by.author] >= r.by.seq {
			w.fail("who knows of a home leaves writes to it", "%v writes %q", g.site, op.Key)
		}
		return
	}
	w.counts.HomeWrites++
	if b.givenUp(g.site.author(), d.Dot.Seq) {
		w.counts.HomeGivenUp++
		return
	}
	known, now := g.learn(op.Key, d.Dot), b.copyOf(op.Key).now
	if known && !meets(&op.Condition, now) {
		w.fail("conditions hold for all regions", "%v did what is under %+v, and %q of %q is there", g.site, op.Condition, text(now), op.Key)
	}
	if known && out.Existed != present(now) {
		w.fail("conditions hold for all regions", "%v says that %q was there: %v; %q was", g.site, op.Key, out.Existed, text(now))
	}
	g.extend(op.Key, d)
}

// meets reports whether a condition holds.
func meets(c *replica.Condition, now *spec.Event) bool {
	switch c.Kind {
	case replica.CondAbsent:
		return !present(now)
	case replica.CondPresent:
		return present(now)
	case replica.CondVersion:
		return present(now) && versionOf(now) == c.Version
	case replica.CondValue:
		return present(now) && now.Values[0] == string(c.Value)
	}
	return true
}

// extend makes an event the end of a key's chain.
func (g *group) extend(key string, d *replica.Delta) {
	w, b, author := g.site.w, g.home(), g.site.author()
	if r, ok := b.reigns[b.current]; !ok || rankOf(d) != b.current || r.home != g.site {
		w.fail("one region writes under an epoch", "%v writes under %x, it is %x of %v", g.site, rankOf(d), b.current, r.home)
		return
	}
	g.checkReach(d)
	b.reach[author] = d.Dot.Seq
	v := w.ledger.values[g.id][valueID{key, "", crdt.TypeLWWRegister}]
	if v == nil || len(v.events) == 0 || v.events[len(v.events)-1].Seq != d.Dot.Seq {
		w.fail("every event has a reason", "%v changes %q", d.Dot, key)
		return
	}
	c := b.copyOf(key)
	c.now, c.known = v.events[len(v.events)-1], true
	c.chain = append(c.chain, homeLink{c.now, opEffect{author, d.Dot.Seq}})
}
