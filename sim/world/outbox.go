package world

import (
	"slices"

	"github.com/zeebo/xxh3"

	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// keepOutbox has the outbox trimmed, folded, and regions evicted that lack more than its quota, until there is nothing
// more to do at once.
func (g *group) keepOutbox() {
	for g.session != nil && !g.session.keeping {
		command, more, err := g.leader.steps.KeepOutbox(g.session.folder)
		if err != nil {
			g.site.w.fail("outboxes can be looked after", "%v", err)
			return
		}
		if command != nil {
			g.session.keepWith(command)
		} else if !more {
			return
		}
	}
}

// keepWith has a command of the outbox's upkeep committed, and looks for the next one.
func (s *session) keepWith(command *logv1.Command) {
	w, g, fold := s.g.site.w, s.g, command.GetOutboxFold() != nil
	if command.GetDestination().GetEvict() != nil {
		w.counts.Evictions++
		w.say("%v evicts region %d from the outbox of partition %d", g.site, command.GetDestination().GetRegion(), g.id)
	}
	s.keeping = true
	g.propose(&request{command: command, keeps: true, done: func(v verdict, r region.StepResult) {
		if s.keeping = false; s.ended {
			return
		}
		if v != done {
			r.Err = errOutcomeUnknown
		}
		if fold {
			s.folder.Done(r.Err)
		}
		if r.Err != nil {
			return // and looks again in a second
		}
		if fold {
			w.counts.Folds++
			w.mention("%v folds a part of the outbox of partition %d", g.site, g.id)
		}
		g.keepOutbox()
	}})
}

// checkKept checks that an outbox has every event that it should, once: by itself, or in a run.
func (g *group) checkKept(m *member, view *region.MachineView) {
	w, box := g.site.w, view.Outbox
	records, err := m.machine.ReadOutbox(box.First, 1<<30)
	if err != nil {
		w.fail("what was written is in the outbox", "%v", err)
		return
	}
	events, next := *w.ledger.history(g.site, g.id), box.First
	for i := range records {
		r := &records[i]
		alone := r.First == r.Seq
		if r.First != next || r.Seq > uint64(len(events)) || alone && xxh3.Hash(r.Data) != events[r.Seq-1].hash {
			w.fail("what was written is in the outbox", "%d to %d of %v are where %d should be", r.First, r.Seq, g.site, next)
			return
		}
		next = r.Seq + 1
	}
	if next != box.Head+1 {
		w.fail("what was written is in the outbox", "it ends at %d, not at %d", next-1, box.Head)
	}
}

// keeps reports whether an entry has something of the outbox's upkeep.
func (e *entry) keeps() bool {
	return slices.ContainsFunc(e.requests, func(r *request) bool { return r.keeps })
}
