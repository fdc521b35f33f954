package region

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// Group is one partition's Raft group as the data plane uses it.
type Group interface {
	// ProposeAsync has data committed and applied by this node's state machine, and calls done once it
	// is, or with why not: ErrNotLeader, ErrOverloaded and ErrShuttingDown mean that nothing was done,
	// any other error that it may have been.
	ProposeAsync(data []byte, done func(error))
	// ConfirmLeader returns nil once this node has proved that it led the group after the call began,
	// and has applied everything that was acknowledged before.
	ConfirmLeader(ctx context.Context) error
	// ConfirmFollower returns nil once the leader has proved the same of itself, and this node has
	// applied as much as it had.
	ConfirmFollower(ctx context.Context) error
	// ConfirmMajority returns nil once this node has applied everything that a majority may have
	// acknowledged before the call. It needs no leader unless an entry is in doubt.
	ConfirmMajority(ctx context.Context) error
	// Leader returns who leads, in which term, as far as this node knows.
	Leader() (leader topology.NodeID, term uint64, known bool)
	// Leadership returns whether this node leads and has applied everything of earlier leaders, and a
	// channel that is closed at the next change.
	Leadership() (leading bool, changed <-chan struct{})
}

// DefaultClockAhead is how far in the future a delta's clock may be. A region whose clock is further
// ahead would win every conflict from then on.
const DefaultClockAhead = 10 * time.Second

// Partition is this node's replica of one partition. It is safe for concurrent use.
type Partition struct {
	id           topology.PartitionID
	machine      *Machine
	group        Group
	clock        *hlc.Clock
	wall         func() time.Time
	destinations []topology.RegionID
	batcher      *batcher
	confirmer    *confirmer
	exports      *exports
	queue        LocalQueue
	quota        uint64
	lowDisk      func() bool
	ticks        *tickRequests
	clockAhead   time.Duration
	fenced       func() error
	leases       Leases
	logger       *slog.Logger
}

// PartitionConfig is what a partition needs.
type PartitionConfig struct {
	ID      topology.PartitionID
	Machine *Machine
	Group   Group
	Clock   *hlc.Clock
	// Wall reads like time.Now: durations are measured with it.
	Wall func() time.Time
	// Proposer is a random number that names this process.
	Proposer uint64
	// Destinations are the regions that must have a delta before it may leave the outbox.
	Destinations []topology.RegionID
	// OutboxQuota bounds the outbox, in bytes; 0 means DefaultOutboxQuota. A region that lacks more is evicted.
	OutboxQuota uint64
	// Queue keeps local writes; without one they are refused.
	Queue LocalQueue
	// LowDisk reports whether the disk has too little free space for writes; nil means never.
	LowDisk func() bool
	// ClockAhead is how far in the future a delta of another region may be; 0 means DefaultClockAhead.
	ClockAhead time.Duration
	// ClockSafe returns a *ClockUnsafeError while the clock cannot be trusted: nothing is proposed then. Nil means
	// that it always can.
	ClockSafe func() error
	// Fenced returns why this region writes no more, beside what the membership says, an error that matches ErrFenced, or
	// nil; it is asked before each write, and is quick. Optional.
	Fenced func() error
	// Leases say whether regions may act as homes; nil means that they always may, because none is ever given up.
	Leases Leases
	Logger *slog.Logger
}

// NewPartition returns a partition; Run serves it.
func NewPartition(c PartitionConfig) *Partition {
	p := &Partition{
		id: c.ID, machine: c.Machine, group: c.Group, clock: c.Clock, wall: c.Wall, destinations: c.Destinations,
		batcher:   newBatcher(c.Proposer, c.Machine, c.Group, c.Clock),
		confirmer: newConfirmer(c.Group, c.Wall),
		exports:   newExports(c.Machine, c.Wall, c.Proposer),
		queue:     c.Queue, quota: cmp.Or(c.OutboxQuota, DefaultOutboxQuota), lowDisk: c.LowDisk, ticks: newTickRequests(),
		clockAhead: cmp.Or(c.ClockAhead, DefaultClockAhead), fenced: c.Fenced, leases: c.Leases,
		logger: c.Logger.With("partition", c.ID),
	}
	p.batcher.shipsNowhere = len(c.Destinations) == 0
	if c.ClockSafe != nil {
		p.batcher.clockSafe = c.ClockSafe
	}
	return p
}

// Run serves the partition until ctx ends. flushes bounds how many partitions write at once.
func (p *Partition) Run(ctx context.Context, flushes *semaphore.Weighted) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.batcher.Run(ctx) })
	for _, r := range []*rounds{p.confirmer.leader, p.confirmer.follower, p.confirmer.majority} {
		g.Go(func() error { return r.Run(ctx) })
	}
	g.Go(func() error { return p.expireLoop(ctx) })
	g.Go(func() error { return p.outboxLoop(ctx) })
	g.Go(func() error { return p.tickLoop(ctx) })
	g.Go(func() error { return p.flushLoop(ctx, flushes) })
	err := g.Wait()
	return errors.Join(err, p.exports.closeIf(func(uint64, *export) bool { return true }))
}

// ID returns the partition's number.
func (p *Partition) ID() topology.PartitionID { return p.id }

// Leader returns who leads the partition, as far as this node knows.
func (p *Partition) Leader() (topology.NodeID, bool) {
	leader, _, known := p.group.Leader()
	return leader, known
}

// Term returns the newest Raft term that this node knows of.
func (p *Partition) Term() uint64 {
	_, term, _ := p.group.Leader()
	return term
}

// Leadership returns whether this node leads, and a channel that is closed at the next change.
func (p *Partition) Leadership() (leading bool, changed <-chan struct{}) {
	return p.group.Leadership()
}

// View returns a summary of what this replica has applied.
func (p *Partition) View() *MachineView { return p.machine.View() }

// Applied returns a channel that is closed when this replica has applied more. Take it before looking at
// View, or what is applied between the two goes unnoticed.
func (p *Partition) Applied() <-chan struct{} { return p.machine.applied.changed() }

// Observe has every write that this node proposes from now on be stamped later than an instant. The caller
// has seen to it that the instant can be believed.
func (p *Partition) Observe(t hlc.Time) { p.clock.Observe(t) }

// WriteResult is the answer to a write.
type WriteResult struct {
	// Outcomes has one entry per operation, in the same order.
	Outcomes []replica.Outcome
	// Repeated says that the op_id was known: these are the first answer's outcomes, and nothing was
	// done now.
	Repeated bool
	// Elsewhere says of a repeated write that another region executed it, and this one has applied what it did: of
	// the outcomes no more is known than versions, and not those of a write of many operations.
	Elsewhere bool
}

// Write runs operations in order, all or none. A nil error promises that they are durable on a
// majority of the partition's replicas in this region, and visible to every linearizable read in the
// region from now on.
//
// Errors after which nothing was done: *NotLeaderError, ErrOverloaded, ErrDiskFull, *ClockUnsafeError, ErrFenced, ErrShuttingDown,
// ctx's own, ErrOpIDReused, and *replica.OpError, which names the operation that was refused.
// ErrOutcomeUnknown means that the write may or may not take effect; only a retry with the same opID is
// safe then.
func (p *Partition) Write(ctx context.Context, opID string, ops []replica.Op) (WriteResult, error) {
	decides := p.decides(ops)
	return p.write(ctx, writeCommand(opID, ops), decides, decides)
}

// write has a command run. asHome says that this region may run it only as long as it may act as a home, and answersAsHome that
// it may answer only as long.
func (p *Partition) write(ctx context.Context, command *logv1.Command, asHome, answersAsHome bool) (WriteResult, error) {
	err := p.writable()
	if err == nil && asHome {
		err = p.leased()
	}
	if err != nil {
		return WriteResult{}, err
	}
	r, err := p.batcher.do(ctx, command)
	if answersAsHome {
		err = p.homeAnswer(err)
	}
	if err != nil {
		return WriteResult{}, err
	}
	return WriteResult{Outcomes: r.outcomes, Repeated: r.repeated, Elsewhere: r.elsewhere}, nil
}

// WriteAsync is Write, whose answer goes to done: once, perhaps before WriteAsync returns, and from a
// goroutine that must not be kept. When ctx ends, a write that still waits is given up; one that is
// proposed is answered when its outcome is known.
func (p *Partition) WriteAsync(ctx context.Context, opID string, ops []replica.Op, done func(WriteResult, error)) {
	err := p.writable()
	decides := p.decides(ops)
	if err == nil && decides {
		err = p.leased()
	}
	if err == nil {
		err = p.batcher.enqueue(&request{abandoned: ctx.Err, command: writeCommand(opID, ops), done: func(a answer) {
			if decides {
				a.err = p.homeAnswer(a.err)
			}
			if a.err != nil {
				done(WriteResult{}, a.err)
				return
			}
			done(WriteResult{Outcomes: a.result.outcomes, Repeated: a.result.repeated, Elsewhere: a.result.elsewhere}, nil)
		}})
	}
	if err != nil {
		done(WriteResult{}, err)
	}
}

// writable returns why this node takes no writes of clients now, or nil.
func (p *Partition) writable() error {
	if err := p.leading(); err != nil {
		return err
	}
	if p.diskFull() {
		return ErrDiskFull
	}
	return p.muted()
}

// muted returns ErrFenced if this region writes no more.
func (p *Partition) muted() error {
	if p.fenced != nil {
		if err := p.fenced(); err != nil { // it has the reason
			return err
		}
	}
	if view := p.machine.View(); view.Facts.mute(view.Outbox.Actor) {
		return ErrFenced
	}
	return nil
}

func (p *Partition) diskFull() bool { return p.lowDisk != nil && p.lowDisk() }

func (p *Partition) leading() error {
	if leading, _ := p.group.Leadership(); !leading {
		leader, _ := p.Leader()
		return &NotLeaderError{Leader: leader}
	}
	return nil
}

// Merge applies deltas of another region's actor, and runs of them, each of which follows on the one before
// or overlaps it. It returns the actor's sequence number reached, which this region has applied durably by
// then. What was applied before is skipped.
//
// Errors after which nothing was done: *NotLeaderError, ErrOverloaded, ErrDiskFull,
// ErrShuttingDown, *ClockAheadError, *ClockUnsafeError, ErrClosing, *ClosedError, ctx's own, *replica.GapError, *replica.BadDeltaError. After ErrOutcomeUnknown, ask
// View and go on from there.
func (p *Partition) Merge(ctx context.Context, actor crdt.Actor, deltas [][]byte) (uint64, error) {
	command, err := p.mergeCommand(actor, deltas)
	if err != nil {
		return 0, err
	}
	r, err := p.batcher.do(ctx, command)
	return r.applied, err
}

// mergeCommand returns what Merge proposes, or why it does not.
func (p *Partition) mergeCommand(actor crdt.Actor, deltas [][]byte) (*logv1.Command, error) {
	if err := p.leading(); err != nil {
		return nil, err
	}
	if p.diskFull() {
		return nil, ErrDiskFull
	}
	if err := p.checkClock(deltas); err != nil {
		return nil, err
	}
	command := &logv1.MergeCommand{Actor: uint32(actor), Deltas: deltas}
	return &logv1.Command{Command: &logv1.Command_Merge{Merge: command}}, nil
}

// checkClock refuses deltas from too far in the future. It is asked before they are proposed, and so before this
// region's clock can observe them.
func (p *Partition) checkClock(deltas [][]byte) error {
	latest := hlc.Time(0)
	for _, data := range deltas {
		at, err := replica.TimeOf(data)
		if err != nil {
			return err
		}
		latest = max(latest, at)
	}
	if ahead := latest.Wall().Sub(p.clock.Wall()); ahead > p.clockAhead {
		return &ClockAheadError{Ahead: ahead}
	}
	return nil
}

// Outbox returns which deltas wait for other regions, and a channel that is closed at the next
// change.
func (p *Partition) Outbox() (OutboxState, <-chan struct{}) {
	changed := p.machine.outboxChanged.changed()
	return p.machine.View().Outbox, changed
}

// ReadOutbox returns records from that on which has an event, up to maxBytes, but at least one if there is one. A
// run may begin before the event.
func (p *Partition) ReadOutbox(from uint64, maxBytes int) ([]OutboxRecord, error) {
	return p.machine.ReadOutbox(from, maxBytes)
}
