package world

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// session is what a leader does between regions while it leads, with the step functions of
// crossregion/protocol. It does what the loops of package crossregion do.
type session struct {
	g         *group
	ended     bool
	ship      *protocol.Shipper
	opening   bool
	shipments uint64
	ack       *protocol.Acker
	acking    bool
	taking    takingOver
	folder    *region.OutboxFolder
	keeping   bool    // something of the outbox's upkeep is on its way
	flows     []*flow // by origin, nil for the own region
}

// flow is what comes from one origin.
type flow struct {
	origin *site
	author int
	actor  crdt.Actor
	recv   *protocol.Receiver
	report *protocol.Reporter
	ring   *protocol.Ring
	busy   bool
	stuck  string // what was last said of it
}

func newSession(g *group) *session {
	w := g.site.w
	var others []topology.RegionID
	s := &session{g: g, ship: protocol.NewShipper(w.tuning), flows: make([]*flow, len(w.sites))}
	for _, p := range g.site.peers {
		o := p.site
		others = append(others, o.id)
		applied := g.applied(p.actor())
		f := &flow{
			origin: o, author: int(p.epoch-firstEpoch)*w.plan.Regions + o.index, actor: p.actor(),
			recv:   protocol.NewReceiver(w.tuning, applied, w.time()),
			report: protocol.NewReporter(w.tuning, w.time()), ring: protocol.NewRing(w.tuning.RelayBytes),
		}
		f.report.Note(g.id, applied, w.time())
		s.flows[o.index] = f
	}
	s.ack = protocol.NewAcker(w.tuning, others, nil, w.time())
	s.taking.core = protocol.NewResyncer(w.tuning, g.site.budget)
	folding := region.DefaultFoldBounds()
	if w.plan.Fold != nil {
		folding = *w.plan.Fold
	}
	s.folder = region.NewOutboxFolder(g.leader.machine, folding)
	return s
}

func (s *session) end() {
	s.ended = true
	s.count()
}

// count adds what the session counted, once.
func (s *session) count() {
	for _, f := range s.flows {
		if f != nil {
			s.g.site.w.counts.add(f.recv)
		}
	}
	s.g.site.w.counts.Rewinds += s.ship.TakeRewinds()
}

// later has run called after some time, unless the session has ended by then.
func (s *session) later(d time.Duration, run func()) {
	s.g.site.w.after(d, func() {
		if !s.ended {
			run()
			s.g.touch()
		}
	})
}

// applied is how far the leader has applied another region's events.
func (g *group) applied(a crdt.Actor) uint64 { return g.leader.machine.View().Vector.Get(a) }

func (g *group) outbox() protocol.OutboxState {
	return protocol.OutboxState(g.leader.machine.View().Outbox)
}

func (g *group) streamOf(a crdt.Actor) protocol.Stream {
	return protocol.Stream{Cluster: cluster, Partition: g.id, Actor: a}
}

// drive does what the step functions ask for.
func (g *group) drive() {
	s := g.session
	if s == nil {
		return
	}
	next := never
	wake := func(at time.Time) {
		if !at.IsZero() {
			next = min(next, at.Sub(began))
		}
	}
	wake(s.driveShipper())
	wake(s.driveAcker())
	if g.session == s {
		wake(s.driveTransfer())
	}
	for _, f := range s.flows {
		if f != nil && g.session == s {
			wake(s.driveReceiver(f))
			wake(s.driveReporter(f))
		}
	}
	if next != never {
		g.wake(next)
	}
}

// wake has the group looked at again at an instant.
func (g *group) wake(at time.Duration) {
	w := g.site.w
	if at >= g.wakeAt && g.wakeAt > w.now {
		return
	}
	g.wakeAt = at
	w.after(at-w.now, func() {
		if g.wakeAt == at {
			g.wakeAt = never
		}
		g.touch()
	})
}

func (s *session) driveShipper() time.Time {
	w := s.g.site.w
	s.ship.OutboxIs(s.g.outbox())
	for !s.opening {
		switch a := s.ship.Action(w.time()); a.Kind {
		case protocol.ShipOpen:
			s.opening = true
			s.later(w.between1to5ms(), s.open)
		case protocol.ShipRead:
			s.publish(a.From)
		default:
			return a.Until
		}
	}
	return time.Time{}
}

func (s *session) open() {
	w, stream := s.g.site.w, s.g.site.stream
	s.opening = false
	if !stream.up() || w.chance(w.plan.Rates.PublishLost) {
		s.ship.Failed(w.time())
		return
	}
	var last uint64
	if frame := stream.lastFrame(s.g.id); frame != nil {
		if records, err := s.g.site.packer.DecodeEnvelope(s.g.streamOf(s.g.site.actor), frame); err == nil {
			last = records[len(records)-1].Seq
		}
	}
	s.ship.OutboxIs(s.g.outbox())
	s.ship.Open(stream.state(), last)
}

// partition is the leader's.
func (g *group) partition() *region.Partition { return g.leader.steps.Partition() }

func (g *group) readOutbox(from uint64, maxBytes int) ([]protocol.Record, error) {
	records, err := partitions.ReadOutbox(g.partition(), from, maxBytes)
	for i := range records {
		if records[i].Several() {
			g.site.w.counts.RunsRead++
		}
	}
	return records, err
}

func (s *session) publish(from uint64) {
	w := s.g.site.w
	records, err := s.g.readOutbox(from, protocol.EnvelopeBytes)
	if err != nil || len(records) == 0 {
		s.ship.Failed(w.time())
		return
	}
	records = s.g.site.packer.Pack(records)
	frame, err := s.g.site.packer.EncodeEnvelope(s.g.streamOf(s.g.site.actor), records)
	if err != nil {
		w.fail("deltas can be sent", "%v", err)
		return
	}
	s.shipments++
	id := s.shipments
	s.ship.Sent(id, records, w.time())
	w.counts.Published++
	s.g.site.stream.publish(s.g.id, frame, func(seq uint64, err error) {
		if !s.ended {
			s.ship.Answered(id, seq, err, w.time())
			s.g.touch()
		}
	})
}

// date notes of when records are, as the program does. What cannot be read is left for the machine to refuse.
func date(records []protocol.Record) {
	for i := range records {
		if at, err := replica.TimeOf(records[i].Data); err == nil {
			records[i].Time = at
		}
	}
}

// onFrame takes a frame of another region's stream.
func (g *group) onFrame(origin *site, frame []byte) {
	w := g.site.w
	if g.session == nil {
		return
	}
	f := g.session.flows[origin.index]
	if f == nil || g.site.givenUp(origin) {
		g.site.late(origin)
		return
	}
	records, err := g.site.packer.DecodeEnvelope(g.streamOf(f.actor), frame)
	if err != nil {
		g.site.refused(origin, err)
		return
	}
	date(records)
	if err := f.recv.Offer(records, true, w.time()); err != nil {
		w.fail("an honest envelope is taken", "%v", err)
		return
	}
	f.ring.Add(records, frame)
	g.touch()
}

func (s *session) driveReceiver(f *flow) time.Time {
	w := s.g.site.w
	if f.busy {
		return time.Time{}
	}
	if now := f.recv.Stuck(); now != f.stuck {
		f.stuck = now
		w.onStuck(s.g, f)
	}
	if s.g.site.givenUp(f.origin) {
		f.recv.OriginGone(w.time())
	}
	a := f.recv.Action(w.time())
	f.report.NoteAhead(s.g.id, f.recv.Quarantine(), w.time())
	switch a.Kind {
	case protocol.ReceiveMerge:
		f.busy = true
		s.merge(f, a.Records)
	case protocol.ReceiveFetch:
		f.busy = true
		s.fetch(f, a)
	default:
		return a.Until
	}
	return time.Time{}
}

func (s *session) merge(f *flow, records []protocol.Record) {
	w := s.g.site.w
	finish := func(applied uint64, err error) {
		if s.ended {
			return
		}
		f.busy = false
		f.recv.Merged(records, applied, err, w.time())
		f.report.Note(s.g.id, f.recv.Applied(), w.time())
		s.g.touch()
	}
	command, err := s.g.leader.steps.Merge(f.actor, partitions.Deltas(records))
	if err != nil {
		finish(s.g.applied(f.actor), partitions.MergeError(err))
		return
	}
	s.g.propose(&request{command: command, merge: &mergeOf{f.author, records}, done: func(v verdict, r region.StepResult) {
		switch {
		case s.ended:
		case v != done:
			finish(s.g.applied(f.actor), errOutcomeUnknown)
		case r.Err != nil:
			finish(s.g.applied(f.actor), partitions.MergeError(r.Err))
		default:
			finish(r.Applied, nil)
		}
	}})
}

// fetch asks the origin over the links, and waits for an answer for FetchTimeout at most.
func (s *session) fetch(f *flow, a protocol.ReceiveAction) {
	w := s.g.site.w
	wanted := protocol.FetchRequest{From: a.From, MaxBytes: w.tuning.FetchBytes, Codec: protocol.CodecNewest, Nonce: w.rng.Uint64()}
	if a.Plain {
		wanted.Codec = protocol.CodecPlain
	}
	answered := false
	finish := func(res protocol.FetchResult) {
		if answered || s.ended {
			return
		}
		answered, f.busy = true, false
		f.recv.AppliedIs(s.g.applied(f.actor), w.time())
		for _, records := range fetched(&res) {
			date(records)
		}
		f.recv.Fetched(res, w.time())
		for i, records := range fetched(&res) {
			f.ring.Add(records, res.Envelopes[i])
		}
		if len(res.Records) > 0 && a.Via != 0 {
			w.counts.Relayed++
			w.say("%v has events %d on of %v from region %d", s.g.site, a.From, f.origin, a.Via)
		}
		f.report.Note(s.g.id, f.recv.Applied(), w.time())
		s.g.touch()
	}
	stream, via := s.g.streamOf(f.actor), f.origin
	if a.Via != 0 {
		via = w.sites[a.Via-1]
	}
	request, err := s.g.site.keys.EncodeFetchRequest(stream, via.id, wanted)
	if err != nil {
		w.fail("requests can be sent", "%v", err)
		return
	}
	if s.g.site.givenUp(via) {
		finish(protocol.FetchResult{Err: protocol.ErrGivenUp})
		return
	}
	w.counts.Fetches++
	s.later(w.tuning.FetchTimeout, func() { finish(protocol.FetchResult{Err: errUnkind}) })
	w.between(s.g.site, via).send(request, func(request []byte) {
		via.groups[s.g.id].serve(s.g.site, request, func(response []byte) {
			finish(s.g.site.packer.DecodeFetchResponse(stream, via.id, wanted.Nonce, response))
		})
	})
}

// serve answers a fetch if there is a leader here.
func (g *group) serve(asker *site, request []byte, answer func(response []byte)) {
	w := g.site.w
	if g.session == nil {
		return
	}
	wanted, err := g.site.keys.DecodeFetchRequest(g.id, request)
	if err != nil || g.site.givenUp(w.sites[wanted.By-1]) {
		return
	}
	if wanted.Actor != g.site.actor {
		g.relay(asker, wanted, answer)
		return
	}
	var res protocol.FetchResult
	if wanted.From > g.outbox().Head {
		res.Nothing = true
	} else {
		res.Records, err = g.readOutbox(wanted.From, wanted.MaxBytes)
		if wanted.Codec >= protocol.CodecZipped {
			res.Records = g.site.packer.Pack(res.Records)
		}
	}
	if errors.Is(err, protocol.ErrTrimmed) {
		res.TrimmedTo, err = g.outbox().First, nil
	}
	var response []byte
	if err == nil {
		response, err = g.site.packer.EncodeFetchResponse(g.streamOf(g.site.actor), wanted, res)
	}
	if err != nil {
		w.fail("fetches can be answered", "%v", err)
		return
	}
	w.between(g.site, asker).send(response, answer)
}
