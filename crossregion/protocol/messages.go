package protocol

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Position is the end of one actor's deltas of one partition: of an outbox or of what is applied.
type Position struct {
	Partition topology.PartitionID
	Actor     crdt.Actor
	Seq       uint64
	// Ahead is how far the next event is ahead of the destination's clock, if it is not merged because of that.
	Ahead time.Duration
}

// check returns what is wrong with who a message says it is of, given who proved to have made it.
func (k *Keys) check(cluster string, region uint32, speaker crdt.Actor) error {
	if cluster != k.cluster {
		return fmt.Errorf("message %w: %q", ErrOtherCluster, cluster)
	}
	if proved, _ := topology.ActorRegion(speaker); region != uint32(proved) {
		return fmt.Errorf("message %w: region %d", ErrOtherActor, region)
	}
	return nil
}

// EncodeWatermarks returns a frame that tells another region how far this one has applied its events.
func (k *Keys) EncodeWatermarks(to topology.RegionID, watermarks []Position) ([]byte, error) {
	m := &crossregionv1.WatermarkReport{Cluster: k.cluster, Region: uint32(k.region())}
	for _, w := range watermarks {
		m.Watermarks = append(m.Watermarks, &crossregionv1.PartitionWatermark{
			Partition: uint32(w.Partition), Actor: uint32(w.Actor), Seq: w.Seq, AheadMs: uint64(max(w.Ahead, 0).Milliseconds()),
		})
	}
	return k.Seal(FrameWatermarks, Scope{To: to}, m)
}

// DecodeWatermarks reads what EncodeWatermarks returned for this region, and returns also which region says so.
func (k *Keys) DecodeWatermarks(frame []byte) (topology.RegionID, []Position, error) {
	var m crossregionv1.WatermarkReport
	speaker, err := k.Open(FrameWatermarks, 0, Scope{To: k.region()}, frame, &m)
	if err == nil {
		err = k.check(m.Cluster, m.Region, speaker)
	}
	if err != nil {
		return 0, nil, err
	}
	watermarks := make([]Position, len(m.Watermarks))
	for i, w := range m.Watermarks {
		watermarks[i] = Position{topology.PartitionID(w.Partition), crdt.Actor(w.Actor), w.Seq, aheadFromWire(w.AheadMs)}
	}
	region, _ := topology.ActorRegion(speaker)
	return region, watermarks, nil
}

// FetchRequest asks for records from one on. The answer may have a codec up to the given one.
type FetchRequest struct {
	From     uint64
	MaxBytes int
	Codec    uint32
	// Nonce is drawn at random for every request.
	Nonce uint64
}

// Asked is a request with who asks, and for whose records.
type Asked struct {
	FetchRequest
	By    topology.RegionID
	Actor crdt.Actor
}

// EncodeFetchRequest returns a frame that asks a region for records of s.
func (k *Keys) EncodeFetchRequest(s Stream, to topology.RegionID, r FetchRequest) ([]byte, error) {
	return k.Seal(FrameFetchRequest, Scope{To: to}, &crossregionv1.FetchRequest{
		Cluster: s.Cluster, Partition: uint32(s.Partition), Actor: uint32(s.Actor),
		From: r.From, MaxBytes: uint32(r.MaxBytes), Codec: r.Codec, Nonce: r.Nonce,
	})
}

// DecodeFetchRequest reads what EncodeFetchRequest returned for this region, and refuses what is not about the
// partition, or not about a region that is known.
func (k *Keys) DecodeFetchRequest(p topology.PartitionID, frame []byte) (Asked, error) {
	var m crossregionv1.FetchRequest
	speaker, err := k.Open(FrameFetchRequest, 0, Scope{To: k.region()}, frame, &m)
	if err != nil {
		return Asked{}, err
	}
	about, _ := topology.ActorRegion(crdt.Actor(m.Actor))
	switch {
	case m.Cluster != k.cluster:
		return Asked{}, fmt.Errorf("request %w: %q", ErrOtherCluster, m.Cluster)
	case m.Partition != uint32(p):
		return Asked{}, fmt.Errorf("request %w: %d", ErrOtherPartition, m.Partition)
	case m.Actor == 0 || k.Actor(about) != crdt.Actor(m.Actor):
		return Asked{}, fmt.Errorf("request %w: %d", ErrOtherActor, m.Actor)
	case m.From == 0:
		return Asked{}, fmt.Errorf("request: %w: records begin at 1", ErrBadCounts)
	}
	by, _ := topology.ActorRegion(speaker)
	return Asked{FetchRequest{m.From, int(min(m.MaxBytes, 1<<20)), m.Codec, m.Nonce}, by, crdt.Actor(m.Actor)}, nil
}

// EncodeFetchResponse returns this region's answer to a request for records of s. What res has as an error is not
// in it.
func (p *Packer) EncodeFetchResponse(s Stream, asked Asked, res FetchResult) ([]byte, error) {
	m := &crossregionv1.FetchResponse{NothingYet: res.Nothing, TrimmedTo: res.TrimmedTo}
	if len(res.Records) > 0 {
		envelope, err := p.EncodeEnvelope(s, res.Records)
		if err != nil {
			return nil, err
		}
		m.Envelope = envelope
	}
	return p.keys.Seal(FrameFetchResponse, Scope{To: asked.By, Nonce: asked.Nonce}, m)
}

// EncodeRelayResponse returns this region's answer to a request for another's records: envelopes as their origin made
// them, or that there are none here.
func (p *Packer) EncodeRelayResponse(asked Asked, envelopes [][]byte) ([]byte, error) {
	m := &crossregionv1.FetchResponse{NothingYet: len(envelopes) == 0}
	if len(envelopes) > 0 {
		m.Envelope, m.More = envelopes[0], envelopes[1:]
	}
	return p.keys.Seal(FrameFetchResponse, Scope{To: asked.By, Nonce: asked.Nonce}, m)
}

// DecodeFetchResponse reads what EncodeFetchResponse returned in the region from, for a request of this one with
// the nonce. What is wrong with it is in the result.
func (p *Packer) DecodeFetchResponse(s Stream, from topology.RegionID, nonce uint64, frame []byte) FetchResult {
	var m crossregionv1.FetchResponse
	scope := Scope{To: p.keys.region(), Nonce: nonce}
	if _, err := p.keys.openFrom(from, FrameFetchResponse, scope, frame, &m); err != nil {
		return FetchResult{Err: err}
	}
	if len(m.Envelope) == 0 {
		return FetchResult{Nothing: m.NothingYet, TrimmedTo: m.TrimmedTo}
	}
	res := FetchResult{Envelopes: append([][]byte{m.Envelope}, m.More...)}
	if res.Records, res.Err = p.DecodeEnvelope(s, m.Envelope); res.Err != nil {
		return FetchResult{Err: res.Err}
	}
	for _, envelope := range m.More {
		records, err := p.DecodeEnvelope(s, envelope)
		if err != nil {
			return FetchResult{Err: err}
		}
		res.More = append(res.More, records)
	}
	return res
}
