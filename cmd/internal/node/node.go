// Package node puts one Atoll server together: its data directory, the partitions that it holds,
// their Raft groups, replication to other regions, and the API.
package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/cmd/internal/members"
	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/crossregion/jetstream"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/keyring"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/api"
	"github.com/atolldb/atoll/region/drift"
	"github.com/atolldb/atoll/region/localqueue"
	"github.com/atolldb/atoll/region/raftgroup"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/reserve"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// minPartitionBuffer holds the largest entry twice.
	minPartitionBuffer = 16 << 20
	// flushFraction of a partition's buffer is written at once, so that there is room meanwhile.
	flushFraction = 4
)

// errLogMissing means that a part of the data directory was deleted under the rest.
var errLogMissing = errors.New("the Raft log and the partition's state do not fit together; part of the data directory is missing")

// Config is what one node needs. All fields but NATS, TLS, Dead, RemoteURLs, Keys and those for which 0 or nil means
// something are required.
type Config struct {
	Cluster *topology.Cluster
	Node    topology.NodeID
	DataDir string
	NATS    NATS
	// TLS encrypts the connections between the region's nodes; nil leaves them plain.
	TLS *tls.Config
	// MinFreeBytes is the free disk space below which no writes are taken; 0 means never.
	MinFreeBytes uint64
	// WriteBufferBytes bounds, over all partitions, what is not in the state files yet; 0 means 32 MiB
	// each.
	WriteBufferBytes int64
	// OutboxQuotaBytes bounds the outbox of one partition; 0 means region.DefaultOutboxQuota.
	OutboxQuotaBytes uint64
	// Dead are regions to be declared dead by hand; see DeclaredDead.
	Dead DeclaredDead
	// RemoteURLs overrides how this node reaches the NATS of other regions.
	RemoteURLs map[topology.RegionID][]string
	// Keys authenticate what regions say to each other, and session tokens, the same in all of them; nil means
	// keys of the cluster's name, which stop nobody.
	Keys *keyring.Ring
	// Clock reads like time.Now.
	Clock func() time.Time
	// ClockSource reads the clocks that instants are made by; nil means Clock.
	ClockSource hlc.Source
	// MaxClockOffset is how far the clocks of the region's nodes may be apart, 0 means 500 ms; MaxClockAhead how far in
	// the future events of other regions may be, 0 means 10 s.
	MaxClockOffset, MaxClockAhead time.Duration
	Logger                        *slog.Logger
}

// NATS says where this region's JetStream runs.
type NATS struct {
	// URL is an external server; empty means one embedded in this node.
	URL string
	// MaxStoreBytes bounds what an embedded server stores.
	MaxStoreBytes int64
}

// Node is one server. Open makes it, Run serves, Close releases everything.
type Node struct {
	cfg    Config
	region *topology.Region
	self   *topology.Node
	clock  *hlc.Clock
	source hlc.Source
	steady *hlc.Steady // clock is over it
	drift  *drift.Monitor
	yields chan struct{} // has room for one: leadership is to be given away
	fatal  chan error    // the first failure of a disk

	dir *dataDir
	log *raftlog.Log
	// incarnation is how often the log was lost.
	incarnation uint32
	disk        *reserve.Watcher
	stores      []*store.Store
	mux         *transport.Mux
	groups      []*raftgroup.Group
	budget      *raftgroup.Budget // of snapshots on their way to other nodes
	queues      []*localqueue.Queue
	partitions  []*region.Partition
	data        *region.Node
	listener    net.Listener
	grpc        net.Listener // nil without a second port
	api         *api.Server
	nats        *jetstream.Server
	link        *jetstream.Link
	replication *crossregion.Config // without regions; nil in a deployment of one
	replicator  atomic.Pointer[crossregion.Replicator]
	muted       atomic.Pointer[region.FencedError] // why this region writes nothing; nil if it may
	loss        loss
	voter       *members.Host   // nil but on the region's first node
	share       *members.Share  // nil if nothing is decided about regions
	leases      *members.Leases // nil like share
}

// Open locks the data directory, opens everything in it and the listeners, and starts nothing else.
//
// Errors: ErrDataDirLocked, ErrForeignDataDir, *store.CorruptError, *raftlog.CorruptError, and those
// of listeners that cannot be had.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	n, err := open(ctx, cfg)
	if errors.Is(err, errGivenUp) { // once: the log is new now
		n, err = open(ctx, cfg)
	}
	return n, err
}

// open is one attempt. Its error is errGivenUp too if the next one will do without the log.
func open(ctx context.Context, cfg Config) (*Node, error) {
	self, home, ok := cfg.Cluster.Node(cfg.Node)
	if !ok {
		return nil, fmt.Errorf("node %s is in no region of the cluster", cfg.Node)
	}
	n := &Node{
		cfg: cfg, region: home, self: self,
		yields: make(chan struct{}, 1),
		budget: raftgroup.NewBudget(0),
		fatal:  make(chan error, 1),
		loss:   loss{suspicions: make(chan suspicion, 1)},
	}
	n.cfg.Logger = cfg.Logger.With("region", home.Name, "node", cfg.Node)
	for _, step := range []func(context.Context) error{
		n.openKeys, n.openData, n.openClock, n.openPartitions, n.openMembership, n.openReplication, n.openAPI,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(n.noteDamage(err), n.Close())
		}
	}
	return n, nil
}

// openKeys makes do without a secret if there is none.
func (n *Node) openKeys(context.Context) (err error) {
	if n.cfg.Keys == nil {
		n.cfg.Keys, err = keyring.Public(n.cfg.Cluster.Name)
	}
	if err == nil && !n.cfg.Keys.Authenticates() {
		n.cfg.Logger.Warn("the deployment has no secret: neither what regions say to each other nor session tokens are authenticated")
	}
	return err
}

// fail ends the server: after a failed write nobody knows what the disk holds.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

func (n *Node) openData(context.Context) (err error) {
	id := identity{
		Cluster: n.cfg.Cluster.Name, Region: n.region.Name, RegionID: n.region.ID, Epoch: n.region.Epoch,
		Node: n.cfg.Node, Partitions: n.cfg.Cluster.Partitions, ReplicationFactor: n.cfg.Cluster.Replicas(n.region),
	}
	for _, other := range n.region.Nodes {
		id.Nodes = append(id.Nodes, other.ID)
	}
	n.dir, err = openDataDir(n.cfg.DataDir, id)
	if err != nil {
		return err
	}
	replicas := n.cfg.Cluster.Replicas(n.region)
	if n.log, n.incarnation, err = n.dir.openLog(replicas, raftlog.Options{Logger: n.cfg.Logger, OnFailure: n.fail}); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if n.disk, err = reserve.New(reserve.Config{Dir: n.cfg.DataDir, MinBytes: n.cfg.MinFreeBytes, Logger: n.cfg.Logger}); err != nil {
		return err
	}
	n.mux, err = transport.Listen(transport.Config{
		Cluster: n.cfg.Cluster.Name, Self: n.cfg.Node, Listen: n.self.Raft, Resolve: n.raftAddress, Logger: n.cfg.Logger, TLS: n.cfg.TLS,
	})
	return err
}

// raftAddress returns where another node of the region listens for Raft.
func (n *Node) raftAddress(peer topology.NodeID) (address string, known bool) {
	p, ok := n.region.Node(peer)
	if !ok {
		return "", false
	}
	return p.Raft, true
}

func (n *Node) openPartitions(ctx context.Context) error {
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("draw a process number: %w", err)
	}
	proposer := binary.BigEndian.Uint64(seed[:])
	for p, replicas := range n.cfg.Cluster.Placement(n.region) {
		if !slices.Contains(replicas, n.cfg.Node) {
			continue
		}
		if err := n.openPartition(ctx, topology.PartitionID(p), replicas, proposer); err != nil {
			return fmt.Errorf("open partition %d: %w", p, err)
		}
	}
	n.data = region.NewNode(n.partitions)
	return nil
}

func (n *Node) openPartition(
	ctx context.Context, p topology.PartitionID, replicas []topology.NodeID, proposer uint64,
) error {
	log, err := n.log.Group(uint32(p))
	if err != nil {
		return err
	}
	if err := raftgroup.ClaimLog(log, n.incarnation); err != nil {
		return err
	}
	s, err := n.openStore(ctx, p, replicas, log)
	if err != nil {
		return err
	}
	n.stores = append(n.stores, s)
	machine, err := region.NewMachine(n.region.Actor(), partitionStore{s}, n.clock)
	if err != nil {
		return err
	}
	if n.incarnation > 0 && log.LastIndex() == 0 {
		// The log was lost with the term: what the state knows of it is as good.
		if err := raftgroup.AdoptTerm(log, machine.Position().Term); err != nil {
			return err
		}
	}
	if err := checkLogFitsState(log, machine.Position()); err != nil {
		return err
	}
	group, err := raftgroup.New(raftgroup.Config{
		Group: uint32(p), Self: n.cfg.Node, Members: replicas,
		Log: log, Layer: n.mux.Group(uint32(p)), Machine: machine,
		Dir: n.dir.file("tmp"), Logger: n.cfg.Logger, OnFailure: n.fail,
		Incarnation: n.incarnation, Budget: n.budget,
	})
	if err != nil {
		return err
	}
	n.groups = append(n.groups, group)
	queue, err := n.openQueue(p)
	if err != nil {
		return err
	}
	n.partitions = append(n.partitions, region.NewPartition(region.PartitionConfig{
		ID: p, Machine: machine, Group: group, Clock: n.clock, Wall: n.cfg.Clock, Proposer: proposer,
		Destinations: n.destinations(), OutboxQuota: n.cfg.OutboxQuotaBytes, Queue: queue, LowDisk: n.disk.Low,
		ClockSafe: n.clockSafe, ClockAhead: n.cfg.MaxClockAhead, Fenced: n.mayWrite, Leases: n.homeLeases(), Logger: n.cfg.Logger,
	}))
	return nil
}

// openQueue opens this node's queue of local writes to a partition. What it submits goes through the
// API's routing to the partition's leader.
func (n *Node) openQueue(p topology.PartitionID) (*localqueue.Queue, error) {
	log, err := n.log.Group(localqueue.Group(uint32(p)))
	if err != nil {
		return nil, err
	}
	q, err := localqueue.Open(localqueue.Config{
		Log: log, Logger: n.cfg.Logger.With("partition", p),
		Submit: func(ctx context.Context, writes [][]byte) error { return n.api.SubmitQueued(ctx, p, writes) },
	})
	if err != nil {
		return nil, err
	}
	n.queues = append(n.queues, q)
	return q, nil
}

// storeOptions divides the node's write buffer among its partitions.
func (n *Node) storeOptions() store.Options {
	o := store.Options{Buffer: true, OnFailure: n.fail}
	if n.cfg.WriteBufferBytes > 0 {
		replicas := n.cfg.Cluster.Replicas(n.region) * int(n.cfg.Cluster.Partitions)
		held := max(1, (replicas+len(n.region.Nodes)-1)/len(n.region.Nodes))
		o.MaxBuffered = max(minPartitionBuffer, n.cfg.WriteBufferBytes/int64(held))
		o.FlushBytes = o.MaxBuffered / flushFraction
	}
	return o
}

func (n *Node) destinations() []topology.RegionID {
	var others []topology.RegionID
	for _, r := range n.cfg.Cluster.Regions {
		if r.ID != n.region.ID {
			others = append(others, r.ID)
		}
	}
	return others
}

// checkLogFitsState refuses a log that does not lead up to the state, or that has forgotten its term:
// some of it was deleted, and with it perhaps votes that this node gave.
func checkLogFitsState(log *raftlog.Group, p region.Position) error {
	if p.Index == 0 && log.FirstIndex() <= 1 {
		return nil // nothing was flushed yet: the log has it all
	}
	term, err := log.GetUint64([]byte("CurrentTerm"))
	if err != nil {
		return err
	}
	if term < p.Term {
		return fmt.Errorf("%w: the state is of term %d and the log knows %d", errLogMissing, p.Term, term)
	}
	if first := log.FirstIndex(); first > p.Index+1 {
		return fmt.Errorf("%w: the log begins at entry %d and the state is at %d", errLogMissing, first, p.Index)
	}
	return nil
}

// partitionStore is a store as package region wants it.
type partitionStore struct{ *store.Store }

// Snapshot returns one consistent copy of everything.
func (s partitionStore) Snapshot() (region.StoreSnapshot, error) { return s.Store.Snapshot() }
