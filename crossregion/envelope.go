package crossregion

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// Bounds of one envelope. A single record may be larger than envelopeBytes.
const (
	envelopeBytes      = 256 << 10
	maxEnvelopeRecords = 16 << 10
	// recordOverhead is what a record costs beside its data, at most.
	recordOverhead = 8
)

// Why an intact frame is refused.
var (
	errOtherCluster   = errors.New("from another cluster")
	errOtherPartition = errors.New("of another partition than its subject")
	errOtherActor     = errors.New("of an actor that is not its origin's")
	errBadCounts      = errors.New("counts and numbers do not agree")
)

// stream names one actor's deltas of one partition, of one deployment.
type stream struct {
	cluster   string
	partition topology.PartitionID
	actor     crdt.Actor
}

// How an envelope has its records: one by one; as one that stands for all; as one, compressed.
const (
	codecPlain = iota
	codecFolded
	codecZipped
	codecNewest = codecZipped
)

// encodeEnvelope encodes records that follow each other: plain ones, or one that stands for several.
func (p *packer) encodeEnvelope(s stream, records []Record) ([]byte, error) {
	_, epoch := topology.ActorRegion(s.actor)
	m := &crossregionv1.Envelope{
		Cluster:     s.cluster,
		Actor:       uint32(s.actor),
		Partition:   uint32(s.partition),
		OutboxEpoch: uint64(epoch), // numbering restarts with a new actor, and only then
		From:        records[0].first(),
		To:          records[len(records)-1].Seq,
		Deltas:      make([][]byte, len(records)),
	}
	for i, r := range records {
		m.Deltas[i] = r.Data
	}
	if records[0].several() {
		m.Codec = codecFolded
		if zipped, ok := p.zip(records[0].Data); ok {
			m.Codec, m.Deltas[0] = codecZipped, zipped
		}
	}
	return encodeFrame(frameEnvelope, m)
}

// decodeEnvelope returns the records of an envelope that belongs to s, at least one.
func (p *packer) decodeEnvelope(s stream, frame []byte) ([]Record, error) {
	var m crossregionv1.Envelope
	if err := decodeFrame(frameEnvelope, frame, &m); err != nil {
		return nil, err
	}
	switch {
	case m.Cluster != s.cluster:
		return nil, fmt.Errorf("envelope %w: %q", errOtherCluster, m.Cluster)
	case m.Partition != uint32(s.partition):
		return nil, fmt.Errorf("envelope %w: %d", errOtherPartition, m.Partition)
	case m.Actor != uint32(s.actor):
		return nil, fmt.Errorf("envelope %w: %d", errOtherActor, m.Actor)
	case m.Codec > codecNewest:
		return nil, fmt.Errorf("%w: codec %d is unknown", errBadFrame, m.Codec)
	}
	if err := checkCounts(&m); err != nil {
		return nil, err
	}
	if m.Codec == codecZipped {
		var err error
		if m.Deltas[0], err = p.unzip(m.Deltas[0]); err != nil {
			return nil, fmt.Errorf("%w: %w", errBadFrame, err)
		}
	}
	if m.Codec != codecPlain {
		return []Record{{First: m.From, Seq: m.To, Data: m.Deltas[0]}}, nil
	}
	records := make([]Record, len(m.Deltas))
	for i, d := range m.Deltas {
		records[i] = Record{Seq: m.From + uint64(i), Data: d}
	}
	return records, nil
}

// checkCounts returns errBadCounts if there are not as many deltas as the numbers say.
func checkCounts(m *crossregionv1.Envelope) error {
	have := uint64(len(m.Deltas))
	count := m.To - m.From + 1
	switch {
	case m.From == 0 || m.To < m.From || count > maxEnvelopeRecords:
	case m.Codec == codecPlain && have == count, m.Codec != codecPlain && have == 1 && count > 1:
		return nil
	}
	return fmt.Errorf("%w: %d deltas for %d to %d", errBadCounts, have, m.From, m.To)
}

// cut returns how many of the records, at least one, stay within the bounds.
func cut(records []Record, maxBytes, maxRecords int) int {
	bytes := 0
	for i, r := range records {
		bytes += len(r.Data) + recordOverhead
		if i > 0 && (bytes > maxBytes || i == maxRecords) {
			return i
		}
	}
	return len(records)
}
