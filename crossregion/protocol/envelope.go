package protocol

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Bounds of one envelope. A single record may be larger than EnvelopeBytes.
const (
	EnvelopeBytes      = 256 << 10
	MaxEnvelopeRecords = 16 << 10
	// maxRunEvents bounds what one record stands for: more than any region writes in years.
	maxRunEvents = 1 << 40
	// recordOverhead is what a record costs beside its data, at most.
	recordOverhead = 8
)

// Stream names one actor's deltas of one partition, of one deployment.
type Stream struct {
	Cluster   string
	Partition topology.PartitionID
	Actor     crdt.Actor
}

// How an envelope has its records: one by one; as one that stands for all; as one, compressed.
const (
	CodecPlain = iota
	CodecFolded
	CodecZipped
	CodecNewest = CodecZipped
)

// EncodeEnvelope encodes records of this region that follow each other: plain ones, or one that stands for several.
func (p *Packer) EncodeEnvelope(s Stream, records []Record) ([]byte, error) {
	_, epoch := topology.ActorRegion(s.Actor)
	m := &crossregionv1.Envelope{
		Cluster:     s.Cluster,
		Actor:       uint32(s.Actor),
		Partition:   uint32(s.Partition),
		OutboxEpoch: uint64(epoch), // numbering restarts with a new actor, and only then
		From:        records[0].Begin(),
		To:          records[len(records)-1].Seq,
		Deltas:      make([][]byte, len(records)),
	}
	for i, r := range records {
		m.Deltas[i] = r.Data
	}
	if records[0].Several() {
		m.Codec = CodecFolded
		if zipped, ok := p.zip(records[0].Data); ok {
			m.Codec, m.Deltas[0] = CodecZipped, zipped
		}
	}
	return p.keys.Seal(FrameEnvelope, Scope{}, m)
}

// DecodeEnvelope returns the records of an envelope that belongs to s, at least one.
func (p *Packer) DecodeEnvelope(s Stream, frame []byte) ([]Record, error) {
	var m crossregionv1.Envelope
	if _, err := p.keys.Open(FrameEnvelope, s.Actor, Scope{}, frame, &m); err != nil {
		return nil, err
	}
	switch {
	case m.Cluster != s.Cluster:
		return nil, fmt.Errorf("envelope %w: %q", ErrOtherCluster, m.Cluster)
	case m.Partition != uint32(s.Partition):
		return nil, fmt.Errorf("envelope %w: %d", ErrOtherPartition, m.Partition)
	case m.Actor != uint32(s.Actor):
		return nil, fmt.Errorf("envelope %w: %d", ErrOtherActor, m.Actor)
	case m.Codec > CodecNewest:
		return nil, fmt.Errorf("%w: codec %d is unknown", ErrBadFrame, m.Codec)
	}
	if err := checkCounts(&m); err != nil {
		return nil, err
	}
	if m.Codec == CodecZipped {
		var err error
		if m.Deltas[0], err = p.unzip(m.Deltas[0]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadFrame, err)
		}
	}
	if m.Codec != CodecPlain {
		return []Record{{First: m.From, Seq: m.To, Data: m.Deltas[0]}}, nil
	}
	records := make([]Record, len(m.Deltas))
	for i, d := range m.Deltas {
		records[i] = Record{Seq: m.From + uint64(i), Data: d}
	}
	return records, nil
}

// checkCounts returns ErrBadCounts if there are not as many deltas as the numbers say.
func checkCounts(m *crossregionv1.Envelope) error {
	have := uint64(len(m.Deltas))
	count := m.To - m.From + 1
	switch {
	case m.From == 0 || m.To < m.From || count > maxRunEvents:
	case m.Codec == CodecPlain && have == count && count <= MaxEnvelopeRecords, m.Codec != CodecPlain && have == 1 && count > 1:
		return nil
	}
	return fmt.Errorf("%w: %d deltas for %d to %d", ErrBadCounts, have, m.From, m.To)
}

// Cut returns how many of the records, at least one, stay within the bounds.
func Cut(records []Record, maxBytes, maxRecords int) int {
	bytes := 0
	for i, r := range records {
		bytes += len(r.Data) + recordOverhead
		if i > 0 && (bytes > maxBytes || i == maxRecords) {
			return i
		}
	}
	return len(records)
}
