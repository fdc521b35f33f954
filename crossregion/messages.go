package crossregion

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// position is the end of one actor's deltas of one partition: of an outbox or of what is applied.
type position struct {
	partition topology.PartitionID
	actor     crdt.Actor
	seq       uint64
}

// sender says who speaks, in messages about many partitions.
type sender struct {
	cluster string
	region  topology.RegionID
}

func (s sender) check(cluster string, region uint32) error {
	if cluster != s.cluster {
		return fmt.Errorf("message %w: %q", errOtherCluster, cluster)
	}
	if region != uint32(s.region) {
		return fmt.Errorf("message %w: region %d", errOtherActor, region)
	}
	return nil
}

func encodeHeartbeat(s sender, node topology.NodeID, heads []position) ([]byte, error) {
	m := &crossregionv1.Heartbeat{Cluster: s.cluster, Region: uint32(s.region), Node: string(node)}
	for _, h := range heads {
		_, epoch := topology.ActorRegion(h.actor)
		m.Heads = append(m.Heads, &crossregionv1.Head{
			Partition: uint32(h.partition), Actor: uint32(h.actor), OutboxEpoch: uint64(epoch), Seq: h.seq,
		})
	}
	return encodeFrame(frameHeartbeat, m)
}

func decodeHeartbeat(from sender, frame []byte) ([]position, error) {
	var m crossregionv1.Heartbeat
	if err := decodeFrame(frameHeartbeat, frame, &m); err != nil {
		return nil, err
	}
	if err := from.check(m.Cluster, m.Region); err != nil {
		return nil, err
	}
	heads := make([]position, len(m.Heads))
	for i, h := range m.Heads {
		heads[i] = position{topology.PartitionID(h.Partition), crdt.Actor(h.Actor), h.Seq}
	}
	return heads, nil
}

func encodeWatermarks(s sender, watermarks []position) ([]byte, error) {
	m := &crossregionv1.WatermarkReport{Cluster: s.cluster, Region: uint32(s.region)}
	for _, w := range watermarks {
		m.Watermarks = append(m.Watermarks, &crossregionv1.PartitionWatermark{
			Partition: uint32(w.partition), Actor: uint32(w.actor), Seq: w.seq,
		})
	}
	return encodeFrame(frameWatermarks, m)
}

func decodeWatermarks(cluster string, frame []byte) (topology.RegionID, []position, error) {
	var m crossregionv1.WatermarkReport
	if err := decodeFrame(frameWatermarks, frame, &m); err != nil {
		return 0, nil, err
	}
	from := sender{cluster, topology.RegionID(m.Region & topology.MaxRegionID)}
	if err := from.check(m.Cluster, m.Region); err != nil {
		return 0, nil, err
	}
	watermarks := make([]position, len(m.Watermarks))
	for i, w := range m.Watermarks {
		watermarks[i] = position{topology.PartitionID(w.Partition), crdt.Actor(w.Actor), w.Seq}
	}
	return from.region, watermarks, nil
}

// fetchRequest asks for records from one on. The answer may have a codec up to the given one.
type fetchRequest struct {
	from     uint64
	maxBytes int
	codec    uint32
}

func encodeFetchRequest(s stream, r fetchRequest) ([]byte, error) {
	return encodeFrame(frameFetchRequest, &crossregionv1.FetchRequest{
		Cluster: s.cluster, Partition: uint32(s.partition), Actor: uint32(s.actor),
		From: r.from, MaxBytes: uint32(r.maxBytes), Codec: r.codec,
	})
}

func decodeFetchRequest(s stream, frame []byte) (fetchRequest, error) {
	var m crossregionv1.FetchRequest
	var none fetchRequest
	if err := decodeFrame(frameFetchRequest, frame, &m); err != nil {
		return none, err
	}
	switch {
	case m.Cluster != s.cluster:
		return none, fmt.Errorf("request %w: %q", errOtherCluster, m.Cluster)
	case m.Partition != uint32(s.partition):
		return none, fmt.Errorf("request %w: %d", errOtherPartition, m.Partition)
	case m.Actor != uint32(s.actor):
		return none, fmt.Errorf("request %w: %d", errOtherActor, m.Actor)
	case m.From == 0:
		return none, fmt.Errorf("request: %w: records begin at 1", errBadCounts)
	}
	return fetchRequest{m.From, int(min(m.MaxBytes, 1<<20)), m.Codec}, nil
}

func (p *packer) encodeFetchResponse(s stream, res fetchResult) ([]byte, error) {
	m := &crossregionv1.FetchResponse{NothingYet: res.nothing, TrimmedTo: res.trimmedTo}
	if len(res.records) > 0 {
		envelope, err := p.encodeEnvelope(s, res.records)
		if err != nil {
			return nil, err
		}
		m.Envelope = envelope
	}
	return encodeFrame(frameFetchResponse, m)
}

func (p *packer) decodeFetchResponse(s stream, frame []byte) fetchResult {
	var m crossregionv1.FetchResponse
	if err := decodeFrame(frameFetchResponse, frame, &m); err != nil {
		return fetchResult{err: err}
	}
	if len(m.Envelope) == 0 {
		return fetchResult{nothing: m.NothingYet, trimmedTo: m.TrimmedTo}
	}
	records, err := p.decodeEnvelope(s, m.Envelope)
	return fetchResult{records: records, err: err}
}
