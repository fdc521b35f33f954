package api

import (
	"context"
	"errors"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// Partition is this node's replica of a partition. *region.Partition is one.
type Partition interface {
	// Leader returns who leads, as far as this node knows.
	Leader() (topology.NodeID, bool)
	// Term returns the newest term that this node knows of.
	Term() uint64
	// View returns a summary of what this replica has applied.
	View() *region.MachineView
	// Destinations returns what each other region lacks of the partition's events.
	Destinations() ([]region.OutboxDestination, error)
	// Garbage tells who holds back the removal of what deletions leave.
	Garbage() (region.Garbage, error)
	// Applied returns a channel that is closed when this replica has applied more.
	Applied() <-chan struct{}
	// Observe has later writes be stamped after an instant.
	Observe(t hlc.Time)
	// Write runs operations in order, all or none.
	Write(ctx context.Context, opID string, ops []replica.Op) (region.WriteResult, error)
	// WriteAsync is Write without waiting: done is called once, and must not block. What is still to be
	// proposed when ctx ends is not done.
	WriteAsync(ctx context.Context, opID string, ops []replica.Op, done func(region.WriteResult, error))
	// WriteHome is Write for a namespace that has a home, which this region is if there was no other and first is set.
	WriteHome(ctx context.Context, opID string, ops []replica.Op, first bool) (region.WriteResult, error)
	// AtHome returns nil if what a replica shows of a namespace is what its home shows.
	AtHome(r *replica.Replica, namespace string, first bool) error
	// Home returns what this region knows of a namespace's home.
	Home(ctx context.Context, namespace string, first bool) (region.HomeState, error)
	// MoveHome makes another region the home of a namespace whose home this region is.
	MoveHome(ctx context.Context, namespace string, to topology.RegionID, first bool) error
	// TakeHome makes this region the home of a namespace whose home is closed for good.
	TakeHome(ctx context.Context, namespace string, former topology.RegionID) error
	// WriteLocal acknowledges operations once they are synced to this node's disk.
	WriteLocal(ctx context.Context, opID string, ops []replica.Op) error
	// SubmitQueued has the leader judge encoded writes of a node's queue.
	SubmitQueued(ctx context.Context, writes [][]byte) error
	// Watch follows this replica's changes from a cursor on; an empty one means from now on.
	Watch(cursor []byte) (Feed, error)
	// Future returns a page of the values with events from the future.
	Future(ctx context.Context, q region.FutureQuery) (region.FuturePage, error)
	// Read calls fn with a view that keeps the promise asked for.
	Read(ctx context.Context, o region.ReadOptions, fn func(r *replica.Replica, now hlc.Time) error) (region.ReadInfo, error)
}

// Feed tells of a replica's changes. *region.Feed is one.
type Feed interface {
	// Next waits for the next changes. The error is region.ErrFeedBehind if the caller was too slow.
	Next(ctx context.Context) ([]region.Change, error)
	// Cursor returns where the feed is: behind what Next returned last.
	Cursor() []byte
	// Resync reports whether what happened since the cursor is not known any more.
	Resync() bool
	// Close ends the feed.
	Close()
}

// Hosted returns this node's replica of a partition, or an error that matches region.ErrNotHosted.
type Hosted func(topology.PartitionID) (Partition, error)

// HostedBy returns the replicas of a node's data plane.
func HostedBy(n *region.Node) Hosted {
	return func(id topology.PartitionID) (Partition, error) {
		p, err := n.Partition(id)
		if err != nil {
			return nil, err // not p: a nil *region.Partition is no nil Partition
		}
		return hosted{p}, nil
	}
}

// hosted makes a *region.Partition a Partition.
type hosted struct{ *region.Partition }

// Watch follows the partition's changes.
func (h hosted) Watch(cursor []byte) (Feed, error) {
	feed, err := h.Partition.Watch(cursor)
	if err != nil {
		return nil, err // not feed: a nil *region.Feed is no nil Feed
	}
	return feed, nil
}

// Replication tells how far regions are apart.
type Replication interface {
	// Flows returns the flows of a partition into and out of this region, as this node knows them.
	Flows(topology.PartitionID) []Flow
	// Refused returns what this node has refused since it started.
	Refused() []Refused
	// Audit has the state of a partition that this node leads compared with another region's, if start, and returns that
	// audit's number and state 0; else it returns the last audit, of number 0 if there was none.
	// Errors: region.ErrNotLeader, ErrNoAudits.
	Audit(p topology.PartitionID, with topology.RegionID, start bool) (Audit, error)
}

// ErrNoAudits means that the node compares no states with other regions.
var ErrNoAudits = errors.New("this node compares no states with other regions")

// Audit is what is known of how a partition's states in two regions differ.
type Audit struct {
	Number uint64
	// State is 0 if nothing is known.
	State AuditState
	// Vector is what both have applied.
	Vector crdt.VersionVector
	// Ranges were compared, with Items items in the other region, and Differing of them are not the same. Bytes is what the
	// other region has sent.
	Ranges, Differing, Items, Bytes uint64
	// Values are the first that differ, seen from this region; More says that there are more.
	Values []replica.Difference
	More   bool
	// Attempts counts how often the states were looked at in vain, Why says what went wrong last.
	Attempts int
	Why      string
}

// AuditState says how far an audit is.
type AuditState int

// The states of audits.
const (
	AuditRunning AuditState = iota + 1
	AuditEqual
	AuditDiffers
	AuditFailed
)

// Refused counts messages of other regions that were not taken.
type Refused struct {
	// Source is the region they came from or claimed to be of; 0 if it is none that is known.
	Source topology.RegionID
	// Partition is what they were about, unless AllPartitions.
	Partition     topology.PartitionID
	AllPartitions bool
	Reason        string
	Count         uint64
}

// ClockOffset is how far the clock of another node is ahead of this node's.
type ClockOffset struct {
	Region topology.RegionID
	Node   topology.NodeID
	Ahead  time.Duration
	// Uncertainty is how far Ahead may be from the truth, either way.
	Uncertainty time.Duration
}

// Clocks says what a node knows of its own clock and of others'.
type Clocks struct {
	// Unsafe says that the node takes no writes because of its clock, which is off by Drift, and Why.
	Unsafe bool
	Drift  time.Duration
	Why    string
	// Offsets are those that were measured lately; a clock that is not among them is unknown.
	Offsets []ClockOffset
}

// Flow says how far one region has applied another's events of one partition.
type Flow struct {
	Source, Destination topology.RegionID
	// Applied is the last event the destination is known to have applied, Head the last the source is
	// known to have issued.
	Applied, Head uint64
	// First and OutboxBytes are where the source's outbox begins, and how much it keeps.
	First, OutboxBytes uint64
	// LagBytes is the size of what the destination lacks, if BytesKnown.
	LagBytes   uint64
	BytesKnown bool
	// Heard is when the other side was last heard of; zero means never.
	Heard time.Time
	// Unknown means that nothing was heard for so long that the figures say little.
	Unknown bool
	// Behind is for how long the destination has lacked an event that Head counts.
	Behind time.Duration
	// Stuck says why the flow cannot go on without help; empty if it can.
	Stuck string
	// Diverged says that both ends have applied the same events and differ; empty if that was not seen. Audit says in what.
	Diverged string
	Audit    Audit
	// Ahead is how far the source's next event is ahead of the destination's clock, if it waits for that.
	Ahead time.Duration
}
