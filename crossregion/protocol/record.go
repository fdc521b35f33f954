package protocol

import (
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// Record is one encoded delta of an outbox, or stands for several that follow each other.
type Record struct {
	// Seq is the delta's number: contiguous per actor and partition, from 1. Of several it is the last one's.
	Seq uint64
	// Data is opaque here. Whoever returns or receives a Record may keep but not change it.
	Data []byte
	// First is the first number that the record stands for; 0 if that is Seq.
	First uint64
	// Time is the latest instant of the events that the record stands for, if the destination knows: it is judged by
	// it before it is merged. It is not sent.
	Time hlc.Time
}

// Begin returns the first number that the record stands for.
func (r *Record) Begin() uint64 {
	if r.First == 0 {
		return r.Seq
	}
	return r.First
}

// Several reports whether the record stands for more than one delta.
func (r *Record) Several() bool { return r.Begin() < r.Seq }

// Alike returns those at the beginning of records that can be in one envelope: deltas, or one record that stands
// for several.
func Alike(records []Record) []Record {
	for i := range records {
		if records[i].Several() {
			return records[:max(i, 1)]
		}
	}
	return records
}

// Folder makes one record that stands for contiguous ones, which may stand for several themselves. An error means that they can only
// be sent as they are.
type Folder func(records []Record) (Record, error)

// OutboxState is what a partition's outbox holds: the entries First to Head, none if First is Head+1.
type OutboxState struct {
	// Actor issued the entries.
	Actor       crdt.Actor
	First, Head uint64
	// Bytes is the size of the entries kept. FoldedBytes of them are in records that stand for several, for
	// FoldedEvents of them.
	Bytes, FoldedBytes, FoldedEvents uint64
	// Appended is the size of all entries that were ever in it, as they were then.
	Appended uint64
}

// Watermark says that a region has durably applied an actor's events up to Seq.
type Watermark struct {
	Region topology.RegionID
	Actor  crdt.Actor
	Seq    uint64
}

// ErrTrimmed means that records were asked for that the outbox no longer holds.
var ErrTrimmed = errors.New("the outbox begins after the wanted record")

// BadBatchError is Sink.Merge's answer to records that can never be merged. Any other error of Merge
// is temporary.
type BadBatchError struct {
	Err error
}

// Error says what is wrong with the batch.
func (e *BadBatchError) Error() string { return fmt.Sprintf("bad batch of deltas: %v", e.Err) }

// Unwrap returns what is wrong with the batch.
func (e *BadBatchError) Unwrap() error { return e.Err }

// ClockAheadError is Sink.Merge's answer to records from too far in the future: nothing was done, and the same call
// succeeds when this region's clock has caught up.
type ClockAheadError struct {
	Ahead time.Duration
}

// Error says how far the records are ahead.
func (e *ClockAheadError) Error() string {
	return fmt.Sprintf("the events are %v ahead of this region's clock", e.Ahead)
}

// Unwrap makes it match ErrFutureClock.
func (e *ClockAheadError) Unwrap() error { return ErrFutureClock }

// StreamState identifies a stream and says how far it goes.
type StreamState struct {
	// Incarnation differs between any two streams.
	Incarnation string
	LastSeq     uint64
}
