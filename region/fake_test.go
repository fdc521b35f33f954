package region_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/topology"
)

const (
	testEU topology.RegionID = 1
	testUS topology.RegionID = 2
	testAP topology.RegionID = 3
)

func actorOf(r topology.RegionID) crdt.Actor { return topology.Actor(r, 0) }

// partitionStore is a real store as package region wants it.
type partitionStore struct{ *store.Store }

func (s partitionStore) Snapshot() (region.StoreSnapshot, error) { return s.Store.Snapshot() }

func openStore(t testing.TB, path string) partitionStore {
	t.Helper()
	s, err := store.Open(path, store.Options{Buffer: true, OnFailure: func(err error) { t.Errorf("store failed: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return partitionStore{s}
}

// fakeGroup stands for a Raft group of one node: what is proposed is committed and applied at once,
// and kept, so that it can be fed to other machines.
type fakeGroup struct {
	mu       sync.Mutex
	machine  *region.Machine
	log      []region.Entry
	leading  bool
	leader   topology.NodeID
	changed  chan struct{}
	proofs   map[region.Strategy]int // how often each was asked for
	unproved error                   // if set, a follower and a majority answer it
	hold     chan struct{}           // if set, Propose and proofs wait for it to be closed
	entered  chan struct{}           // gets one message per Propose or proof that waits for hold
	fail     error                   // if set, Propose returns it and commits nothing
	failed   error                   // if set, Propose returns it although it commits
	tamper   func([]byte) []byte
}

func newFakeGroup(m *region.Machine) *fakeGroup {
	return &fakeGroup{
		machine: m, leading: true, leader: "eu-1",
		changed: make(chan struct{}), entered: make(chan struct{}, 100), proofs: map[region.Strategy]int{},
	}
}

func (g *fakeGroup) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *fakeGroup) wait() {
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold != nil {
		g.entered <- struct{}{}
		<-hold
	}
}

func (g *fakeGroup) ProposeAsync(data []byte, done func(error)) {
	go func() { done(g.propose(data)) }()
}

func (g *fakeGroup) propose(data []byte) error {
	g.wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		return g.fail
	}
	if g.tamper != nil {
		data = g.tamper(data)
	}
	g.log = append(g.log, region.Entry{Index: uint64(len(g.log)) + 1, Term: 1, Data: data})
	if err := g.machine.Apply(g.log[len(g.log)-1:]); err != nil {
		return err
	}
	return g.failed
}

func (g *fakeGroup) prove(s region.Strategy, refusal func() error) error {
	g.wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proofs[s]++
	return refusal()
}

func (g *fakeGroup) ConfirmLeader(context.Context) error {
	return g.prove(region.StrategyLeader, func() error {
		if !g.leading {
			return region.ErrNotLeader
		}
		return nil
	})
}

func (g *fakeGroup) ConfirmFollower(context.Context) error {
	return g.prove(region.StrategyFollower, func() error { return g.unproved })
}

func (g *fakeGroup) ConfirmMajority(context.Context) error {
	return g.prove(region.StrategyMajority, func() error { return g.unproved })
}

func (g *fakeGroup) Leader() (topology.NodeID, uint64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leader, 1, g.leader != ""
}

func (g *fakeGroup) Leadership() (bool, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leading, g.changed
}

// testClock is a wall clock that tests set.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is one served partition of region eu.
type fixture struct {
	*region.Partition
	machine *region.Machine
	group   *fakeGroup
	clock   *testClock
	queue   heldQueue
	// unsafe, if set, is what the judge of the clock says.
	unsafe atomic.Pointer[region.ClockUnsafeError]
	leases fakeLeases
}

// fakeLeases are those of a region that holds one unless lost is set. Others' are over after left nanoseconds, and its own,
// which is not given up, never.
type fakeLeases struct {
	self topology.RegionID
	lost atomic.Bool
	left atomic.Int64
}

func (l *fakeLeases) Held() error {
	if l.lost.Load() {
		return &region.NoLeaseError{Why: "a test"}
	}
	return nil
}

func (l *fakeLeases) Left(id topology.RegionID) time.Duration {
	if id == l.self {
		return time.Hour
	}
	return time.Duration(l.left.Load())
}

// heldQueue is a queue of local writes that nothing leaves.
type heldQueue struct{ writes [][]byte }

func (q *heldQueue) Append(_ context.Context, write []byte) (uint64, error) {
	q.writes = append(q.writes, write)
	return uint64(len(q.writes)), nil
}

func newFixture(t *testing.T, self topology.RegionID, destinations ...topology.RegionID) *fixture {
	t.Helper()
	return newFixtureWithQuota(t, 0, self, destinations...)
}

func newFixtureWithQuota(t *testing.T, quota uint64, self topology.RegionID, destinations ...topology.RegionID) *fixture {
	t.Helper()
	return newFixtureOf(t, actorOf(self), quota, destinations...)
}

func newFixtureOf(t *testing.T, self crdt.Actor, quota uint64, destinations ...topology.RegionID) *fixture {
	t.Helper()
	f := &fixture{clock: &testClock{now: time.Unix(1_700_000_000, 0)}}
	f.leases.self, _ = topology.ActorRegion(self)
	clock := hlc.NewClock(f.clock.wall)
	var err error
	f.machine, err = region.NewMachine(self, openStore(t, filepath.Join(t.TempDir(), "p.db")), clock)
	if err != nil {
		t.Fatal(err)
	}
	f.group = newFakeGroup(f.machine)
	f.Partition = region.NewPartition(region.PartitionConfig{
		Machine: f.machine, Group: f.group, Clock: clock, Wall: f.clock.wall, Proposer: 7,
		Destinations: destinations, OutboxQuota: quota, Queue: &f.queue, ClockSafe: f.clockSafe, Leases: &f.leases, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, semaphore.NewWeighted(1)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) clockSafe() error {
	if err := f.unsafe.Load(); err != nil {
		return err
	}
	return nil
}

// copyFile copies a file as it is on disk now.
func copyFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "crashed.db")
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}
