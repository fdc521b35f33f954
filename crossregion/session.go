package crossregion

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// session is what runs for one partition while this node leads it: a shipper, an acker, and a
// receiver per other region.
type session struct {
	r         *Replicator
	partition topology.PartitionID
	// observed passes on what the stream was last seen to be.
	observed  chan protocol.StreamState
	acking    *acking
	audit     *auditing
	compare   *comparing
	transfer  *transferring
	donate    *donating
	receivers map[topology.RegionID]*receiving
}

func newSession(r *Replicator, p topology.PartitionID) *session {
	s := &session{
		r: r, partition: p, observed: make(chan protocol.StreamState, 1),
		acking:    newAcking(r, p),
		compare:   newComparing(r, p),
		donate:    newDonating(r, p),
		receivers: make(map[topology.RegionID]*receiving, len(r.cfg.Regions)),
	}
	s.transfer = newTransferring(s)
	s.audit = &auditing{r: r, partition: p, alarm: s.compare.alarm}
	for _, region := range r.cfg.Regions {
		s.receivers[region.ID] = newReceiving(r, p, region)
	}
	return s
}

// run works until ctx is done.
func (s *session) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.ship(ctx) })
	wg.Go(func() { s.acking.run(ctx) })
	wg.Go(func() { s.transfer.run(ctx) })
	wg.Go(func() { s.donate.run(ctx) })
	wg.Go(func() { s.compare.run(ctx) })
	for _, rcv := range s.receivers {
		wg.Go(func() { rcv.run(ctx) })
	}
	wg.Wait()
}

func (s *session) observe(state protocol.StreamState) {
	select {
	case <-s.observed: // an older one that no one has looked at
	default:
	}
	select {
	case s.observed <- state:
	default: // another caller's, as new as this one
	}
}

type shipAnswer struct {
	id, streamSeq uint64
	err           error
}

// ship drives a shipper.
func (s *session) ship(ctx context.Context) {
	r := s.r
	core := protocol.NewShipper(r.tuning)
	// As many as can be in flight, so that answering never blocks, not even after ctx is done.
	answers := make(chan shipAnswer, r.tuning.Window)
	for id := uint64(0); ctx.Err() == nil; {
		state, changed := r.cfg.Source.Outbox(s.partition)
		core.OutboxIs(state)
		now := r.cfg.Clock()
		switch a := core.Action(now); a.Kind {
		case protocol.ShipOpen:
			s.open(ctx, core, state.Actor)
		case protocol.ShipRead:
			id++
			s.publish(core, id, a.From, answers)
		case protocol.ShipWait:
			timeout, stop := timer(a.Until, now)
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timeout:
			case st := <-s.observed:
				core.Observe(st)
			case a := <-answers:
				core.Answered(a.id, a.streamSeq, a.err, r.cfg.Clock())
				r.counts.rewinds.Add(core.TakeRewinds())
			}
			stop()
		}
	}
}

// open finds out where to go on in the stream.
func (s *session) open(ctx context.Context, core *protocol.Shipper, actor crdt.Actor) {
	ctx, cancel := context.WithTimeout(ctx, s.r.tuning.OpenTimeout)
	defer cancel()
	outlet := s.r.cfg.Link.Outlet()
	state, err := outlet.Stream(ctx)
	var frame []byte
	if err == nil {
		frame, err = outlet.LastFrame(ctx, s.partition)
	}
	if err != nil {
		s.r.log.Debug("stream not available", slog.Any("partition", s.partition), slog.Any("err", err))
		core.Failed(s.r.cfg.Clock())
		return
	}
	var last uint64
	if frame != nil {
		// A frame that is not ours or damaged tells nothing; then all of the outbox is published.
		if records, err := s.r.packer.DecodeEnvelope(s.r.stream(s.partition, actor), frame); err == nil {
			last = records[len(records)-1].Seq
		}
	}
	core.Open(state, last)
	s.r.counts.rewinds.Add(core.TakeRewinds())
}

// publish hands one envelope to the stream.
func (s *session) publish(core *protocol.Shipper, id, from uint64, answers chan<- shipAnswer) {
	r := s.r
	records, err := r.cfg.Source.ReadOutbox(s.partition, from, protocol.EnvelopeBytes)
	if err != nil || len(records) == 0 {
		r.log.Debug("outbox not readable", slog.Any("partition", s.partition), slog.Any("err", err))
		core.Failed(r.cfg.Clock())
		return
	}
	records = records[:protocol.Cut(records, math.MaxInt, protocol.MaxEnvelopeRecords)]
	records = r.packer.Pack(records)
	frame, err := r.packer.EncodeEnvelope(r.stream(s.partition, r.cfg.Actor), records)
	if err != nil {
		r.log.Error("delta cannot be sent to other regions", slog.Any("partition", s.partition), slog.Any("err", err))
		core.Failed(r.cfg.Clock())
		return
	}
	core.Sent(id, records, r.cfg.Clock())
	r.counts.published.Add(1)
	if records[0].Several() {
		r.counts.folded.Add(1)
	}
	r.cfg.Link.Outlet().Publish(s.partition, frame, func(streamSeq uint64, err error) {
		answers <- shipAnswer{id, streamSeq, err}
	})
}

// timer returns a channel that delivers at until, given that it is now; nil for the zero time.
func timer(until, now time.Time) (<-chan time.Time, func()) {
	if until.IsZero() {
		return nil, func() {}
	}
	t := time.NewTimer(max(until.Sub(now), 0))
	return t.C, func() { t.Stop() }
}

// signal is a condition that one goroutine waits for and any may raise.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default: // raised already
	}
}

// acking drives an acker.
type acking struct {
	r         *Replicator
	partition topology.PartitionID
	wake      signal
	mu        struct {
		sync.Mutex
		core *protocol.Acker
		// told is closed when another region has told how far it is; nil if nobody waits.
		told chan struct{}
	}
}

func newAcking(r *Replicator, p topology.PartitionID) *acking {
	a := &acking{r: r, partition: p, wake: newSignal()}
	regions := make([]topology.RegionID, len(r.cfg.Regions))
	for i, region := range r.cfg.Regions {
		regions[i] = region.ID
	}
	a.mu.core = protocol.NewAcker(r.tuning, regions, r.ages(p), r.cfg.Clock())
	state, _ := r.cfg.Source.Outbox(p)
	a.mu.core.OutboxIs(state, r.cfg.Clock())
	return a
}

// agesAtStart is of how many records of an outbox a new leader looks up when they were made.
const agesAtStart = 8

// ages tells when some of what waits was made.
func (r *Replicator) ages(p topology.PartitionID) []protocol.Aged {
	state, _ := r.cfg.Source.Outbox(p)
	if r.cfg.State == nil || state.First > state.Head {
		return nil
	}
	var ages []protocol.Aged
	step := max((state.Head-state.First)/agesAtStart, 1)
	for seq := state.First; seq <= state.Head && len(ages) < agesAtStart; seq += step {
		at, err := r.cfg.State.Made(p, seq)
		if err != nil { // trimmed by now, perhaps
			r.log.Debug("age of a delta not known", slog.Any("partition", p), slog.Any("err", err))
			continue
		}
		ages = append(ages, protocol.Aged{Seq: seq, At: at})
	}
	return ages
}

func (a *acking) report(region topology.RegionID, seq uint64) error {
	state, _ := a.r.cfg.Source.Outbox(a.partition)
	a.mu.Lock()
	err := a.mu.core.Report(region, seq, state.Head)
	if err == nil && a.mu.told != nil {
		close(a.mu.told)
		a.mu.told = nil
	}
	a.mu.Unlock()
	if err == nil {
		a.wake.raise()
	} else if errors.Is(err, protocol.ErrBeyondHead) && a.r.cfg.Lost != nil {
		a.r.cfg.Lost(a.partition, region, seq)
	}
	return err
}

// reached returns how many regions have applied the events up to seq, and a channel that is closed when
// one has told again how far it is.
func (a *acking) reached(seq uint64) (int, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.told == nil {
		a.mu.told = make(chan struct{})
	}
	return a.mu.core.Reached(seq), a.mu.told
}

// reportAhead takes how far a destination says that what waits is ahead of its clock; 0 if it waits for nothing.
func (a *acking) reportAhead(region topology.RegionID, ahead time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.core.ReportAhead(region, ahead) {
		a.r.logRefused(a.partition, region, ahead)
	}
}

// heard takes a sign of life of another region's leader of this partition.
func (a *acking) heard(region topology.RegionID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.core.Heard(region, a.r.cfg.Clock())
}

// outboxIs marks how far destinations have to come, and returns how long the slowest has had to.
func (a *acking) outboxIs(state protocol.OutboxState, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.core.OutboxIs(state, now)
	return a.mu.core.Behind(now)
}

func (a *acking) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := a.r.cfg.Clock()
		a.mu.Lock()
		watermarks, until := a.mu.core.Due(now)
		a.mu.Unlock()
		if len(watermarks) > 0 {
			a.record(ctx, watermarks)
			continue
		}
		timeout, stop := timer(until, now)
		select {
		case <-ctx.Done():
		case <-a.wake:
		case <-timeout:
		}
		stop()
	}
}

func (a *acking) record(ctx context.Context, watermarks []protocol.Watermark) {
	for i := range watermarks {
		watermarks[i].Actor = a.r.cfg.Actor
	}
	ctx, cancel := context.WithTimeout(ctx, a.r.tuning.MergeTimeout)
	defer cancel()
	err := a.r.cfg.Source.Acknowledge(ctx, a.partition, watermarks)
	if err != nil {
		a.r.log.Debug("watermarks not recorded", slog.Any("partition", a.partition), slog.Any("err", err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.core.Done(watermarks, err, a.r.cfg.Clock())
}

func (a *acking) flow(f *protocol.Flow, now time.Time) {
	state, _ := a.r.cfg.Source.Outbox(a.partition)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.core.OutboxIs(state, now)
	a.mu.core.Flow(f, now)
}
