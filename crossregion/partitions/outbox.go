package partitions

import (
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/region"
)

// ReadOutbox returns contiguous records of a partition's outbox from from on: at least one if there is one, then as
// many as fit in maxBytes. It returns protocol.ErrTrimmed if the outbox begins later. The caller may keep them.
func ReadOutbox(p *region.Partition, from uint64, maxBytes int) ([]protocol.Record, error) {
	read, err := p.ReadOutbox(from, maxBytes)
	if err != nil {
		return nil, err
	}
	// Looked at after reading: what is trimmed by then may have been missing already.
	if state, _ := p.Outbox(); from < state.First || (len(read) > 0 && read[0].First > from) {
		return nil, protocol.ErrTrimmed
	}
	records := make([]protocol.Record, len(read))
	for i, r := range read {
		records[i] = protocol.Record{First: r.First, Seq: r.Seq, Data: r.Data}
	}
	return records, nil
}

// Fold is a protocol.Folder of what outboxes keep.
func Fold(records []protocol.Record) (protocol.Record, error) {
	deltas := make([]region.OutboxRecord, len(records))
	for i, r := range records {
		deltas[i] = region.OutboxRecord{First: r.Begin(), Seq: r.Seq, Data: r.Data}
	}
	data, err := region.FoldOutbox(deltas)
	if err != nil {
		return protocol.Record{}, err
	}
	return protocol.Record{First: records[0].Begin(), Seq: records[len(records)-1].Seq, Data: data}, nil
}

// Watermarks returns watermarks as a partition takes them.
func Watermarks(marks []protocol.Watermark) []region.Watermark {
	converted := make([]region.Watermark, len(marks))
	for i, m := range marks {
		converted[i] = region.Watermark(m)
	}
	return converted
}

// Deltas returns what a partition merges of records.
func Deltas(records []protocol.Record) [][]byte {
	deltas := make([][]byte, len(records))
	for i, r := range records {
		deltas[i] = r.Data
	}
	return deltas
}

// MergeError returns what a partition answered to a merge as receivers tell errors apart: *protocol.ClockAheadError for
// deltas that can be merged later, *protocol.BadBatchError for those that never can, and anything else as it is.
func MergeError(err error) error {
	var ahead *region.ClockAheadError
	var bad *replica.BadDeltaError
	var damaged *crdt.DecodeError
	var closed *region.ClosedError
	switch {
	case errors.As(err, &ahead):
		return &protocol.ClockAheadError{Ahead: ahead.Ahead}
	case errors.As(err, &bad), errors.As(err, &damaged), errors.As(err, &closed):
		return &protocol.BadBatchError{Err: err}
	}
	return err
}
