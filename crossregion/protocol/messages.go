package protocol

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Position is the end of one actor's deltas of one partition: of an outbox or of what is applied.
type Position struct {
	Partition topology.PartitionID
	Actor     crdt.Actor
	Seq       uint64
}

// Sender says who speaks, in messages about many partitions.
type Sender struct {
	Cluster string
	Region  topology.RegionID
}

func (s Sender) check(cluster string, region uint32) error {
	if cluster != s.Cluster {
		return fmt.Errorf("message %w: %q", ErrOtherCluster, cluster)
	}
	if region != uint32(s.Region) {
		return fmt.Errorf("message %w: region %d", ErrOtherActor, region)
	}
	return nil
}

// EncodeHeartbeat returns a frame that says how far the outboxes reach that a node leads.
func EncodeHeartbeat(s Sender, node topology.NodeID, heads []Position) ([]byte, error) {
	m := &crossregionv1.Heartbeat{Cluster: s.Cluster, Region: uint32(s.Region), Node: string(node)}
	for _, h := range heads {
		_, epoch := topology.ActorRegion(h.Actor)
		m.Heads = append(m.Heads, &crossregionv1.Head{
			Partition: uint32(h.Partition), Actor: uint32(h.Actor), OutboxEpoch: uint64(epoch), Seq: h.Seq,
		})
	}
	return EncodeFrame(FrameHeartbeat, m)
}

// DecodeHeartbeat reads what EncodeHeartbeat returned, and refuses what is not of the sender.
func DecodeHeartbeat(from Sender, frame []byte) ([]Position, error) {
	var m crossregionv1.Heartbeat
	if err := DecodeFrame(FrameHeartbeat, frame, &m); err != nil {
		return nil, err
	}
	if err := from.check(m.Cluster, m.Region); err != nil {
		return nil, err
	}
	heads := make([]Position, len(m.Heads))
	for i, h := range m.Heads {
		heads[i] = Position{topology.PartitionID(h.Partition), crdt.Actor(h.Actor), h.Seq}
	}
	return heads, nil
}

// EncodeWatermarks returns a frame that says how far a region has applied another's events.
func EncodeWatermarks(s Sender, watermarks []Position) ([]byte, error) {
	m := &crossregionv1.WatermarkReport{Cluster: s.Cluster, Region: uint32(s.Region)}
	for _, w := range watermarks {
		m.Watermarks = append(m.Watermarks, &crossregionv1.PartitionWatermark{
			Partition: uint32(w.Partition), Actor: uint32(w.Actor), Seq: w.Seq,
		})
	}
	return EncodeFrame(FrameWatermarks, m)
}

// DecodeWatermarks reads what EncodeWatermarks returned, and returns also which region says so. It refuses what
// is of another cluster.
func DecodeWatermarks(cluster string, frame []byte) (topology.RegionID, []Position, error) {
	var m crossregionv1.WatermarkReport
	if err := DecodeFrame(FrameWatermarks, frame, &m); err != nil {
		return 0, nil, err
	}
	from := Sender{cluster, topology.RegionID(m.Region & topology.MaxRegionID)}
	if err := from.check(m.Cluster, m.Region); err != nil {
		return 0, nil, err
	}
	watermarks := make([]Position, len(m.Watermarks))
	for i, w := range m.Watermarks {
		watermarks[i] = Position{topology.PartitionID(w.Partition), crdt.Actor(w.Actor), w.Seq}
	}
	return from.Region, watermarks, nil
}

// FetchRequest asks for records from one on. The answer may have a codec up to the given one.
type FetchRequest struct {
	From     uint64
	MaxBytes int
	Codec    uint32
}

// EncodeFetchRequest returns a frame that asks for records of s.
func EncodeFetchRequest(s Stream, r FetchRequest) ([]byte, error) {
	return EncodeFrame(FrameFetchRequest, &crossregionv1.FetchRequest{
		Cluster: s.Cluster, Partition: uint32(s.Partition), Actor: uint32(s.Actor),
		From: r.From, MaxBytes: uint32(r.MaxBytes), Codec: r.Codec,
	})
}

// DecodeFetchRequest reads what EncodeFetchRequest returned, and refuses what is not about s.
func DecodeFetchRequest(s Stream, frame []byte) (FetchRequest, error) {
	var m crossregionv1.FetchRequest
	var none FetchRequest
	if err := DecodeFrame(FrameFetchRequest, frame, &m); err != nil {
		return none, err
	}
	switch {
	case m.Cluster != s.Cluster:
		return none, fmt.Errorf("request %w: %q", ErrOtherCluster, m.Cluster)
	case m.Partition != uint32(s.Partition):
		return none, fmt.Errorf("request %w: %d", ErrOtherPartition, m.Partition)
	case m.Actor != uint32(s.Actor):
		return none, fmt.Errorf("request %w: %d", ErrOtherActor, m.Actor)
	case m.From == 0:
		return none, fmt.Errorf("request: %w: records begin at 1", ErrBadCounts)
	}
	return FetchRequest{m.From, int(min(m.MaxBytes, 1<<20)), m.Codec}, nil
}

// EncodeFetchResponse returns the answer to a FetchRequest for s. What res has as an error is not in it.
func (p *Packer) EncodeFetchResponse(s Stream, res FetchResult) ([]byte, error) {
	m := &crossregionv1.FetchResponse{NothingYet: res.Nothing, TrimmedTo: res.TrimmedTo}
	if len(res.Records) > 0 {
		envelope, err := p.EncodeEnvelope(s, res.Records)
		if err != nil {
			return nil, err
		}
		m.Envelope = envelope
	}
	return EncodeFrame(FrameFetchResponse, m)
}

// DecodeFetchResponse reads what EncodeFetchResponse returned. What is wrong with it is in the result.
func (p *Packer) DecodeFetchResponse(s Stream, frame []byte) FetchResult {
	var m crossregionv1.FetchResponse
	if err := DecodeFrame(FrameFetchResponse, frame, &m); err != nil {
		return FetchResult{Err: err}
	}
	if len(m.Envelope) == 0 {
		return FetchResult{Nothing: m.NothingYet, TrimmedTo: m.TrimmedTo}
	}
	records, err := p.DecodeEnvelope(s, m.Envelope)
	return FetchResult{Records: records, Err: err}
}
