package crossregion

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// Source is the origin's end: the outboxes of the partitions this node leads. All methods are safe
// for concurrent use.
type Source interface {
	// Leadership says whether this node leads the partition, and returns a channel that is closed
	// when that changes.
	Leadership(p topology.PartitionID) (leading bool, changed <-chan struct{})
	// Outbox returns what the outbox holds, committed entries only, and a channel that is closed
	// when Head rises or First does.
	Outbox(p topology.PartitionID) (state protocol.OutboxState, changed <-chan struct{})
	// ReadOutbox returns contiguous records from from on: at least one if from <= Head, then as many
	// as fit in maxBytes. It returns ErrTrimmed if from < First and no records if from > Head.
	ReadOutbox(p topology.PartitionID, from uint64, maxBytes int) ([]protocol.Record, error)
	// Acknowledge records watermarks through Raft, each by maximum with what is known, and trims
	// the outbox to the least of all registered destinations. An error is temporary.
	Acknowledge(ctx context.Context, p topology.PartitionID, watermarks []protocol.Watermark) error
}

// State tells of the states that are replicated. All methods are safe for concurrent use.
type State interface {
	// State returns the version vector and the highest clock of what is applied.
	State(p topology.PartitionID) (crdt.VersionVector, hlc.Time)
	// Digest computes a fingerprint of a consistent view of the state, and returns it with that view's vector. It
	// may take seconds. States with equal vectors have equal digests. The vector is empty if the state is not that of
	// one vector, because a state transfer is not finished.
	Digest(ctx context.Context, p topology.PartitionID) (protocol.Digest, error)
	// Made returns when a record of the outbox was made, by the clock of who made it.
	Made(p topology.PartitionID, seq uint64) (time.Time, error)
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
	Merge(ctx context.Context, p topology.PartitionID, actor crdt.Actor, records []protocol.Record) (applied uint64, err error)
}

// Transfers moves whole states between regions where the deltas are gone. All methods are safe for concurrent use.
type Transfers interface {
	// Transfer returns what the partition's state says of a transfer that is under way. resyncing says that the state is
	// not that of one vector, which may be so without one.
	Transfer(p topology.PartitionID) (at protocol.Transfer, resyncing bool)
	// Lacks reports whether the partition lacks events that are in no outbox of a region that takes part, or has a part of
	// a fenced region's that only a transfer makes whole.
	Lacks(p topology.PartitionID) bool
	// Same reports which of another region's ranges are the same here.
	Same(p topology.PartitionID, ranges []protocol.StateRange) ([]bool, error)
	// Step does a step through Raft, and returns what Transfer then says. Errors after which nothing was done:
	// ErrRangeDiffers, ErrNoTransfer, ErrNothingNew, ErrTransferRefused. After any other, Transfer says what was done; every
	// step may be repeated.
	Step(ctx context.Context, p topology.PartitionID, step protocol.TransferStep) (protocol.Transfer, error)
	// OpenView pins a view of the state for a region, whose number no other view has, and has the outbox keep what
	// comes after it for that region. An error is temporary.
	OpenView(ctx context.Context, p topology.PartitionID, by topology.RegionID) (view uint64, donor []byte, err error)
	// ReadView reads a part of a view, or closes it. Error: ErrNoView.
	ReadView(p topology.PartitionID, want protocol.ResyncRequest) (protocol.ResyncResponse, error)
}

// Audits compares states of one vector. Views are read, and closed, with Transfers.ReadView. All methods are safe for
// concurrent use.
type Audits interface {
	// PinView pins a view of the state for a comparison by a region, which may be this one, and returns its number, which no
	// other view has, and its vector. The one that the region had before goes. An error is temporary.
	PinView(p topology.PartitionID, by topology.RegionID) (view uint64, at crdt.VersionVector, err error)
	// CompareRanges reports which of another region's ranges are the same in a view, and whether the last one ends where
	// the state does. Error: ErrNoView.
	CompareRanges(p topology.PartitionID, view uint64, ranges []protocol.StateRange) (same []bool, atEnd bool, err error)
	// CompareItems returns the values of which a view does not have the same items as another region in a window, and up to
	// where that is known, which is behind the window's beginning. Error: ErrNoView.
	CompareItems(p topology.PartitionID, view uint64, w protocol.ItemWindow) (differ []protocol.DifferingValue, next []byte, err error)
}
