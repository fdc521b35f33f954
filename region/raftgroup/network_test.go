package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

var errDisk = errors.New("injected failure")

// memory is a log in memory whose writes can fail or hang.
type memory struct {
	*raft.InmemStore
	failing atomic.Int32 // so many writes to come fail
	hang    atomic.Pointer[chan struct{}]
	writes  atomic.Int64
}

func (m *memory) StoreLogs(logs []*raft.Log) error {
	if c := m.hang.Load(); c != nil {
		<-*c
	}
	m.writes.Add(1)
	if m.failing.Load() > 0 {
		m.failing.Add(-1)
		return errDisk
	}
	return m.InmemStore.StoreLogs(logs)
}

func (m *memory) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

// counter is a state machine that counts commands.
type counter struct {
	applied  atomic.Int64
	restored atomic.Int64
}

func (c *counter) Apply(*raft.Log) any {
	c.applied.Add(1)
	return nil
}

func (c *counter) Snapshot() (raft.FSMSnapshot, error) { return largeSnapshot{}, nil }

func (c *counter) Restore(r io.ReadCloser) error {
	n, err := io.Copy(io.Discard, r)
	c.restored.Add(n)
	return errors.Join(err, r.Close())
}

// largeSnapshot is more than a connection holds.
type largeSnapshot struct{}

const largeBytes = 32 << 20

func (largeSnapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(make([]byte, largeBytes))
	return errors.Join(err, sink.Close())
}

func (largeSnapshot) Release() {}

// pipelined counts the pipelines that Raft opens.
type pipelined struct {
	*network
	opened atomic.Int64
}

func (p *pipelined) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p.opened.Add(1)
	return p.network.AppendEntriesPipeline(id, to)
}

// member is one of a group that runs over network, with nothing else of this package.
type member struct {
	id    topology.NodeID
	mux   *transport.Mux
	trans *pipelined
	log   *memory
	state *counter
	raft  *raft.Raft
}

// ensemble is a group of members.
type ensemble struct {
	t         testing.TB
	mu        sync.Mutex
	addresses map[topology.NodeID]string
	members   []*member
}

const testElection = time.Second

func newEnsemble(t testing.TB, size int) *ensemble {
	t.Helper()
	e := &ensemble{t: t, addresses: map[topology.NodeID]string{}}
	servers := raft.Configuration{}
	for i := range size {
		id := topology.NodeID(fmt.Sprintf("n%d", i+1))
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		e.members = append(e.members, &member{id: id})
	}
	for _, m := range e.members {
		e.start(m, servers)
	}
	return e
}

func (e *ensemble) resolve(id topology.NodeID) (string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	address, ok := e.addresses[id]
	return address, ok
}

func (e *ensemble) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *ensemble) start(m *member, servers raft.Configuration) {
	e.t.Helper()
	logger := slog.New(slog.DiscardHandler)
	mux, err := transport.Listen(transport.Config{Cluster: "test", Self: m.id, Listen: "127.0.0.1:0", Resolve: e.resolve, Logger: logger})
	e.must(err)
	e.mu.Lock()
	e.addresses[m.id] = mux.Addr().String()
	e.mu.Unlock()
	m.mux, m.trans = mux, &pipelined{network: newNetwork(mux.Group(1), m.id, logger)}
	m.log, m.state = &memory{InmemStore: raft.NewInmemStore()}, &counter{}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(m.id), newLogger(logger)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = testElection, testElection, testElection
	conf.TrailingLogs, conf.SnapshotThreshold = 10, neverByCount
	snapshots := raft.NewInmemSnapshotStore()
	if len(servers.Servers) > 0 {
		e.must(raft.BootstrapCluster(conf, m.log, m.log, snapshots, m.trans, servers))
	}
	m.raft, err = raft.NewRaft(conf, m.state, m.log, m.log, snapshots, m.trans)
	e.must(err)
	ctx, cancel := context.WithCancel(e.t.Context())
	running := make(chan error, 1)
	go func() { running <- mux.Run(ctx) }()
	e.t.Cleanup(func() {
		e.must(errors.Join(m.raft.Shutdown().Error(), m.trans.Close()))
		cancel()
		e.must(<-running)
	})
}

func (e *ensemble) eventually(within time.Duration, check func() error) {
	e.t.Helper()
	(&cluster{t: e.t}).eventually(within, check)
}

// leader waits for one.
func (e *ensemble) leader() *member {
	e.t.Helper()
	var leader *member
	e.eventually(30*time.Second, func() error {
		for _, m := range e.members {
			if m.raft.State() == raft.Leader {
				leader = m
				return nil
			}
		}
		return errors.New("no leader")
	})
	return leader
}

// follower returns some member that does not lead.
func (e *ensemble) follower() *member {
	leader := e.leader()
	for _, m := range e.members {
		if m != leader {
			return m
		}
	}
	return nil
}

// write has eight writers propose until stop is closed, and returns how many proposals succeeded.
func (e *ensemble) write(stop <-chan struct{}) func() int64 {
	var count atomic.Int64
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if e.leader().raft.Apply([]byte("command"), 10*time.Second).Error() == nil {
					count.Add(1)
				}
			}
		})
	}
	return func() int64 {
		writers.Wait()
		return count.Load()
	}
}

// converge waits until every member has applied at least count commands, and all the same number.
func (e *ensemble) converge(count int64) {
	e.t.Helper()
	e.eventually(60*time.Second, func() error {
		want := e.members[0].state.applied.Load()
		for _, m := range e.members {
			if got := m.state.applied.Load(); got < count || got != want {
				return fmt.Errorf("%s applied %d, another %d, acknowledged were %d", m.id, got, want, count)
			}
		}
		return nil
	})
}

// awaitPipelines waits until the leader pipelines to its followers.
func (e *ensemble) awaitPipelines() {
	e.t.Helper()
	e.eventually(30*time.Second, func() error {
		if e.leader().trans.opened.Load() < 2 {
			return errors.New("no pipeline")
		}
		return nil
	})
}

// fail has a follower's next writes fail, and waits until it has gone on from there. Each failure in a
// row makes the leader wait longer before it tries again.
func (e *ensemble) fail(f *member, writes int32) {
	e.t.Helper()
	before := f.state.applied.Load()
	f.log.failing.Store(writes)
	e.eventually(60*time.Second, func() error {
		if left := f.log.failing.Load(); left > 0 && f.raft.State() == raft.Follower {
			return fmt.Errorf("%d failures left", left)
		}
		f.log.failing.Store(0) // if it leads now: its failures would be another matter
		if applied := f.state.applied.Load(); applied < before+500 {
			return fmt.Errorf("%d applied, %d before", applied, before)
		}
		return nil
	})
}

// The library's own pipeline never sends to this follower again.
func TestFollowerWhoseDiskFailsForAMomentCatchesUp(t *testing.T) {
	e := newEnsemble(t, 3)
	stop := make(chan struct{})
	written := e.write(stop)
	e.awaitPipelines()
	f := e.follower()
	e.fail(f, 3)
	close(stop)
	e.converge(written())
}

func TestFollowersSurviveAHundredFailures(t *testing.T) {
	e := newEnsemble(t, 3)
	stop := make(chan struct{})
	written := e.write(stop)
	e.awaitPipelines()
	random := rand.New(rand.NewPCG(7, 7))
	for range 150 { // some hit the leader, and are not taken
		if m := e.members[random.IntN(len(e.members))]; m != e.leader() {
			e.fail(m, 1+random.Int32N(4))
		}
	}
	close(stop)
	count := written()
	e.converge(count)
	t.Logf("%d commands", count)
}

// A disk that hangs stops a follower's appends, but not its heartbeats: it does not take its leader
// for gone, nor its leader it.
func TestHeartbeatsPassAHangingDisk(t *testing.T) {
	e := newEnsemble(t, 3)
	leader, f := e.leader(), e.follower()
	e.must(leader.raft.Apply(nil, time.Second).Error())
	e.converge(1)
	term := leader.raft.CurrentTerm()
	release := make(chan struct{})
	f.log.hang.Store(&release)
	e.must(leader.raft.Apply(nil, time.Second).Error()) // by the others
	contact := time.NewTicker(testElection / 4)
	defer contact.Stop()
	for range 12 {
		<-contact.C
		if last := time.Since(f.raft.LastContact()); last > testElection {
			t.Errorf("no heartbeat for %s", last)
		}
	}
	f.log.hang.Store(nil)
	close(release)
	e.converge(2)
	if e.leader() != leader || leader.raft.CurrentTerm() != term {
		t.Errorf("another leader, or another term than %d: %d", term, leader.raft.CurrentTerm())
	}
}

func TestLeadershipIsHandedOver(t *testing.T) {
	e := newEnsemble(t, 3)
	leader, to := e.leader(), e.follower()
	e.must(leader.raft.Apply(nil, time.Second).Error())
	e.must(leader.raft.LeadershipTransferToServer(raft.ServerID(to.id), raft.ServerAddress(to.id)).Error())
	e.eventually(10*time.Second, func() error {
		if to.raft.State() != raft.Leader {
			return errors.New("not handed over")
		}
		return nil
	})
}

// A member that joins gets what the leader's log does not hold any more as a snapshot.
func TestSnapshotIsSent(t *testing.T) {
	e := newEnsemble(t, 3)
	fresh := &member{id: "n9"}
	e.start(fresh, raft.Configuration{})
	e.eventually(30*time.Second, func() error { // another may lead on a busy machine
		leader := e.leader().raft
		for range 100 {
			if err := leader.Apply(nil, time.Second).Error(); err != nil {
				return err
			}
		}
		if err := leader.Snapshot().Error(); err != nil {
			return err
		}
		return leader.AddVoter("n9", "n9", 0, 0).Error()
	})
	e.eventually(30*time.Second, func() error {
		if fresh.state.restored.Load() != largeBytes {
			return fmt.Errorf("%d bytes restored", fresh.state.restored.Load())
		}
		return nil
	})
}

// install sends a snapshot from one layer to another whose Raft is what the test says.
func install(t *testing.T, data io.Reader, size int64, consume func(raft.RPC)) error {
	t.Helper()
	e := &ensemble{t: t, addresses: map[topology.NodeID]string{}}
	var ends []*network
	for _, id := range []topology.NodeID{"n1", "n2"} {
		mux, err := transport.Listen(transport.Config{
			Cluster: "test", Self: id, Listen: "127.0.0.1:0", Resolve: e.resolve, Logger: slog.New(slog.DiscardHandler),
		})
		e.must(err)
		e.addresses[id] = mux.Addr().String()
		n := newNetwork(mux.Group(1), id, slog.New(slog.DiscardHandler))
		n.stall = 300 * time.Millisecond
		ends = append(ends, n)
		ctx, cancel := context.WithCancel(t.Context())
		running := make(chan error, 1)
		go func() { running <- mux.Run(ctx) }()
		t.Cleanup(func() { e.must(n.Close()); cancel(); e.must(<-running) })
	}
	var consumer sync.WaitGroup
	consumer.Go(func() {
		select {
		case rpc := <-ends[1].Consumer():
			consume(rpc)
		case <-ends[1].done:
		}
	})
	t.Cleanup(consumer.Wait)
	request := &raft.InstallSnapshotRequest{
		RPCHeader: testHeader(), SnapshotVersion: raft.SnapshotVersionMax, Term: 1, Size: size, Configuration: testAppend().Entries[2].Data,
	}
	var answer raft.InstallSnapshotResponse
	err := ends[0].InstallSnapshot("n2", "n2", request, &answer, data)
	if err == nil && (!answer.Success || answer.Term != 4) {
		t.Errorf("answer %+v", answer)
	}
	return err
}

func TestSnapshotTransfersEndWhenNothingMoves(t *testing.T) {
	installed := raft.RPCResponse{Response: &raft.InstallSnapshotResponse{Term: 4, Success: true}}
	drain := func(rpc raft.RPC) error {
		_, err := io.Copy(io.Discard, rpc.Reader)
		return err
	}
	if err := install(t, io.LimitReader(zeros{}, largeBytes), largeBytes, func(rpc raft.RPC) {
		if err := drain(rpc); err != nil {
			t.Error(err)
		}
		rpc.RespChan <- installed
	}); err != nil {
		t.Errorf("a whole snapshot: %v", err)
	}
	refused := &transport.RemoteError{}
	if err := install(t, io.LimitReader(zeros{}, 9), 9, func(rpc raft.RPC) {
		rpc.RespChan <- raft.RPCResponse{Error: errDisk}
	}); !errors.As(err, &refused) || refused.Text != errDisk.Error() {
		t.Errorf("a refused snapshot: %v", err)
	}
	release := make(chan struct{})
	if err := install(t, io.LimitReader(zeros{}, largeBytes), largeBytes, func(raft.RPC) { <-release }); !errors.Is(err, errStalled) {
		t.Errorf("a receiver that takes nothing: %v", err)
	}
	close(release)
	slow, ended := io.Pipe()
	read := make(chan error, 1)
	sent := make(chan error, 1)
	go func() { // the sender reads its own file for ever
		sent <- install(t, slow, 9, func(rpc raft.RPC) {
			read <- drain(rpc)
			rpc.RespChan <- raft.RPCResponse{Error: errDisk}
		})
	}()
	if err := <-read; !errors.Is(err, errStalled) {
		t.Errorf("a sender that sends nothing: %v", err)
	}
	_ = ended.Close() // never fails
	if err := <-sent; err == nil {
		t.Error("a snapshot that was cut off was sent")
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
