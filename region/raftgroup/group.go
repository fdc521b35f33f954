package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// Timers. A silent leader is noticed after one to two election timeouts. Two members left over of three
// that notice it at once both vote for themselves, and must wait as long again; so each has a timeout
// of its own, by its place among the members. Places differ from group to group, and the first is the
// likeliest to lead, which spreads the leaders too. Pre-vote keeps a member that only believes that
// its leader is gone from disturbing the group. A group of one has nobody to wait for.
const (
	electionTimeout    = 800 * time.Millisecond
	electionStagger    = 200 * time.Millisecond
	aloneTimeout       = 100 * time.Millisecond
	commitTimeout      = 250 * time.Millisecond
	enqueueTimeout     = 5 * time.Second
	appendEntries      = 64
	trailingEntries    = 4096 // never 0: more than can be in flight, or a snapshot's install can livelock
	snapshotLook       = 5 * time.Second
	snapshotBytes      = 64 << 20
	snapshotEntries    = 32 << 10
	neverByCount       = math.MaxInt32
	neverByTime        = 24 * time.Hour
	trailingEntriesMin = 4 * appendEntries
	shutdownPatience   = 2 * time.Second
	handOverPatience   = time.Second
	leadershipQueue    = 16
)

// Config is what a group needs; all fields are required but Incarnation, Budget, Admit and ElectionTimeout.
type Config struct {
	// Group numbers the group among the node's: its partition.
	Group uint32
	Self  topology.NodeID
	// Incarnation is how often this node has lost its logs: it is another member each time. From the
	// first time on, it asks the others for the place of the one that it was.
	Incarnation uint32
	// Members are the group's first members. They count only if the group has no state yet.
	Members []topology.NodeID
	Log     *raftlog.Group
	Layer   *transport.Layer
	Machine region.StateMachine
	// Dir takes snapshots on their way in. It is on the same file system as the state.
	Dir    string
	Logger *slog.Logger
	// Budget bounds what this node's groups spend on sending snapshots; nil means one for this group.
	Budget *Budget
	// OnFailure is called when the state machine's storage fails: the process must end.
	OnFailure func(error)
	// Admit says which nodes may become members besides Members; nil means none. It must not block.
	Admit func(topology.NodeID) bool
	// ElectionTimeout is how long a leader may be silent; 0 means 800 ms and more by the member's place
	// in Members, or 100 ms for a group of one.
	ElectionTimeout time.Duration
}

// Group is this node's member of one Raft group. It is safe for concurrent use.
type Group struct {
	conf      *raft.Config
	fsm       *fsm
	logs      logStore
	log       *raftlog.Group
	snapshots *snapshotStore
	sends     *sends
	layer     *transport.Layer
	logger    *slog.Logger
	self      topology.NodeID
	id        raft.ServerID
	// incarnation is the number in id.
	incarnation uint32
	joined      atomic.Bool // set once the others have taken a later incarnation in
	// members are the first members, in the same order on every node.
	members []topology.NodeID
	admit   func(topology.NodeID) bool

	notify  chan bool     // every change of leadership, in order
	ended   chan struct{} // closed when the group has shut down: nothing is answered any more
	current atomic.Pointer[instance]
	dog     watchdog
	// shutdown shuts raft down, once.
	shutdown func() error

	mu struct {
		sync.Mutex
		ready   uint64 // the term that this node leads, once it is ready; or 0
		changed chan struct{}
	}
}

var errLogLost = errors.New("the log was lost")

// New opens the group's member, and bootstraps it if it has no state. Raft runs from then on, until
// Run has ended or Close is called.
func New(c Config) (*Group, error) {
	logger := c.Logger.With("partition", c.Group)
	if c.Budget == nil {
		c.Budget = NewBudget(0)
	}
	g := &Group{
		conf:      configuration(&c, logger),
		fsm:       &fsm{machine: c.Machine, log: c.Log, onFailure: c.OnFailure, logger: logger},
		log:       c.Log,
		snapshots: &snapshotStore{machine: c.Machine, dir: c.Dir, budget: c.Budget},
		sends:     &sends{budget: c.Budget, logger: logger},
		layer:     c.Layer,
		logger:    logger,
		self:      c.Self, id: serverID(c.Self, c.Incarnation), incarnation: c.Incarnation, members: c.Members, admit: c.Admit,
		notify: make(chan bool, leadershipQueue),
		ended:  make(chan struct{}),
	}
	g.mu.changed = make(chan struct{})
	g.dog.init(g)
	g.logs = logStore{c.Log, c.Machine, &logTail{}, nil}
	g.shutdown = sync.OnceValue(g.shutDown)
	// Raft waits for who reads this channel; Run does at once and all the time. LeaderCh keeps but the
	// latest change, so that losing and regaining the lead would go unseen.
	g.conf.NotifyCh = g.notify
	c.Log.SetDurable(c.Machine.Durable().Index)
	// A crash can come between installing a snapshot and Raft's forgetting the log before it.
	if _, err := g.logs.discardStale(c.Machine.Durable()); err != nil {
		return nil, fmt.Errorf("compare log and state: %w", err)
	}
	if err := ClaimLog(c.Log, c.Incarnation); err != nil {
		return nil, err
	}
	if err := g.bootstrap(&c); err != nil {
		return nil, err
	}
	first, err := g.start()
	if err != nil {
		return nil, err
	}
	g.current.Store(first)
	return g, nil
}

// raft returns the present instance of the library.
func (g *Group) raft() *raft.Raft { return g.current.Load().raft }

// trans returns the present instance's network.
func (g *Group) trans() *network { return g.current.Load().trans }

func configuration(c *Config, logger *slog.Logger) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = serverID(c.Self, c.Incarnation)
	timeout := c.ElectionTimeout
	switch {
	case timeout > 0:
	case len(c.Members) == 1:
		timeout = aloneTimeout
	default:
		timeout = electionTimeout + electionStagger*time.Duration(max(0, slices.Index(c.Members, c.Self)))
	}
	// The lease is no proof of anything here, so it need not be shorter: a leader that steps down
	// because a busy machine answers late helps nobody.
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = timeout, timeout, timeout
	conf.CommitTimeout = commitTimeout
	conf.MaxAppendEntries = appendEntries
	conf.BatchApplyCh = true
	conf.TrailingLogs = trailingEntries
	conf.SnapshotThreshold, conf.SnapshotInterval = neverByCount, neverByTime // Run looks at bytes
	conf.NoSnapshotRestoreOnStart = true                                      // the state is in place already
	conf.RestoreCommittedLogs = false                                         // loses configurations, deadlocks
	conf.PreVoteDisabled = false
	conf.ShutdownOnRemove = true
	conf.NoLegacyTelemetry = true
	conf.Logger = newLogger(logger)
	return conf
}

// Run watches the group until ctx ends, and then hands over if it leads, and shuts it down.
func (g *Group) Run(ctx context.Context) error {
	loops, watching := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context){
		g.watchLeadership, g.takeSnapshots, g.watchLeader, g.serveConfirms, g.serveState, g.serveJoins, g.join, g.dog.run,
	} {
		loops.Go(func() error { loop(watching); return nil })
	}
	<-ctx.Done()
	g.handOver(context.WithoutCancel(ctx)) // bounded: the node must stop soon
	return errors.Join(g.Close(), loops.Wait())
}

// HandOver has another member take over if this one leads, and returns when that is done or has come to nothing. This
// member may lead again later. It is for a node that should not lead.
func (g *Group) HandOver(ctx context.Context) { g.handOver(ctx) }

// handOver has the best follower take over at once, so that nobody waits for an election.
func (g *Group) handOver(ctx context.Context) {
	others, _, _ := g.voters(g.servers())
	if g.raft().State() != raft.Leader || len(others) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	err := g.await(ctx, func(r *raft.Raft) error { return r.LeadershipTransfer().Error() })
	g.logger.Debug("leadership handed over", "err", err)
}

// Close shuts the group down, as the end of Run does. Only a group that is never run needs it; more
// calls do nothing.
func (g *Group) Close() error { return g.shutdown() }

func (g *Group) shutDown() error {
	last := g.dog.retire()
	end := sync.OnceFunc(func() { close(g.ended) })
	// What waits for a disk that hangs must not keep callers waiting.
	patience := time.AfterFunc(shutdownPatience, end)
	err := last.stop()
	patience.Stop()
	end()
	return err
}
