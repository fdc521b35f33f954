package crossregion

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Hasten shortens the intervals of a replicator that does not run yet.
func Hasten(r *Replicator) {
	t := &r.tuning
	t.retryMost, t.gapWait, t.stallWait = 200*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond
	t.heartbeat, t.streamCheck = 20*time.Millisecond, 50*time.Millisecond
	t.reportWait, t.reportAll, t.ackWait = 10*time.Millisecond, 200*time.Millisecond, 10*time.Millisecond
	t.fetchTimeout = 200 * time.Millisecond
	for _, rep := range r.reporters {
		rep.mu.core = newReporter(r.tuning, r.cfg.Clock())
	}
}

// FetchFrame returns a request for the first records of an outbox.
func FetchFrame(cluster string, p topology.PartitionID, actor crdt.Actor, codec uint32) []byte {
	frame, err := encodeFetchRequest(stream{cluster, p, actor}, fetchRequest{from: 1, maxBytes: 1 << 20, codec: codec})
	if err != nil {
		panic(err)
	}
	return frame
}

// FetchedCodec returns the codec of a response's envelope, and how many records it has.
func FetchedCodec(response []byte) (codec uint32, records int) {
	var m crossregionv1.FetchResponse
	var e crossregionv1.Envelope
	if decodeFrame(frameFetchResponse, response, &m) != nil || decodeFrame(frameEnvelope, m.Envelope, &e) != nil {
		return 0, 0
	}
	return e.Codec, len(e.Deltas)
}
