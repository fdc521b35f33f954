package world

import (
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/spec"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// ledger is what truly happened, as the world knows it. Nothing in it comes from the code that is tested but
// which operations had an effect, and which deltas they made.
type ledger struct {
	// events are by author and partition, and there by number less one.
	events [][]history
	// values are what was done to each value, by partition.
	values []map[valueID]*value
	// ops are the writes with an id that had an effect, by their ids.
	ops map[string]opEffect
	// homes are those of the namespace that has one, by partition.
	homes []*homeBook
}

type history []written

// written is one event.
type written struct {
	hash uint64
	time hlc.Time
	seen []uint64 // by author
	ids  []valueID
}

// valueID names a value.
type valueID struct {
	key  string
	path string // encoded
	of   crdt.Type
}

type value struct {
	events spec.History
	// vague says that it was written in a region that had taken over a part of another one's state: what the write had
	// seen of it is more than the region's vector says, and the specification knows no such writes.
	vague bool
}

// opEffect is the first event of a write.
type opEffect struct {
	author int
	seq    uint64
}

// books are what the world knows of one region's state of a partition.
type books struct {
	// have is how far each region's events are applied, need how far those had applied that were applied
	// here: the cut is closed if it is not beyond have.
	have, need []uint64
	// ever is the most that have ever was.
	ever []uint64
	// newest is the latest instant of an event applied.
	newest hlc.Time
	// trimmed is how far the outbox was trimmed.
	trimmed uint64
	// facts is the membership epoch that the partition has taken in; waits are the authors that its outbox has waited for,
	// and floor how far it was trimmed before it did.
	facts uint64
	waits []bool
	floor []uint64
	// digest is that of the values at the vector digestAt.
	digest   replica.Digest
	digestAt []uint64
}

// mergeOf is what a merge is of.
type mergeOf struct {
	author  int
	records []protocol.Record
}

func newBooks(authors int) books {
	return books{
		have: make([]uint64, authors), need: make([]uint64, authors), ever: make([]uint64, authors),
		waits: make([]bool, authors), floor: make([]uint64, authors),
	}
}

func newLedger(p *Plan) *ledger {
	l := &ledger{ops: map[string]opEffect{}}
	for range p.Regions * p.lives() {
		l.events = append(l.events, make([]history, p.Partitions))
	}
	for range p.Partitions {
		l.values = append(l.values, map[valueID]*value{})
		l.homes = append(l.homes, newHomeBook(p.Regions*p.lives()))
	}
	return l
}

func (l *ledger) history(s *site, p topology.PartitionID) *history { return l.of(s.author(), p) }

func (l *ledger) of(author int, p topology.PartitionID) *history { return &l.events[author][p] }

// fresh are the events that an entry made, as far as they have no reason yet.
type fresh struct {
	g      *group
	deltas []replica.Delta
	hashes []uint64
	// facts is the membership epoch that was taken in by the end of the entry.
	facts uint64
}

// first returns the first of them, nil if there is none.
func (f *fresh) first() *replica.Delta {
	if len(f.deltas) == 0 {
		return nil
	}
	return &f.deltas[0]
}

// take enters the first of them.
func (f *fresh) take() *replica.Delta {
	d := &f.deltas[0]
	f.g.issue(d, f.hashes[0])
	f.deltas, f.hashes = f.deltas[1:], f.hashes[1:]
	return d
}

// enter enters into the books what an entry did that is applied for the first time.
func (m *member) enter(e *entry, results []region.StepResult) {
	g, w := m.group, m.group.site.w
	view, before := m.machine.View(), g.books.have[g.site.author()]
	was := g.resyncing
	g.resyncing = was || view.Resyncing()
	defer func() { g.resyncing = view.Resyncing() }()
	f, ok := m.freshEvents(view.Outbox.Head)
	if !ok {
		return
	}
	f.facts = view.Facts.Epoch
	var touched []valueID
	for i, r := range e.requests {
		g.homesChanged(r, results[i], f)
		switch {
		case r.merge != nil:
			touched = append(touched, g.merged(r.merge, results[i])...)
		case r.takesOver != nil:
			if results[i].Err == nil {
				touched = append(touched, g.tookOver(r.takesOver)...)
			}
		case r.ops != nil:
			g.wrote(r, results[i], f)
		default: // expiry, a tick, or nothing that makes events
			for f.first() != nil && forgets(f.first()) {
				f.take()
			}
		}
		if r.joins() {
			g.insisted(f, e, results)
		}
	}
	for f.first() != nil {
		if d := f.take(); !forgets(d) {
			w.fail("every event has a reason", "nobody asked for %v, which changes %s", d.Dot, d.Effects[0].Key)
		}
	}
	if w.failure == nil {
		for _, ev := range (*w.ledger.history(g.site, g.id))[before:] {
			touched = append(touched, ev.ids...)
		}
		g.check(m, e, view, touched)
	}
}

// freshEvents reads from the outbox what the last entry made, and checks how it is numbered.
func (m *member) freshEvents(head uint64) (*fresh, bool) {
	g, w := m.group, m.group.site.w
	from, f := g.books.have[g.site.author()]+1, &fresh{g: m.group}
	if head < from {
		return f, true
	}
	records, err := m.machine.ReadOutbox(from, 1<<30)
	if err != nil || uint64(len(records)) != head-from+1 {
		w.fail("what was written is in the outbox", "%d of %d to %d, %v", len(records), from, head, err)
		return nil, false
	}
	for i, r := range records {
		d, err := replica.DecodeDelta(r.Data)
		if err != nil || d.Dot != (crdt.Dot{Actor: g.site.actor, Seq: from + uint64(i)}) {
			w.fail("events are numbered", "number %d of %v is %v, %v", from+uint64(i), g.site, d.Dot, err)
			return nil, false
		}
		f.deltas, f.hashes = append(f.deltas, d), append(f.hashes, xxh3.Hash(r.Data))
	}
	return f, true
}

// issue enters a new event of this region.
func (g *group) issue(d *replica.Delta, hash uint64) {
	w, b, self := g.site.w, &g.books, g.site.author()
	g.checkMayIssue()
	events := w.ledger.history(g.site, g.id)
	if n := uint64(len(*events)); d.Dot.Seq <= n {
		w.fail("a dot names one event for ever", "%v names a second one", d.Dot)
		return
	}
	if d.Time <= b.newest {
		w.fail("an event's instant is after all that its author had seen", "%v is at %v, after %v", d.Dot, d.Time, b.newest)
	}
	b.newest = d.Time
	*events = append(*events, written{hash: hash, time: d.Time, seen: slices.Clone(b.have)})
	b.have[self] = d.Dot.Seq
	b.need[self] = max(b.need[self], d.Dot.Seq)
	b.ever[self] = max(b.ever[self], d.Dot.Seq)
	w.counts.Events++
	w.mix(hash)
}

// merged enters what a merge applied, and returns which values it touched.
func (g *group) merged(m *mergeOf, res region.StepResult) (touched []valueID) {
	w, b, o := g.site.w, &g.books, m.author
	origin := &w.authors[o]
	if res.Err != nil {
		w.counts.RefusedMerges++
		return nil
	}
	events := *w.ledger.of(o, g.id)
	for i := range m.records {
		r := &m.records[i]
		if w.council != nil && r.Seq > res.Applied {
			break // of a closed actor only what is up to its cut counts
		}
		switch first := r.Begin(); {
		case first > b.have[o]+1:
			w.fail("events are applied without a gap", "%v merged %d of %v behind %d", g.site, first, origin, b.have[o])
			return nil
		case r.Seq > uint64(len(events)):
			w.fail("no event is applied that nobody issued", "%v merged %d of %v, which issued %d", g.site, r.Seq, origin, len(events))
			return nil
		case !r.Several() && xxh3.Hash(r.Data) != events[r.Seq-1].hash:
			w.fail("a dot names one event for ever", "%v has another event %d of %v", g.site, r.Seq, origin)
			return nil
		}
		for ; b.have[o] < r.Seq; b.have[o]++ {
			touched = append(touched, g.took(origin, &events[b.have[o]])...)
		}
	}
	b.ever[o] = max(b.ever[o], b.have[o])
	if res.Applied != b.have[o] {
		w.fail("the watermark is what is applied", "%v says %d of %v, it is %d", g.site, res.Applied, origin, b.have[o])
	}
	return touched
}

// took enters one event of another region.
func (g *group) took(origin *author, e *written) []valueID {
	w, b := g.site.w, &g.books
	for i, n := range e.seen {
		b.need[i] = max(b.need[i], n)
	}
	if self := g.site.author(); e.seen[self] > b.have[self] {
		w.fail("nothing is merged from those who know more of a region than it does",
			"%v is at %d, and merged an event of %v that knows %d", g.site, b.have[self], origin, e.seen[self])
	}
	b.newest = max(b.newest, e.time)
	w.counts.Merged++
	return e.ids
}

// wrote enters what the operations of a write did.
func (g *group) wrote(r *request, res region.StepResult, f *fresh) {
	w := g.site.w
	if res.Err != nil {
		g.refusedAtHome(r, res.Err)
	}
	if res.Err != nil || res.Repeated {
		return
	}
	w.counts.Operations += uint64(len(r.ops))
	effect, was := false, g.books.have[g.site.author()]
	for i := range r.ops {
		op, out := &r.ops[i], res.Outcomes[i]
		for f.first() != nil && forgets(f.first()) && !names(f.first(), out.Version) {
			f.take() // what has expired was taken away first
		}
		switch {
		case f.first() != nil && names(f.first(), out.Version) && concerns(f.first(), op):
			d := f.take()
			g.means(op, d, out)
			g.wroteAtHome(op, d, out)
			effect = true
		case op.Kind == replica.OpCounterAdd && g.addedTogether(op, out.Version):
			effect = true
		}
	}
	if effect && r.opID != "" {
		g.hadEffect(r.opID, was+1)
	}
}

// hadEffect enters that a write with an id had its effect, from some event on. What was given up with a region can be done again.
func (g *group) hadEffect(opID string, seq uint64) {
	w := g.site.w
	before, twice := w.ledger.ops[opID]
	b := w.ledger.homes[g.id]
	if b.givenUp(g.site.author(), seq) {
		return
	}
	if twice && !b.givenUp(before.author, before.seq) {
		w.fail("an operation with an id has its effect once", "%s", opID)
	}
	w.ledger.ops[opID] = opEffect{g.site.author(), seq}
}
