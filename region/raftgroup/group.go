package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
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
	leadershipQueue    = 16
)

// Config is what a group needs; all fields are required but the timeout.
type Config struct {
	// Group numbers the group among the node's: its partition.
	Group uint32
	Self  topology.NodeID
	// Members are the group's first members. They count only if the group has no state yet.
	Members []topology.NodeID
	Log     *raftlog.Group
	Layer   *transport.Layer
	Machine region.StateMachine
	// Dir takes snapshots on their way in. It is on the same file system as the state.
	Dir    string
	Logger *slog.Logger
	// OnFailure is called when the state machine's storage fails: the process must end.
	OnFailure func(error)
	// ElectionTimeout is how long a leader may be silent; 0 means 800 ms and more by the member's place
	// in Members, or 100 ms for a group of one.
	ElectionTimeout time.Duration
}

// Group is this node's member of one Raft group. It is safe for concurrent use.
type Group struct {
	raft   *raft.Raft
	fsm    *fsm
	trans  *network
	logger *slog.Logger
	notify chan bool     // every change of leadership, in order
	ended  chan struct{} // closed when raft has shut down: nothing is answered any more
	log    *raftlog.Group
	logs   logStore
	layer  *transport.Layer
	self   topology.NodeID
	id     raft.ServerID
	// members are the first members, in the same order on every node.
	members []topology.NodeID
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
	g := &Group{
		fsm:    &fsm{machine: c.Machine, log: c.Log, onFailure: c.OnFailure},
		logger: logger,
		notify: make(chan bool, leadershipQueue),
		ended:  make(chan struct{}),
		log:    c.Log,
		layer:  c.Layer, self: c.Self, id: raft.ServerID(c.Self), members: c.Members,
	}
	g.mu.changed = make(chan struct{})
	logs := logStore{c.Log, c.Machine, &logTail{}, c.OnFailure}
	g.logs = logs
	snapshots := &snapshotStore{machine: c.Machine, dir: c.Dir}
	g.trans = newNetwork(c.Layer, c.Self, logger)
	conf := configuration(&c, logger)
	// Raft waits for who reads this channel; Run does at once and all the time. LeaderCh keeps but the
	// latest change, so that losing and regaining the lead would go unseen.
	conf.NotifyCh = g.notify
	c.Log.SetDurable(c.Machine.Durable().Index)
	// A crash can come between installing a snapshot and Raft's forgetting the log before it.
	if _, err := logs.discardStale(c.Machine.Durable()); err != nil {
		return nil, errors.Join(fmt.Errorf("compare log and state: %w", err), g.trans.Close())
	}
	if err := bootstrap(conf, &c, logs, snapshots, g.trans); err != nil {
		return nil, errors.Join(err, g.trans.Close())
	}
	var err error
	if g.raft, err = raft.NewRaft(conf, g.fsm, logs, stableStore{c.Log}, snapshots, g.trans); err != nil {
		return nil, errors.Join(fmt.Errorf("start raft: %w", err), g.trans.Close())
	}
	g.shutdown = sync.OnceValue(g.shutDown)
	return g, nil
}

func configuration(c *Config, logger *slog.Logger) *raft.Config {
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.Self)
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

// bootstrap makes the first configuration, the same on every member, if the member has no state.
func bootstrap(conf *raft.Config, c *Config, logs logStore, snapshots raft.SnapshotStore, trans raft.Transport) error {
	stable := stableStore{c.Log}
	servers := raft.Configuration{}
	for _, m := range c.Members {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(m), Address: raft.ServerAddress(m)})
	}
	exists, err := raft.HasExistingState(logs, stable, snapshots)
	if err != nil {
		return err
	}
	if !exists {
		if err := raft.BootstrapCluster(conf, logs, stable, snapshots, trans, servers); err != nil {
			return fmt.Errorf("bootstrap raft: %w", err)
		}
		return nil
	}
	if c.Log.LastIndex() > 0 || c.Machine.Durable().Index > 0 {
		return nil
	}
	return finishBootstrap(stable, logs, servers)
}

// finishBootstrap repeats the second half of the library's bootstrap, which stores the term 1 and then
// the configuration: after a crash between the two, it would never do anything again. A later term, or
// a vote, means that there was a log once.
func finishBootstrap(stable stableStore, logs logStore, servers raft.Configuration) error {
	term, err := stable.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	vote, err := stable.GetUint64([]byte("LastVoteTerm"))
	if err != nil {
		return err
	}
	if term != 1 || vote != 0 {
		return fmt.Errorf("%w: it is empty, but took part in term %d", errLogLost, term)
	}
	first := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers)}
	if err := logs.StoreLog(first); err != nil {
		return fmt.Errorf("bootstrap raft: %w", err)
	}
	return nil
}

// Run watches the group until ctx ends, and then shuts it down.
func (g *Group) Run(ctx context.Context) error {
	loops, watching := errgroup.WithContext(ctx)
	loops.Go(func() error { g.watchLeadership(watching); return nil })
	loops.Go(func() error { g.takeSnapshots(watching); return nil })
	loops.Go(func() error { g.watchLeader(watching); return nil })
	loops.Go(func() error { g.serveConfirms(watching); return nil })
	<-ctx.Done()
	return errors.Join(g.Close(), loops.Wait())
}

// Close shuts the group down, as the end of Run does. Only a group that is never run needs it; more
// calls do nothing.
func (g *Group) Close() error { return g.shutdown() }

func (g *Group) shutDown() error {
	shutdown := g.raft.Shutdown()
	// Raft waits for all it has begun. Closing the connections ends what waits for a peer, such as a
	// snapshot half received; what waits for a disk that hangs must not keep callers waiting.
	g.trans.CloseStreams()
	closed := g.trans.Close()
	end := sync.OnceFunc(func() { close(g.ended) })
	patience := time.AfterFunc(shutdownPatience, end)
	err := shutdown.Error()
	patience.Stop()
	end()
	return errors.Join(err, closed)
}

// Propose has data committed and applied by this node's state machine; nil says that it is.
// region.ErrNotLeader, region.ErrOverloaded and region.ErrShuttingDown mean that nothing was done;
// region.ErrOutcomeUnknown that it may be, or may yet be. It returns soon after ctx ends, or Run.
func (g *Group) Propose(ctx context.Context, data []byte) error {
	switch {
	case ctx.Err() != nil || g.stopped():
		return region.ErrShuttingDown
	case g.raft.State() != raft.Leader:
		return region.ErrNotLeader
	}
	err := g.await(ctx, func() error {
		f := g.raft.Apply(data, enqueueTimeout)
		if err := f.Error(); err != nil {
			return err
		}
		err, _ := f.Response().(error)
		return err
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return region.ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return region.ErrOverloaded
	default: // leadership lost, shut down, storage failed, given up: the entry may be in the log
		return fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, err)
	}
}

// Barrier returns nil once this node has proved, by committing an entry, that it led the group after
// the call began, and has applied all that was committed before.
func (g *Group) Barrier(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case g.stopped():
		return region.ErrShuttingDown
	case g.raft.State() != raft.Leader:
		return region.ErrNotLeader
	}
	err := g.await(ctx, func() error { return g.raft.Barrier(enqueueTimeout).Error() })
	switch {
	case err == nil && g.fsm.failed.Load():
		return region.ErrShuttingDown // Raft counts as applied what the state machine could not apply
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return region.ErrOverloaded
	case errors.Is(err, raft.ErrRaftShutdown):
		return region.ErrShuttingDown
	default:
		return region.ErrNotLeader
	}
}

func (g *Group) stopped() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// await waits for a future. The library's own wait can last for ever: a future that was enqueued when
// Raft shut down is never answered. The goroutine that is left behind then ends with the process.
func (g *Group) await(ctx context.Context, wait func() error) error {
	answered := make(chan error, 1)
	go func() { answered <- wait() }()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-g.ended:
		return raft.ErrRaftShutdown
	}
}
