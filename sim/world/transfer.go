package world

import (
	"errors"
	"slices"
	"time"

	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/crossregion/protocol"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// takingOver drives the resyncer of one leader, as package crossregion does.
type takingOver struct {
	core *protocol.Resyncer
	busy bool
	// donations are this leader's views for others; opening says that one is being opened.
	donations protocol.Donations
	opening   bool
}

// donors returns from whom the partition has to take over a state.
func (s *session) donors() []topology.RegionID {
	var donors []topology.RegionID
	view := s.g.leader.machine.View()
	lacks := view.Facts.Lacks(view.Vector, view.Ahead) // nobody ships it any more
	for _, f := range s.flows {
		if f == nil {
			continue
		}
		if lacks && !s.g.site.givenUp(f.origin) && !slices.Contains(donors, f.origin.id) {
			donors = append(donors, f.origin.id)
		}
		for _, d := range f.recv.Donors(f.origin.id, s.g.site.w.time()) {
			if !slices.Contains(donors, d) {
				donors = append(donors, d)
			}
		}
	}
	return donors
}

// driveTransfer does what the resyncer asks for.
func (s *session) driveTransfer() time.Time {
	w, t := s.g.site.w, &s.taking
	if t.busy {
		return time.Time{}
	}
	donors := s.donors()
	t.core.Want(donors)
	t.core.Is(partitions.Transfer(s.g.partition()))
	switch a := t.core.Action(w.time()); a.Kind {
	case protocol.ResyncAsk:
		t.busy = true
		s.askState(a)
	case protocol.ResyncCompare:
		same, err := partitions.Same(s.g.partition(), a.Ranges)
		t.core.Compared(a.Ranges, same, err, w.time())
		s.g.touch()
	case protocol.ResyncStep:
		t.busy = true
		s.stepTransfer(a.Step)
	default:
		return a.Until
	}
	return time.Time{}
}

// askState asks a donor over the links.
func (s *session) askState(a protocol.ResyncAction) {
	w, donor := s.g.site.w, s.g.site.w.sites[a.Donor-1]
	a.Request.Nonce = w.rng.Uint64()
	answered := false
	finish := func(res protocol.ResyncResponse, err error) {
		if answered || s.ended {
			return
		}
		answered, s.taking.busy = true, false
		s.taking.core.Answered(a.Donor, res, err, w.time())
		s.g.touch()
	}
	request, err := s.g.site.keys.EncodeResyncRequest(s.g.id, a.Donor, a.Request)
	if err != nil {
		w.fail("requests can be sent", "%v", err)
		return
	}
	s.later(w.tuning.FetchTimeout, func() { finish(protocol.ResyncResponse{}, errUnkind) })
	w.between(s.g.site, donor).send(request, func(request []byte) {
		donor.groups[s.g.id].donate(s.g.site, request, func(response []byte) {
			finish(s.g.site.keys.DecodeResyncResponse(a.Donor, a.Request, response))
		})
	})
}

// stepTransfer has a step committed.
func (s *session) stepTransfer(step protocol.TransferStep) {
	w, t := s.g.site.w, &s.taking
	finish := func(err error) {
		if s.ended {
			return
		}
		t.busy = false
		t.core.Stepped(step, partitions.Transfer(s.g.partition()), partitions.StepError(err), w.time())
		if err == nil && step.Kind == protocol.StepEnd {
			w.counts.Transfers++
			if s.g.site.mayWrite() != nil {
				w.counts.JoinTransfers++
			}
			w.say("%v has taken over the state of partition %d", s.g.site, s.g.id)
			for _, f := range s.flows {
				if f != nil {
					f.recv.TookOver(s.g.applied(f.actor), w.time())
					f.report.Note(s.g.id, f.recv.Applied(), w.time())
				}
			}
		}
		s.g.touch()
	}
	r := &request{done: func(v verdict, r region.StepResult) {
		if v != done {
			r.Err = errOutcomeUnknown
		}
		finish(r.Err)
	}}
	if under := s.g.leader.machine.View().Resync; under != nil && step.Kind == protocol.StepEnd {
		for i := range w.authors {
			r.takesOver = append(r.takesOver, under.Vector.Get(w.authors[i].actor))
		}
	}
	var err error
	if r.command, err = s.g.leader.stepCommand(step); err != nil {
		finish(err)
		return
	}
	s.g.propose(r)
}

func (m *member) stepCommand(step protocol.TransferStep) (*logv1.Command, error) {
	switch step.Kind {
	case protocol.StepBegin:
		return m.steps.BeginResync(step.ID, step.Data)
	case protocol.StepChunk:
		return m.steps.ResyncChunk(step.ID, step.Data)
	case protocol.StepWrites:
		return m.steps.ResyncWrites(step.ID, step.Data)
	case protocol.StepEnd:
		return m.steps.EndResync(step.ID)
	}
	return m.steps.AbandonResync(step.ID)
}

// donate answers a request for a part of the state if there is a leader here.
func (g *group) donate(asker *site, request []byte, answer func(response []byte)) {
	w := g.site.w
	if g.session == nil {
		return
	}
	asked, err := g.site.keys.DecodeResyncRequest(g.id, request)
	if err != nil {
		return
	}
	response, err := g.site.keys.EncodeResyncResponse(asked, g.part(asker, &asked))
	if err != nil {
		w.fail("states can be sent", "%v", err)
		return
	}
	w.between(g.site, asker).send(response, answer)
}

func (g *group) part(asker *site, asked *protocol.AskedResync) protocol.ResyncResponse {
	w, s := g.site.w, g.session
	if asked.Want == protocol.WantView {
		if view, donor, ok := s.taking.donations.Of(asker.id, w.time()); ok {
			return protocol.ResyncResponse{View: view, Donor: donor}
		}
		s.openView(asker)
		return protocol.ResyncResponse{Refused: protocol.RefusedNow}
	}
	s.taking.donations.Read(asker.id, asked.View)
	res, err := partitions.ReadView(g.partition(), asked.ResyncRequest)
	switch {
	case errors.Is(err, protocol.ErrNoView):
		return protocol.ResyncResponse{Refused: protocol.RefusedView}
	case err != nil:
		w.fail("views can be read", "%v of %v: %v", asker, g.site, err)
	}
	return res
}

// openView opens a view, once the outbox keeps for the asker what comes after.
func (s *session) openView(asker *site) {
	w, g := s.g.site.w, s.g
	if s.taking.opening {
		return
	}
	open := func() {
		view, donor, err := g.partition().OpenExport()
		if err == nil {
			s.taking.donations.Opened(asker.id, view, donor, w.time())
		}
	}
	if !partitions.Evicted(g.partition(), asker.id) {
		open()
		return
	}
	s.taking.opening = true
	g.propose(&request{command: g.leader.steps.Readmit(asker.id), done: func(v verdict, r region.StepResult) {
		if s.ended {
			return
		}
		if s.taking.opening = false; v == done && r.Err == nil {
			open()
		}
	}})
}

// tookOver enters that a state was taken over: everything that it includes is applied.
func (g *group) tookOver(upTo []uint64) (touched []valueID) {
	b := &g.books
	for i, seq := range upTo {
		origin := &g.site.w.authors[i]
		events := *g.site.w.ledger.of(i, g.id)
		for ; b.have[i] < seq && int(b.have[i]) < len(events); b.have[i]++ {
			touched = append(touched, g.took(origin, &events[b.have[i]])...)
		}
		b.ever[i] = max(b.ever[i], b.have[i])
	}
	return touched
}
