package crossregion

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// receiving drives the receiver of one partition and origin.
type receiving struct {
	r      *Replicator
	region RemoteRegion
	stream protocol.Stream
	wake   signal
	mu     struct {
		sync.Mutex
		core *protocol.Receiver
		ring *protocol.Ring
	}
}

func newReceiving(r *Replicator, p topology.PartitionID, region RemoteRegion) *receiving {
	rcv := &receiving{r: r, region: region, stream: r.stream(p, region.Actor), wake: newSignal()}
	applied := r.cfg.Sink.Applied(p, region.Actor)
	rcv.mu.core = protocol.NewReceiver(r.tuning, applied, r.cfg.Clock())
	rcv.mu.ring = protocol.NewRing(r.tuning.RelayBytes)
	return rcv
}

// relayed returns what this node can pass on of the origin's records.
func (rcv *receiving) relayed(from uint64, maxBytes int) [][]byte {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	return rcv.mu.ring.From(from, maxBytes)
}

// elsewhere takes how far a third region has applied the origin's events.
func (rcv *receiving) elsewhere(region topology.RegionID, seq uint64) error {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	if err := rcv.mu.core.Elsewhere(region, seq, rcv.r.cfg.Clock()); err != nil {
		return err
	}
	rcv.wake.raise()
	return nil
}

// onFrame takes an envelope from the stream.
func (rcv *receiving) onFrame(frame []byte) {
	records, err := rcv.r.packer.DecodeEnvelope(rcv.stream, frame)
	if err != nil {
		rcv.r.refuse("envelope refused", rcv.region.ID, rcv.stream.Partition, err)
		return
	}
	rcv.date(records)
	rcv.mu.Lock()
	if err = rcv.mu.core.Offer(records, true, rcv.r.cfg.Clock()); err == nil {
		rcv.mu.ring.Add(records, frame)
	}
	rcv.mu.Unlock()
	if err != nil {
		rcv.r.refuse("envelope refused", rcv.region.ID, rcv.stream.Partition, err)
		return
	}
	rcv.wake.raise()
}

// date notes of when records are. What cannot be read is left for Sink.Merge to refuse.
func (rcv *receiving) date(records []protocol.Record) {
	if rcv.r.cfg.Instant == nil {
		return
	}
	for i := range records {
		if at, err := rcv.r.cfg.Instant(records[i].Data); err == nil {
			records[i].Time = at
		}
	}
}

// onHead takes how far the origin's outbox reaches.
func (rcv *receiving) onHead(h *protocol.Head, fresh bool) {
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.Stuck()
	err := rcv.mu.core.Tick(h, fresh, rcv.r.cfg.Clock())
	stuck, behind := rcv.mu.core.Stuck(), h.Seq > rcv.mu.core.Applied()
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	if err != nil {
		rcv.r.refuse("tick refused", rcv.region.ID, rcv.stream.Partition, err)
	} else if behind {
		rcv.wake.raise()
	}
}

func (rcv *receiving) run(ctx context.Context) {
	reporting := rcv.r.reporters[rcv.region.ID]
	rcv.mu.Lock()
	applied := rcv.mu.core.Applied()
	rcv.mu.Unlock()
	reporting.note(rcv.stream.Partition, applied)
	defer reporting.forget(rcv.stream.Partition)
	waited := hlc.Time(0)
	for ctx.Err() == nil {
		now := rcv.r.cfg.Clock()
		rcv.mu.Lock()
		wasStuck := rcv.mu.core.Stuck()
		if rcv.r.givenUp(rcv.region.ID) {
			rcv.mu.core.OriginGone(now)
		}
		a := rcv.mu.core.Action(now)
		stuck, waits := rcv.mu.core.Stuck(), rcv.mu.core.Quarantine()
		rcv.mu.Unlock()
		rcv.logStuck(wasStuck, stuck)
		if waits != waited {
			reporting.noteAhead(rcv.stream.Partition, waits)
			waited = waits
		}
		switch a.Kind {
		case protocol.ReceiveMerge:
			reporting.note(rcv.stream.Partition, rcv.merge(ctx, a.Records))
		case protocol.ReceiveFetch:
			reporting.note(rcv.stream.Partition, rcv.fetch(ctx, a))
		case protocol.ReceiveWait:
			timeout, stop := timer(a.Until, now)
			select {
			case <-ctx.Done():
			case <-rcv.wake:
			case <-timeout:
			}
			stop()
		}
	}
}

// merge hands records to Raft and returns what is applied then.
func (rcv *receiving) merge(ctx context.Context, records []protocol.Record) uint64 {
	ctx, cancel := context.WithTimeout(ctx, rcv.r.tuning.MergeTimeout)
	defer cancel()
	p, actor := rcv.stream.Partition, rcv.stream.Actor
	applied, err := rcv.r.cfg.Sink.Merge(ctx, p, actor, records)
	if err != nil {
		rcv.r.log.Debug("merge not done", slog.Any("partition", p), slog.Any("region", rcv.region.Name), slog.Any("err", err))
		applied = rcv.r.cfg.Sink.Applied(p, actor) // the outcome may be unknown
		if reason := protocol.ReasonOf(err); reason != protocol.ReasonOther {
			rcv.r.refuse("deltas refused", rcv.region.ID, p, err)
		}
	}
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.Stuck()
	rcv.mu.core.Merged(records, applied, err, rcv.r.cfg.Clock())
	applied, stuck := rcv.mu.core.Applied(), rcv.mu.core.Stuck()
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	return applied
}

// fetch asks the origin for records as a says, and returns what is applied then.
func (rcv *receiving) fetch(ctx context.Context, a protocol.ReceiveAction) uint64 {
	ctx, cancel := context.WithTimeout(ctx, rcv.r.tuning.FetchTimeout)
	defer cancel()
	p, from := rcv.stream.Partition, cmp.Or(a.Via, rcv.region.ID)
	var res protocol.FetchResult
	wanted := protocol.FetchRequest{From: a.From, MaxBytes: rcv.r.tuning.FetchBytes, Codec: protocol.CodecNewest, Nonce: rand.Uint64()}
	if a.Plain {
		wanted.Codec = protocol.CodecPlain
	}
	request, err := rcv.r.keys.EncodeFetchRequest(rcv.stream, from, wanted)
	if rcv.r.givenUp(from) {
		err = protocol.ErrGivenUp
	}
	if err == nil {
		var response []byte
		response, err = rcv.r.cfg.Link.Inlet(from).Fetch(ctx, p, request)
		if err == nil {
			res = rcv.r.packer.DecodeFetchResponse(rcv.stream, from, wanted.Nonce, response)
			if err = res.Err; err != nil {
				rcv.r.refuse("fetch response refused", from, p, err)
			}
			for _, records := range append([][]protocol.Record{res.Records}, res.More...) {
				rcv.date(records)
			}
		}
	}
	res.Err = err
	if err != nil {
		rcv.r.log.Debug("fetch not answered", slog.Any("partition", p), slog.Any("region", rcv.region.Name), slog.Any("err", err))
	}
	now, applied := rcv.r.cfg.Clock(), rcv.r.cfg.Sink.Applied(p, rcv.stream.Actor)
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.Stuck()
	rcv.mu.core.AppliedIs(applied, now)
	rcv.mu.core.Fetched(res, now)
	for i, records := range append([][]protocol.Record{res.Records}, res.More...) {
		if err == nil && len(records) > 0 {
			rcv.mu.ring.Add(records, res.Envelopes[i])
		}
	}
	applied, stuck := rcv.mu.core.Applied(), rcv.mu.core.Stuck()
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	return applied
}

// donors returns whose state has what nobody gives.
func (rcv *receiving) donors() []topology.RegionID {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	return rcv.mu.core.Donors(rcv.region.ID, rcv.r.cfg.Clock())
}

// tookOver looks how far the origin's events are applied after a state was taken over.
func (rcv *receiving) tookOver() {
	applied := rcv.r.cfg.Sink.Applied(rcv.stream.Partition, rcv.stream.Actor)
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.Stuck()
	rcv.mu.core.TookOver(applied, rcv.r.cfg.Clock())
	applied, stuck := rcv.mu.core.Applied(), rcv.mu.core.Stuck()
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	rcv.r.reporters[rcv.region.ID].note(rcv.stream.Partition, applied)
	rcv.wake.raise()
}

func (rcv *receiving) logStuck(was, is string) {
	if is == was {
		return
	}
	attrs := []any{slog.Any("partition", rcv.stream.Partition), slog.Any("region", rcv.region.Name)}
	if is == "" {
		rcv.r.log.Info("events from another region are applied again", attrs...)
		return
	}
	rcv.r.log.Error("events from another region cannot be applied", append(attrs, slog.Any("err", is))...)
}

func (rcv *receiving) flow(f *protocol.Flow) {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	rcv.mu.core.Flow(f, rcv.r.cfg.Clock())
}

// addCounts adds what the receiver counted.
func (rcv *receiving) addCounts(to *Stats) {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	c := &rcv.mu.core.Counts
	to.Duplicates += c.Duplicates
	to.Gaps += c.Gaps
	to.Evicted += c.Evicted
	to.Fetches += c.Fetches
	to.BadBatches += c.Refused
	to.Trimmed += c.Trimmed
	to.Quarantined += c.Quarantined
}
