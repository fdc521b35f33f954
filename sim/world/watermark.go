package world

import (
	"time"

	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
)

// beat tells all other regions how far this one's outbox reaches.
func (g *group) beat() {
	w := g.site.w
	if g.session == nil {
		return
	}
	outbox := g.outbox()
	g.session.ack.OutboxIs(outbox, w.time())
	head := protocol.Head{
		Position: protocol.Position{Partition: g.id, Actor: g.site.actor, Seq: outbox.Head},
		First:    outbox.First, Bytes: outbox.Bytes, Appended: outbox.Appended, Behind: g.session.ack.Behind(w.time()),
	}
	if w.plan.transfers() {
		head.Vector = g.leader.machine.View().Vector
	}
	frame, err := g.site.keys.EncodeTick(protocol.Tick{Node: "node", Sent: w.time(), Heads: []protocol.Head{head}})
	if err != nil {
		w.fail("ticks can be sent", "%v", err)
		return
	}
	for _, o := range w.others(g.site) {
		w.between(g.site, o).send(frame, func(frame []byte) { o.onTick(g.site, frame) })
	}
}

func (s *site) onTick(from *site, frame []byte) {
	if !s.takes {
		return
	}
	tick, err := s.keys.DecodeTick(from.id, frame)
	if err != nil || s.givenUp(from) {
		s.refused(from, err)
		return
	}
	for i := range tick.Heads {
		h := &tick.Heads[i]
		g := s.groups[h.Partition]
		if g.session == nil || g.session.flows[from.index] == nil || h.Actor != g.session.flows[from.index].actor {
			continue
		}
		if err := g.session.flows[from.index].recv.Tick(h, true, s.w.time()); err != nil {
			s.w.fail("an honest tick is believed", "%v of %v", err, from)
		}
		if h.Vector.Len() > 0 {
			g.session.elsewhere(from, h)
		}
		g.touch()
	}
}

// elsewhere tells receivers what a region has applied of third regions' events.
func (s *session) elsewhere(from *site, h *protocol.Head) {
	for _, f := range s.flows {
		if f == nil || f.origin == from {
			continue
		}
		if err := f.recv.Elsewhere(from.id, h.Vector.Get(f.actor), s.g.site.w.time()); err != nil {
			s.g.site.w.fail("an honest tick is believed", "%v of %v", err, from)
		}
	}
}

// driveReporter sends watermarks that are due.
func (s *session) driveReporter(f *flow) time.Time {
	w := s.g.site.w
	send, until := f.report.Due(w.time())
	seq, due := send[s.g.id]
	if !due {
		return until
	}
	if w.lies {
		seq = uint64(len(*w.ledger.of(f.author, s.g.id)))
	}
	mark := protocol.Position{Partition: s.g.id, Actor: f.actor, Seq: seq, Ahead: f.report.Ahead(s.g.id, w.time())}
	frame, err := s.g.site.keys.EncodeWatermarks(f.origin.id, []protocol.Position{mark})
	if err != nil {
		w.fail("watermarks can be sent", "%v", err)
		return until
	}
	w.between(s.g.site, f.origin).send(frame, func(frame []byte) { f.origin.onReport(frame) })
	return until
}

func (s *site) onReport(frame []byte) {
	if !s.takes {
		return
	}
	from, watermarks, err := s.keys.DecodeWatermarks(frame)
	if err != nil || s.givenUp(s.w.sites[from-1]) {
		s.w.counts.Damaged++
		return
	}
	for _, m := range watermarks {
		g := s.groups[m.Partition]
		if g.session == nil || m.Actor != s.actor {
			continue
		}
		err := g.session.ack.Report(from, m.Seq, g.outbox().Head)
		if err != nil && !s.restored {
			s.w.fail("an honest watermark is believed", "%v of %v", err, s)
		}
		g.session.ack.ReportAhead(from, m.Ahead)
		g.session.ack.Heard(from, s.w.time())
		g.touch()
	}
}

// driveAcker records watermarks that are due.
func (s *session) driveAcker() time.Time {
	w := s.g.site.w
	if s.acking {
		return time.Time{}
	}
	watermarks, until := s.ack.Due(w.time())
	if len(watermarks) == 0 {
		return until
	}
	for i := range watermarks {
		watermarks[i].Actor = s.g.site.actor
	}
	command, err := s.g.leader.steps.Acknowledge(partitions.Watermarks(watermarks))
	if command == nil {
		s.ack.Done(watermarks, err, w.time())
		return until
	}
	s.acking = true
	s.g.propose(&request{command: command, done: func(v verdict, r region.StepResult) {
		if s.ended {
			return
		}
		err := r.Err
		if v != done {
			err = errOutcomeUnknown
		}
		s.acking = false
		s.ack.Done(watermarks, err, w.time())
		s.g.touch()
	}})
	return until
}
