package world

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/spec"
	"github.com/atolldb/atoll/region"
)

// joins reports whether a request brings what other regions have.
func (r *request) joins() bool { return r.merge != nil || r.command.GetResync() != nil }

// insisted enters that a home wrote again what there is, because something came too late.
func (g *group) insisted(f *fresh, entry *entry, results []region.StepResult) {
	w, b := g.site.w, g.home()
	for d := f.first(); d != nil && len(d.Effects) == 1 && atHome(d.Effects[0].Key) && !entry.asked(d, results); d = f.first() {
		f.take()
		e := &d.Effects[0]
		change, ok := e.Change.(*replica.RegisterChange)
		if !ok || change.Home == 0 {
			w.fail("every event has a reason", "%v changes %q", d.Dot, e.Key)
			return
		}
		w.counts.HomeLate++
		w.say("%v writes %q of partition %d again: something came too late", g.site, e.Key, g.id)
		op := operation{id: valueID{e.Key, "", crdt.TypeLWWRegister}, Op: replica.Op{Key: e.Key}}
		op.event = spec.Event{Of: crdt.TypeLWWRegister, Names: []string{""}, Values: []string{string(change.Value)}}
		if change.Deleted {
			op.event = spec.Event{Of: crdt.TypeLWWRegister, Clears: true}
		}
		g.means(&op, d, replica.Outcome{})
		if b.givenUp(g.site.author(), d.Dot.Seq) {
			continue
		}
		if c := b.copyOf(e.Key); c.known && text(c.now) != text(&op.event) {
			w.fail("a home insists on what there is", "%v writes %q of %q again, it is %q", g.site, text(&op.event), e.Key, text(c.now))
			return
		}
		g.extend(e.Key, d)
	}
}

// asked reports whether an event is what one of an entry's writes did.
func (e *entry) asked(d *replica.Delta, results []region.StepResult) bool {
	for i := range results {
		if slices.ContainsFunc(results[i].Outcomes, func(o replica.Outcome) bool { return names(d, o.Version) }) {
			return true
		}
	}
	return false
}

// refusedAtHome checks why a write of what has a home was refused.
func (g *group) refusedAtHome(r *request, err error) {
	w := g.site.w
	if !w.plan.Homes || len(r.ops) == 0 || !atHome(r.ops[0].Key) {
		return
	}
	var condition *replica.ConditionError
	var elsewhere *region.NotHomeError
	switch {
	case errors.As(err, &elsewhere):
		w.counts.HomeRefused++
	case errors.As(err, &condition):
		w.counts.HomeConditions++
		b := g.home()
		if !r.command.GetWrite().GetHome() || g.doomed() || b.current == 0 {
			return // where it is not known that there is a home
		}
		known := g.learn(r.ops[0].Key, crdt.Dot{})
		if now := b.copyOf(r.ops[0].Key).now; known && meets(&r.ops[0].Condition, now) {
			w.fail("conditions hold for all regions", "%v refuses what is under %+v, and %q of %q is there", g.site, r.ops[0].Condition, text(now), r.ops[0].Key)
		}
	case !errors.Is(err, region.ErrFenced):
		w.fail("a home takes writes", "%v: %v", g.site, err)
	}
}

// readHome reads at a region, if that says that it is the home.
func (g *group) readHome() {
	w := g.site.w
	if g.leader == nil {
		w.counts.Unavailable++
		return
	}
	err := g.leader.machine.Read(func(r *replica.Replica) error {
		return g.leader.steps.Partition().AtHome(r, homeNamespace, g.site.isFirstHome())
	})
	var elsewhere *region.NotHomeError
	switch {
	case errors.As(err, &elsewhere):
		w.counts.HomeRefused++
	case errors.Is(err, region.ErrFenced):
		w.counts.Unavailable++
	case err != nil:
		w.fail("a home can be read", "%v: %v", g.site, err)
	default:
		w.counts.HomeReads++
		if b := g.home(); b.current > 0 && !g.doomed() {
			g.checkCopies(g.leader, "a home reads what there is")
		}
	}
}

// checkHomes checks that a region has, in the end, what there is.
func (g *group) checkHomes(m *member) {
	if b := g.home(); b.current > 0 && g.site.w.failure == nil {
		g.checkCopies(m, "what homes acknowledged is everywhere in the end")
	}
}

func (g *group) checkCopies(m *member, invariant string) {
	w := g.site.w
	err := m.machine.Read(func(r *replica.Replica) error {
		for i := range homeKeys {
			id := valueID{fmt.Sprint(homed, i), "", crdt.TypeLWWRegister}
			c := g.home().copyOf(id.key)
			got, err := valueText(r, id)
			if err != nil {
				return err
			}
			if g.learn(id.key, crdt.Dot{}) && got != text(c.now) {
				w.fail(invariant, "%v has %q of %q in partition %d, it is %q", g.site, got, id.key, g.id, text(c.now))
			}
		}
		return nil
	})
	if err != nil {
		w.fail("values can be read", "%v: %v", g.site, err)
	}
}
