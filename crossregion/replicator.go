package crossregion

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/topology"
)

// Replicator exchanges the deltas of the partitions this node leads with all other regions.
type Replicator struct {
	cfg       Config
	tuning    protocol.Tuning
	log       *slog.Logger
	regions   map[topology.RegionID]RemoteRegion
	reporters map[topology.RegionID]*reporting
	keys      *protocol.Keys
	packer    *protocol.Packer
	clocks    *clocks
	budget    *protocol.Budget
	counts    counters
	asking    asking
	mu        struct {
		sync.RWMutex
		led map[topology.PartitionID]*session
		// ended holds what sessions that are over had counted.
		ended Stats
	}
	heard struct {
		sync.Mutex
		from map[topology.RegionID]*protocol.Freshness
	}
}

// New returns a Replicator that does nothing until Run.
func New(cfg Config) (*Replicator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cross-region replication: %w", err)
	}
	actors := make([]crdt.Actor, len(cfg.Regions))
	for i, region := range cfg.Regions {
		actors[i] = region.Actor
	}
	keys := protocol.NewKeys(cfg.Cluster, cfg.Actor, actors, cfg.Derive)
	packer, err := protocol.NewPacker(cfg.Fold, keys)
	if err != nil {
		return nil, fmt.Errorf("cross-region replication: %w", err)
	}
	r := &Replicator{
		cfg: cfg, tuning: protocol.DefaultTuning(), log: cfg.Logger, keys: keys, packer: packer,
		clocks:    newClocks(&cfg),
		regions:   make(map[topology.RegionID]RemoteRegion, len(cfg.Regions)),
		reporters: make(map[topology.RegionID]*reporting, len(cfg.Regions)),
	}
	r.tuning.ClockAhead = cmp.Or(cfg.ClockAhead, r.tuning.ClockAhead)
	r.budget = protocol.NewBudget(r.tuning.ResyncRate)
	r.mu.led = map[topology.PartitionID]*session{}
	r.heard.from = map[topology.RegionID]*protocol.Freshness{}
	for _, region := range cfg.Regions {
		r.regions[region.ID] = region
		r.reporters[region.ID] = newReporting(r, region)
		r.heard.from[region.ID] = &protocol.Freshness{}
	}
	return r, nil
}

// Run replicates until ctx is done, then returns nil. Whatever fails meanwhile is retried. It may be
// called once.
func (r *Replicator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for p := range topology.PartitionID(r.cfg.Partitions) {
		wg.Go(func() { r.lead(ctx, p) })
	}
	for _, region := range r.cfg.Regions {
		wg.Go(func() { r.subscribe(ctx, region) })
		wg.Go(func() { r.reporters[region.ID].run(ctx) })
	}
	if len(r.cfg.Regions) > 0 {
		wg.Go(func() { r.serve(ctx) })
		wg.Go(func() { r.beat(ctx) })
		wg.Go(func() { r.checkStream(ctx) })
		wg.Go(func() { r.digest(ctx) })
	}
	wg.Wait()
	return nil
}

func (r *Replicator) stream(p topology.PartitionID, actor crdt.Actor) protocol.Stream {
	return protocol.Stream{Cluster: r.cfg.Cluster, Partition: p, Actor: actor}
}

// lead runs a session whenever this node leads the partition.
func (r *Replicator) lead(ctx context.Context, p topology.PartitionID) {
	for ctx.Err() == nil {
		leading, changed := r.cfg.Source.Leadership(p)
		if !leading || len(r.cfg.Regions) == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		r.runSession(ctx, p, changed)
	}
}

func (r *Replicator) runSession(ctx context.Context, p topology.PartitionID, changed <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(r, p)
	r.mu.Lock()
	r.mu.led[p] = s
	r.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { s.run(ctx) })
	select {
	case <-ctx.Done():
	case <-changed:
	}
	r.mu.Lock()
	delete(r.mu.led, p)
	r.mu.Unlock()
	cancel()
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rcv := range s.receivers {
		rcv.addCounts(&r.mu.ended)
	}
}

// givenUp reports whether a region was given up.
func (r *Replicator) givenUp(region topology.RegionID) bool {
	return r.cfg.GivenUp != nil && r.cfg.GivenUp(region)
}

func (r *Replicator) session(p topology.PartitionID) *session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.led[p]
}

func (r *Replicator) sessions() []*session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*session, 0, len(r.mu.led))
	for p := range topology.PartitionID(r.cfg.Partitions) {
		if s := r.mu.led[p]; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// subscribe keeps a subscription to another region.
func (r *Replicator) subscribe(ctx context.Context, region RemoteRegion) {
	r.retry(ctx, "subscription to another region ended", region.Name, func() error {
		return r.cfg.Link.Inlet(region.ID).Subscribe(ctx, subscriber{r, region})
	})
}

// serve keeps answering other regions.
func (r *Replicator) serve(ctx context.Context) {
	r.retry(ctx, "requests of other regions are not served", "", func() error {
		return r.cfg.Link.Outlet().Serve(ctx, handler{r})
	})
}

// retry calls run until ctx is done, with a pause that grows while it ends at once.
func (r *Replicator) retry(ctx context.Context, what, region string, run func() error) {
	pause := protocol.Backoff{Least: r.tuning.RetryLeast, Most: r.tuning.RetryMost}
	for ctx.Err() == nil {
		began := r.cfg.Clock()
		err := run()
		if ctx.Err() != nil {
			return
		}
		now := r.cfg.Clock()
		if now.Sub(began) > r.tuning.RetryMost {
			pause.Succeeded()
		}
		pause.Failed(now)
		// The first failures are those of a start, where others are not ready yet.
		if pause.Failures >= 8 && isPowerOfTwo(uint64(pause.Failures)) {
			r.log.Warn(what, slog.String("region", region), slog.Int("failures", pause.Failures), slog.Any("err", err))
		}
		timeout, stop := timer(pause.Until, now)
		select {
		case <-ctx.Done():
		case <-timeout:
		}
		stop()
	}
}

// subscriber hands on what one other region sends to all.
type subscriber struct {
	r      *Replicator
	region RemoteRegion
}

// OnFrame hands an envelope to its partition's receiver, undecoded if this node does not lead it.
func (s subscriber) OnFrame(p topology.PartitionID, frame []byte) {
	if s.r.givenUp(s.region.ID) {
		s.r.refuse("envelope refused", s.region.ID, p, protocol.ErrGivenUp)
		return
	}
	if session := s.r.session(p); session != nil {
		s.r.counts.received.Add(1)
		session.receivers[s.region.ID].onFrame(frame)
	}
}

// OnTick hands on what a node there says about the partitions it leads.
func (s subscriber) OnTick(frame []byte) {
	tick, err := s.r.keys.DecodeTick(s.region.ID, frame)
	if err == nil && s.r.givenUp(s.region.ID) {
		err = protocol.ErrGivenUp
	}
	if err != nil {
		s.r.refuse("tick refused", s.region.ID, allPartitions, err)
		return
	}
	fresh := s.r.fresh(s.region.ID, tick)
	if fresh {
		s.r.clocks.heard(s.region.ID, tick.Node, tick.Clock)
	}
	for i := range tick.Heads {
		if session := s.r.session(tick.Heads[i].Partition); session != nil {
			session.onTick(s.region.ID, &tick.Heads[i], fresh)
		}
	}
}

// handler answers what other regions ask this one.
type handler struct{ r *Replicator }

// Fetch returns a part of an outbox if this node leads the partition.
func (h handler) Fetch(p topology.PartitionID, request []byte) []byte {
	r := h.r
	session := r.session(p)
	if session == nil {
		return nil
	}
	if protocol.KindOf(request) == protocol.FrameResyncRequest {
		return session.donate.answer(request)
	}
	s := r.stream(p, r.cfg.Actor)
	wanted, err := r.keys.DecodeFetchRequest(p, request)
	if err == nil && r.givenUp(wanted.By) {
		err = protocol.ErrGivenUp
	}
	if err != nil {
		r.refuse("fetch request refused", r.claimed(request), p, err)
		return nil
	}
	if wanted.Actor != r.cfg.Actor {
		return h.relay(p, wanted)
	}
	var res protocol.FetchResult
	state, _ := r.cfg.Source.Outbox(p)
	switch {
	case wanted.From > state.Head:
		res.Nothing = true
	default:
		res.Records, err = r.cfg.Source.ReadOutbox(p, wanted.From, wanted.MaxBytes)
		if n := len(res.Records); n > protocol.MaxEnvelopeRecords {
			res.Records = res.Records[:protocol.MaxEnvelopeRecords]
		}
		res = r.answer(wanted, res)
	}
	if errors.Is(err, protocol.ErrTrimmed) {
		state, _ := r.cfg.Source.Outbox(p) // trimming may just have happened
		res.TrimmedTo, err = state.First, nil
	}
	var response []byte
	if err == nil {
		response, err = r.packer.EncodeFetchResponse(s, wanted, res)
	}
	if err != nil {
		r.log.Error("records cannot be sent to another region", slog.Any("partition", p), slog.Any("err", err))
		return nil
	}
	r.counts.served.Add(1)
	return response
}

// answer makes of what the outbox has what an asker takes.
func (r *Replicator) answer(wanted protocol.Asked, res protocol.FetchResult) protocol.FetchResult {
	switch n := len(res.Records); {
	case n == 0:
	case wanted.Codec >= protocol.CodecZipped:
		res.Records = r.packer.Pack(res.Records)
	case res.Records[0].Several():
		// It wants them one by one, or knows no better, and so they are not to be had any more.
		res = protocol.FetchResult{TrimmedTo: res.Records[0].Seq + 1}
	default:
		res.Records = protocol.Alike(res.Records)
	}
	return res
}

// relay answers with what this node has received of another region's records.
func (h handler) relay(p topology.PartitionID, wanted protocol.Asked) []byte {
	session := h.r.session(p)
	origin, _ := topology.ActorRegion(wanted.Actor)
	if session == nil || session.receivers[origin] == nil {
		return nil
	}
	frames := session.receivers[origin].relayed(wanted.From, wanted.MaxBytes)
	response, err := h.r.packer.EncodeRelayResponse(wanted, frames)
	if err != nil {
		h.r.log.Error("records cannot be passed on to another region", slog.Any("partition", p), slog.Any("err", err))
		return nil
	}
	h.r.counts.relayed.Add(uint64(len(frames)))
	return response
}

// Report hands watermarks to the partitions they are about, and requests to whom they are for.
func (h handler) Report(frame []byte) {
	if protocol.KindOf(frame) == protocol.FrameRequest {
		h.requested(frame)
		return
	}
	region, watermarks, err := h.r.keys.DecodeWatermarks(frame)
	if _, known := h.r.regions[region]; err == nil && !known {
		err = protocol.ErrOtherActor // our own, which somebody sends back
	}
	if err == nil && h.r.givenUp(region) {
		err = protocol.ErrGivenUp
	}
	if err != nil {
		h.r.refuse("watermarks refused", h.r.claimed(frame), allPartitions, err)
		return
	}
	for _, w := range watermarks {
		session := h.r.session(w.Partition)
		if session == nil {
			continue
		}
		err := protocol.ErrOtherActor
		if w.Actor == h.r.cfg.Actor {
			err = session.acking.report(region, w.Seq)
		}
		if err == nil {
			session.acking.reportAhead(region, w.Ahead)
		}
		if err != nil {
			h.r.refuse("watermark refused", region, w.Partition, err)
		}
	}
}
