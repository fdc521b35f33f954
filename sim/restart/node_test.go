package restart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/localqueue"
	"github.com/atolldb/atoll/region/raftgroup"
	"github.com/atolldb/atoll/region/raftlog"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.RaftLeftovers()...) }

const (
	here    topology.RegionID = 1
	there   topology.RegionID = 2
	group                     = uint32(0)
	patient                   = 60 * time.Second
)

var errCrashed = errors.New("the node has crashed")

// state is a state file that can crash: it is copied as it is on disk, and written no more.
type state struct {
	*store.Store
	path string

	mu      sync.Mutex // held over every write to the file
	crashed bool
}

func (s *state) guard(write func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashed {
		return errCrashed
	}
	return write()
}

func (s *state) Flush() error { return s.guard(s.Store.Flush) }

func (s *state) Snapshot() (snapshot region.StoreSnapshot, err error) {
	err = s.guard(func() error {
		snapshot, err = s.Store.Snapshot()
		return err
	})
	return snapshot, err
}

func (s *state) Install(path string, check func(replica.KV) error) error {
	return s.guard(func() error { return s.Store.Install(path, check) })
}

// crash keeps what the disk holds now beside the file.
func (s *state) crash() error {
	return s.guard(func() error {
		s.crashed = true
		return copyFile(s.path, s.path+".crashed")
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// node is one of the three, running or not.
type node struct {
	t   *testing.T
	id  topology.NodeID
	dir string

	log       *raftlog.Log
	state     *state
	machine   *region.Machine
	mux       *transport.Mux
	queue     *localqueue.Queue
	partition *region.Partition
	failed    chan error
	// disconnect ends the connections, halt all else.
	disconnect, halt func()
}

// open opens what is in the node's directory.
func (n *node) open(c *cluster) error {
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("node", n.id)
	}
	n.failed = make(chan error, 16)
	fail := func(err error) {
		select {
		case n.failed <- err:
		default:
		}
	}
	var err error
	if n.log, err = raftlog.Open(filepath.Join(n.dir, "log"), raftlog.Options{Logger: logger, OnFailure: fail}); err != nil {
		return err
	}
	path := filepath.Join(n.dir, "state.db")
	opened, err := store.Open(path, store.Options{Buffer: true, FlushBytes: 64 << 10, OnFailure: fail})
	if err != nil {
		return err
	}
	n.state = &state{Store: opened, path: path}
	clock := hlc.NewClock(time.Now)
	if n.machine, err = region.NewMachine(topology.Actor(here, 0), n.state, clock); err != nil {
		return err
	}
	n.mux, err = transport.Listen(transport.Config{Cluster: "restart", Self: n.id, Listen: "127.0.0.1:0", Resolve: c.resolve, Logger: logger})
	if err != nil {
		return err
	}
	raftGroup, err := n.openGroup(c, logger, fail)
	if err != nil {
		return err
	}
	if err := n.openQueue(c, logger); err != nil {
		return err
	}
	n.partition = region.NewPartition(region.PartitionConfig{
		Machine: n.machine, Group: raftGroup, Clock: clock, Wall: time.Now, Proposer: c.proposer(),
		Destinations: []topology.RegionID{there}, Queue: n.queue, Logger: logger,
	})
	n.run(raftGroup)
	return nil
}

func (n *node) openGroup(c *cluster, logger *slog.Logger, fail func(error)) (*raftgroup.Group, error) {
	log, err := n.log.Group(group)
	if err != nil {
		return nil, err
	}
	if p := n.machine.Position(); log.FirstIndex() > p.Index+1 || log.LastIndex() < p.Index {
		return nil, fmt.Errorf("node %s: the log has %+v, the state is at %d", n.id, log.Stats(), p.Index)
	}
	tmp := filepath.Join(n.dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return nil, err
	}
	return raftgroup.New(raftgroup.Config{
		Group: group, Self: n.id, Members: c.members(), Log: log, Layer: n.mux.Group(group), Machine: n.machine,
		Dir: tmp, Logger: logger, OnFailure: fail, ElectionTimeout: 300 * time.Millisecond,
	})
}

func (n *node) openQueue(c *cluster, logger *slog.Logger) error {
	log, err := n.log.Group(localqueue.Group(group))
	if err != nil {
		return err
	}
	n.queue, err = localqueue.Open(localqueue.Config{Log: log, Logger: logger, Submit: c.submitQueued})
	return err
}

// run serves the node until disconnect and halt are called.
func (n *node) run(g *raftgroup.Group) {
	start := func(loops ...func(context.Context) error) (stop func()) {
		ctx, cancel := context.WithCancel(n.t.Context())
		var running sync.WaitGroup
		for _, loop := range loops {
			running.Go(func() {
				if err := loop(ctx); err != nil && !errors.Is(err, errCrashed) {
					n.t.Errorf("node %s: %v", n.id, err)
				}
			})
		}
		return func() { cancel(); running.Wait() }
	}
	n.disconnect = start(n.mux.Run)
	n.halt = start(g.Run, n.queue.Run, func(ctx context.Context) error {
		return n.partition.Run(ctx, semaphore.NewWeighted(1))
	})
}

// stop ends the node as a program that is told to end does.
func (n *node) stop() error {
	n.halt()
	n.disconnect()
	return n.close()
}

// crash ends the node with what is on its disk now.
func (n *node) crash() error {
	if err := n.state.crash(); err != nil {
		return err
	}
	n.disconnect()
	n.halt()
	return errors.Join(n.close(), os.Rename(n.state.path+".crashed", n.state.path))
}

func (n *node) close() error {
	err := errors.Join(n.state.Store.Close(), n.log.Close())
	for {
		select {
		case failure := <-n.failed:
			if !errors.Is(failure, errCrashed) {
				err = errors.Join(err, failure)
			}
		default:
			return err
		}
	}
}
