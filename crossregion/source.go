package crossregion

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
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
}

// first returns the first number that the record stands for.
func (r *Record) first() uint64 {
	if r.First == 0 {
		return r.Seq
	}
	return r.First
}

// several reports whether the record stands for more than one delta.
func (r *Record) several() bool { return r.first() < r.Seq }

// Folder makes one record that stands for contiguous ones, each one delta. An error means that they can only
// be sent as they are.
type Folder func(records []Record) (Record, error)

// OutboxState is what a partition's outbox holds: the entries First to Head, none if First is Head+1.
type OutboxState struct {
	// Actor issued the entries.
	Actor       crdt.Actor
	First, Head uint64
	// Bytes is the size of the entries kept.
	Bytes uint64
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

// Source is the origin's end: the outboxes of the partitions this node leads. All methods are safe
// for concurrent use.
type Source interface {
	// Leadership says whether this node leads the partition, and returns a channel that is closed
	// when that changes.
	Leadership(p topology.PartitionID) (leading bool, changed <-chan struct{})
	// Outbox returns what the outbox holds, committed entries only, and a channel that is closed
	// when Head rises or First does.
	Outbox(p topology.PartitionID) (state OutboxState, changed <-chan struct{})
	// ReadOutbox returns contiguous records from from on: at least one if from <= Head, then as many
	// as fit in maxBytes. It returns ErrTrimmed if from < First and no records if from > Head.
	ReadOutbox(p topology.PartitionID, from uint64, maxBytes int) ([]Record, error)
	// Acknowledge records watermarks through Raft, each by maximum with what is known, and trims
	// the outbox to the least of all registered destinations. An error is temporary.
	Acknowledge(ctx context.Context, p topology.PartitionID, watermarks []Watermark) error
}

// Sink is the destination's end. All methods are safe for concurrent use.
type Sink interface {
	// Applied returns the last of the actor's events that this region has durably applied, all
	// before it included.
	Applied(p topology.PartitionID, actor crdt.Actor) uint64
	// Merge applies records through Raft, in the entry that advances the version vector,
	// and returns what Applied then is. The records follow each other; what was applied already is skipped,
	// of one that stands for several, too, and such may overlap the one before. The answer is
	// *BadBatchError for records that can never be merged; after any other error, which may leave
	// the records applied or not, the caller reads Applied and goes on from there.
	Merge(ctx context.Context, p topology.PartitionID, actor crdt.Actor, records []Record) (applied uint64, err error)
}
