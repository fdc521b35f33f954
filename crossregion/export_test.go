package crossregion

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Hasten shortens the intervals of a replicator that does not run yet, and tunes it further.
func Hasten(r *Replicator, tune ...func(*protocol.Tuning)) {
	t := &r.tuning
	t.RetryMost, t.GapWait, t.StallWait = 200*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	t.TickEvery, t.StreamCheck = 20*time.Millisecond, 50*time.Millisecond
	t.ReportWait, t.ReportAll, t.AckWait = 10*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond
	t.RelayAfter = 100 * time.Millisecond
	t.FetchTimeout = 200 * time.Millisecond
	t.DigestQuiet, t.DigestEvery, t.DigestAgain, t.DetailEvery = 40*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
	for _, further := range tune {
		further(t)
	}
	for _, rep := range r.reporters {
		rep.mu.core = protocol.NewReporter(r.tuning, r.cfg.Clock())
	}
}

// Keys returns a replicator's.
func Keys(r *Replicator) *protocol.Keys { return r.keys }

// FetchFrame returns a request for the first records of another region's outbox.
func FetchFrame(r *Replicator, p topology.PartitionID, actor crdt.Actor, codec uint32) []byte {
	return FetchFrameFrom(r, p, actor, codec, 1)
}

// FetchFrameFrom returns a request for the records of another region's outbox from one on.
func FetchFrameFrom(r *Replicator, p topology.PartitionID, actor crdt.Actor, codec uint32, from uint64) []byte {
	region, _ := topology.ActorRegion(actor)
	frame, err := r.keys.EncodeFetchRequest(r.stream(p, actor), region, protocol.FetchRequest{From: from, MaxBytes: 1 << 20, Codec: codec})
	if err != nil {
		panic(err)
	}
	return frame
}

// FetchedTrimmedTo returns from where on a response says that the outbox has what was asked for.
func FetchedTrimmedTo(r *Replicator, response []byte) uint64 {
	var m crossregionv1.FetchResponse
	if _, err := r.keys.Open(protocol.FrameFetchResponse, 0, protocol.Scope{To: r.cfg.Self}, response, &m); err != nil {
		panic(err)
	}
	return m.TrimmedTo
}

// FetchedCodec returns the codec of a response's envelope, and how many records it has.
func FetchedCodec(r *Replicator, response []byte) (codec uint32, records int) {
	var m crossregionv1.FetchResponse
	var e crossregionv1.Envelope
	if _, err := r.keys.Open(protocol.FrameFetchResponse, 0, protocol.Scope{To: r.cfg.Self}, response, &m); err != nil {
		return 0, 0
	}
	if _, err := r.keys.Open(protocol.FrameEnvelope, 0, protocol.Scope{}, m.Envelope, &e); err != nil {
		return 0, 0
	}
	return e.Codec, len(e.Deltas)
}
