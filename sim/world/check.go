package world

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
)

// check holds what a region has after an entry against the books. It is called by whoever applies the entry
// first.
func (g *group) check(m *member, e *entry, view *region.MachineView, touched []valueID) {
	w, b := g.site.w, &g.books
	for i := range w.authors {
		if a := &w.authors[i]; view.Vector.Get(a.actor) != b.have[i] {
			w.fail("the vector covers what is applied", "%v has %d of %v, its vector says %d", g.site, b.have[i], a, view.Vector.Get(a.actor))
		}
	}
	g.checkFacts(view)
	g.checkClosed()
	if !g.site.in() {
		return
	}
	g.checkOutbox(view)
	if e.keeps() {
		g.checkKept(m, view)
	}
	if w.failure != nil {
		return
	}
	if view.Resyncing() {
		return
	}
	g.checkDigest(m, e)
	if w.failure == nil && len(touched) > 0 && w.trace%8 == 0 {
		g.checkValues(m, touched, oftenSpecified)
	}
}

// checkOutbox checks that nothing is trimmed, or counted as applied, that some region has not applied.
func (g *group) checkOutbox(view *region.MachineView) {
	w, b, self := g.site.w, &g.books, g.site.author()
	box := view.Outbox
	trimmed := box.First - 1
	if box.Head != b.have[self] || trimmed < b.trimmed || trimmed > box.Head {
		w.fail("the outbox keeps what is not applied everywhere", "it is %+v after %+v", box, b.trimmed)
	}
	b.trimmed = trimmed
	w.peak.entries, w.peak.bytes = max(w.peak.entries, box.Head-trimmed), max(w.peak.bytes, box.Bytes)
	for _, a := range g.awaited() {
		o := &w.authors[a]
		evicted := func(e region.Eviction) bool { return e.Region == o.site.id }
		ever := w.ever(a, g.id, self)
		if trimmed > max(ever, b.floor[a]) && !slices.ContainsFunc(view.Evictions, evicted) {
			w.fail("the outbox keeps what is not applied everywhere", "%v trimmed up to %d, %v has applied %d", g.site, trimmed, o, ever)
		}
		for _, m := range view.Watermarks {
			if m.Region == o.site.id && (m.Actor != g.site.actor || m.Seq > ever) {
				w.fail("a watermark is not beyond what is applied", "%v counts %d as applied in %v, it is %d", g.site, m.Seq, o, ever)
			}
		}
	}
}

// checkDigest compares digests with every region that has applied the same, and with the one from before
// where nothing was applied.
func (g *group) checkDigest(m *member, e *entry) {
	w, b := g.site.w, &g.books
	same := slices.Equal(b.digestAt, b.have)
	if same && !e.collects() {
		return
	}
	var twin *group
	for _, o := range w.others(g.site) {
		if t := o.groups[g.id]; o.in() && slices.Equal(t.books.have, b.have) && slices.Equal(t.books.digestAt, b.have) {
			twin = t
		}
	}
	var d replica.Digest
	err := m.machine.Read(func(r *replica.Replica) (err error) {
		d, err = r.Digest()
		return err
	})
	w.counts.Digests++
	if err != nil {
		w.fail("values can be read", "%v: %v", g.site, err)
		return
	}
	if same && d != b.digest && !g.alone() {
		w.fail("collecting garbage changes no value", "%v at %v", g.site, b.have)
	}
	if twin != nil && twin.books.digest != d {
		w.fail("equal vectors mean equal values", "%v and %v at %v: %s", g.site, twin.site, b.have, g.difference(twin))
	}
	b.digest, b.digestAt = d, append(b.digestAt[:0], b.have...)
}

// collects reports whether an entry may have removed garbage.
func (e *entry) collects() bool {
	return slices.ContainsFunc(e.requests, func(r *request) bool { return r.expires })
}

// closed reports whether everything was applied that those had applied whose events were.
func (b *books) closed() bool {
	for i := range b.have {
		if b.need[i] > b.have[i] {
			return false
		}
	}
	return true
}

// The specification takes time with the square of the number of events: values with more are left out.
const (
	oftenSpecified = 300
	onceSpecified  = 4000
)

// checkValues holds values of so many events at most against the specification, which says what they are where
// nothing is applied ahead of what its author had applied.
func (g *group) checkValues(m *member, ids []valueID, most int) {
	w, b := g.site.w, &g.books
	if !b.closed() {
		return
	}
	err := m.machine.Read(func(r *replica.Replica) error {
		for _, id := range ids {
			v := w.ledger.values[g.id][id]
			if v == nil || v.vague { // one that expires, or was written in the middle of a transfer
				continue
			}
			if len(v.events) > most && !v.onlyAdds() {
				continue
			}
			got, err := valueText(r, id)
			if err != nil {
				return err
			}
			w.counts.Compared++
			if want := v.at(w, b.have); got != want {
				w.fail("values are as specified", "%v of %q in %v at %v is %q, should be %q", id.of, id.key+id.path, g.site, b.have, got, want)
				return nil
			}
		}
		return nil
	})
	if err != nil {
		w.fail("values can be read", "%v: %v", g.site, err)
	}
}

// difference names the values in which two regions differ.
func (g *group) difference(o *group) string {
	mine, err := g.dump()
	theirs, err2 := o.dump()
	if err != nil || err2 != nil {
		return fmt.Sprint(err, err2)
	}
	for _, id := range sortedIDs(g.site.w.ledger.values[g.id]) {
		if a, b := mine[id], theirs[id]; a != b {
			return fmt.Sprintf("%v of %q is %q, and %q", id.of, id.key+id.path, a, b)
		}
	}
	return "in no value that readers see"
}

func (g *group) dump() (map[valueID]string, error) {
	values := map[valueID]string{}
	err := g.read(func(r *replica.Replica) (err error) {
		for id := range g.site.w.ledger.values[g.id] {
			if values[id], err = valueText(r, id); err != nil {
				return err
			}
		}
		return nil
	})
	return values, err
}
