package crossregion

import (
	"context"
	"log/slog"
	"sync"

	"github.com/atolldb/atoll/topology"
)

// receiving drives the receiver of one partition and origin.
type receiving struct {
	r      *Replicator
	region RemoteRegion
	stream stream
	wake   signal
	mu     struct {
		sync.Mutex
		core *receiver
	}
}

func newReceiving(r *Replicator, p topology.PartitionID, region RemoteRegion) *receiving {
	rcv := &receiving{r: r, region: region, stream: r.stream(p, region.Actor), wake: newSignal()}
	applied := r.cfg.Sink.Applied(p, region.Actor)
	rcv.mu.core = newReceiver(r.tuning, applied, r.cfg.Clock())
	return rcv
}

// onFrame takes an envelope from the stream.
func (rcv *receiving) onFrame(frame []byte) {
	records, err := rcv.r.packer.decodeEnvelope(rcv.stream, frame)
	if err != nil {
		rcv.r.refuse("envelope refused", rcv.region.ID, rcv.stream.partition, err)
		return
	}
	rcv.mu.Lock()
	rcv.mu.core.offer(records, true, rcv.r.cfg.Clock())
	rcv.mu.Unlock()
	rcv.wake.raise()
}

// onHead takes how far the origin's outbox reaches.
func (rcv *receiving) onHead(head uint64) {
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.stuck
	rcv.mu.core.heartbeat(head, rcv.r.cfg.Clock())
	stuck, behind := rcv.mu.core.stuck, head > rcv.mu.core.applied
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	if behind {
		rcv.wake.raise()
	}
}

func (rcv *receiving) run(ctx context.Context) {
	reporting := rcv.r.reporters[rcv.region.ID]
	rcv.mu.Lock()
	applied := rcv.mu.core.applied
	rcv.mu.Unlock()
	reporting.note(rcv.stream.partition, applied)
	defer reporting.forget(rcv.stream.partition)
	for ctx.Err() == nil {
		now := rcv.r.cfg.Clock()
		rcv.mu.Lock()
		a := rcv.mu.core.action(now)
		rcv.mu.Unlock()
		switch a.kind {
		case receiveMerge:
			reporting.note(rcv.stream.partition, rcv.merge(ctx, a.records))
		case receiveFetch:
			reporting.note(rcv.stream.partition, rcv.fetch(ctx, a))
		case receiveWait:
			timeout, stop := timer(a.until, now)
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
func (rcv *receiving) merge(ctx context.Context, records []Record) uint64 {
	ctx, cancel := context.WithTimeout(ctx, rcv.r.tuning.mergeTimeout)
	defer cancel()
	p, actor := rcv.stream.partition, rcv.stream.actor
	applied, err := rcv.r.cfg.Sink.Merge(ctx, p, actor, records)
	if err != nil {
		rcv.r.log.Debug("merge not done", slog.Any("partition", p), slog.Any("region", rcv.region.Name), slog.Any("err", err))
		applied = rcv.r.cfg.Sink.Applied(p, actor) // the outcome may be unknown
	}
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.stuck
	rcv.mu.core.merged(records, applied, err, rcv.r.cfg.Clock())
	applied, stuck := rcv.mu.core.applied, rcv.mu.core.stuck
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	return applied
}

// fetch asks the origin for records as a says, and returns what is applied then.
func (rcv *receiving) fetch(ctx context.Context, a receiveAction) uint64 {
	ctx, cancel := context.WithTimeout(ctx, rcv.r.tuning.fetchTimeout)
	defer cancel()
	p := rcv.stream.partition
	var res fetchResult
	wanted := fetchRequest{from: a.from, maxBytes: rcv.r.tuning.fetchBytes, codec: codecNewest}
	if a.plain {
		wanted.codec = codecPlain
	}
	request, err := encodeFetchRequest(rcv.stream, wanted)
	if err == nil {
		var response []byte
		response, err = rcv.r.cfg.Link.Inlet(rcv.region.ID).Fetch(ctx, p, request)
		if err == nil {
			res = rcv.r.packer.decodeFetchResponse(rcv.stream, response)
			err = res.err
		}
	}
	res.err = err
	if err != nil {
		rcv.r.log.Debug("fetch not answered", slog.Any("partition", p), slog.Any("region", rcv.region.Name), slog.Any("err", err))
	}
	now, applied := rcv.r.cfg.Clock(), rcv.r.cfg.Sink.Applied(p, rcv.stream.actor)
	rcv.mu.Lock()
	wasStuck := rcv.mu.core.stuck
	rcv.mu.core.appliedIs(applied, now)
	rcv.mu.core.fetched(res, now)
	applied, stuck := rcv.mu.core.applied, rcv.mu.core.stuck
	rcv.mu.Unlock()
	rcv.logStuck(wasStuck, stuck)
	return applied
}

func (rcv *receiving) logStuck(was, is string) {
	if is == was {
		return
	}
	attrs := []any{slog.Any("partition", rcv.stream.partition), slog.Any("region", rcv.region.Name)}
	if is == "" {
		rcv.r.log.Info("events from another region are applied again", attrs...)
		return
	}
	rcv.r.log.Error("events from another region cannot be applied", append(attrs, slog.Any("err", is))...)
}

func (rcv *receiving) flow(f *Flow) {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	rcv.mu.core.flow(f, rcv.r.cfg.Clock())
}

// addCounts adds what the receiver counted.
func (rcv *receiving) addCounts(to *Stats) {
	rcv.mu.Lock()
	defer rcv.mu.Unlock()
	c := &rcv.mu.core.counts
	to.Duplicates += c.duplicates
	to.Gaps += c.gaps
	to.Evicted += c.evicted
	to.Fetches += c.fetches
	to.BadBatches += c.refused
	to.Trimmed += c.trimmed
}
