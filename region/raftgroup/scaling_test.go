package raftgroup

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

var (
	scaling     = flag.Bool("scaling", false, "measure what groups cost, for the table in the documents, for some minutes")
	scalingIdle = flag.Duration("scaling.idle", 15*time.Second, "how long each measurement of idle groups takes")
	scalingBusy = flag.Duration("scaling.busy", 5*time.Second, "how long each measurement of busy groups takes")
	scalingOnly = flag.Int("scaling.groups", 0, "measure this number of groups only")
	scalingKind = flag.String("scaling.transport", "", "measure this transport only: stock or ours")
)

// fleet is groups of three members each, in this process, with logs in memory: what is left is Raft and
// the transport.
type fleet struct {
	t      testing.TB
	groups [][]*raft.Raft // by group, then by member
	stop   []func() error
}

const fleetNodes = 3

func fleetNode(i int) topology.NodeID { return topology.NodeID(fmt.Sprintf("n%d", i+1)) }

// ours connects the members over network.
func (f *fleet) ours(groups int) [][]raft.Transport {
	e := &ensemble{t: f.t, addresses: map[topology.NodeID]string{}}
	logger := slog.New(slog.DiscardHandler)
	var muxes []*transport.Mux
	for i := range fleetNodes {
		m, err := transport.Listen(transport.Config{
			Cluster: "fleet", Self: fleetNode(i), Listen: "127.0.0.1:0", Resolve: e.resolve, Logger: logger,
		})
		e.must(err)
		e.addresses[fleetNode(i)] = m.Addr().String()
		muxes = append(muxes, m)
		ctx, cancel := context.WithCancel(f.t.Context())
		running := make(chan error, 1)
		go func() { running <- m.Run(ctx) }()
		f.stop = append(f.stop, func() error { cancel(); return <-running })
	}
	var all [][]raft.Transport
	for g := range groups {
		var members []raft.Transport
		for i, m := range muxes {
			members = append(members, newNetwork(m.Group(uint32(g)), fleetNode(i), logger))
		}
		all = append(all, members)
	}
	return all
}

// stock connects them as the library does: connections of their own for each group.
func (f *fleet) stock(groups int) [][]raft.Transport {
	var all [][]raft.Transport
	for range groups {
		var members []raft.Transport
		for range fleetNodes {
			t, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, 5*time.Second, newLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				f.t.Fatal(err)
			}
			members = append(members, t)
		}
		all = append(all, members)
	}
	return all
}

// start starts the groups, one after the other, and waits until each has the leader whose turn it is.
func (f *fleet) start(transports [][]raft.Transport) {
	f.t.Helper()
	for g, members := range transports {
		servers := raft.Configuration{}
		for i, t := range members {
			servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(fleetNode(i)), Address: t.LocalAddr()})
		}
		var group []*raft.Raft
		for i, t := range members {
			ids := []topology.NodeID{fleetNode(g % fleetNodes), fleetNode((g + 1) % fleetNodes), fleetNode((g + 2) % fleetNodes)}
			conf := configuration(&Config{Self: fleetNode(i), Members: ids}, slog.New(slog.DiscardHandler))
			log, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
			err := raft.BootstrapCluster(conf, log, log, snapshots, t, servers)
			if err != nil {
				f.t.Fatal(err)
			}
			r, err := raft.NewRaft(conf, &counter{}, log, log, snapshots, t)
			if err != nil {
				f.t.Fatal(err)
			}
			group = append(group, r)
			f.stop = append([]func() error{func() error {
				err := r.Shutdown().Error()
				if c, ok := t.(interface{ CloseStreams() }); ok {
					c.CloseStreams()
				}
				if c, ok := t.(raft.WithClose); ok {
					err = errors.Join(err, c.Close())
				}
				return err
			}}, f.stop...)
		}
		f.groups = append(f.groups, group)
	}
	for g := range f.groups {
		f.leader(g)
	}
}

func (f *fleet) leader(g int) *raft.Raft {
	var leader *raft.Raft
	(&cluster{t: f.t}).eventually(time.Minute, func() error {
		for _, r := range f.groups[g] {
			if r.State() == raft.Leader {
				leader = r
				return nil
			}
		}
		return errors.New("no leader")
	})
	return leader
}

func (f *fleet) close() {
	for _, stop := range f.stop {
		if err := stop(); err != nil {
			f.t.Error(err)
		}
	}
}

// cpu returns the processor time that this process has used.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inUse returns the bytes in the heap and in stacks.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the first leaves what pools held
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// cost is what a fleet takes.
type cost struct {
	groups     int
	idle       float64 // share of a core
	goroutines int
	memory     uint64  // heap and stacks
	rate       float64 // commands a second, 64 writers
	perCommand time.Duration
}

func measure(t testing.TB, groups int, connect func(*fleet) [][]raft.Transport, idle, busy time.Duration) cost {
	t.Helper()
	before, memory := runtime.NumGoroutine(), inUse()
	f := &fleet{t: t}
	f.start(connect(f))
	defer f.close()
	c := cost{groups: groups}
	rest := time.NewTimer(idle / 5)
	<-rest.C
	c.goroutines, c.memory = runtime.NumGoroutine()-before, max(memory, inUse())-memory
	used, began := cpu(t), time.Now()
	rest.Reset(idle)
	<-rest.C
	c.idle = float64(cpu(t)-used) / float64(time.Since(began))

	var count atomic.Int64
	var writers sync.WaitGroup
	stop := make(chan struct{})
	leaders := make([]*raft.Raft, groups)
	for g := range groups {
		leaders[g] = f.leader(g)
	}
	used, began = cpu(t), time.Now()
	for w := range 64 {
		writers.Go(func() {
			data := make([]byte, 256)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if leaders[w%groups].Apply(data, time.Second).Error() == nil {
					count.Add(1)
				}
			}
		})
	}
	rest.Reset(busy)
	<-rest.C
	close(stop)
	writers.Wait()
	c.rate = float64(count.Load()) / time.Since(began).Seconds()
	c.perCommand = (cpu(t) - used) / time.Duration(max(1, count.Load()))
	return c
}

// TestScaling prints what groups of three members cost, over our transport and over the library's. By
// default it only sees that the measurement works.
func TestScaling(t *testing.T) {
	counts, idle, busy := []int{1}, 50*time.Millisecond, 50*time.Millisecond
	if *scaling {
		counts, idle, busy = []int{4, 16, 64}, *scalingIdle, *scalingBusy
	}
	if *scalingOnly > 0 {
		counts = []int{*scalingOnly}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "groups\ttransport\tidle, % of a core\tper group\tgoroutines\tper group\tKiB per group\tcommands/s\tCPU per command\t")
	for _, groups := range counts {
		for _, kind := range []struct {
			name    string
			connect func(*fleet) [][]raft.Transport
		}{
			{"stock", func(f *fleet) [][]raft.Transport { return f.stock(groups) }},
			{"ours", func(f *fleet) [][]raft.Transport { return f.ours(groups) }},
		} {
			if *scalingKind != "" && *scalingKind != kind.name {
				continue
			}
			c := measure(t, groups, kind.connect, idle, busy)
			if c.rate == 0 || c.goroutines == 0 {
				t.Errorf("%d groups, %s: nothing was measured: %+v", groups, kind.name, c)
			}
			fmt.Fprintf(table, "%d\t%s\t%.1f\t%.3f\t%d\t%.1f\t%d\t%.0f\t%s\t\n", groups, kind.name, 100*c.idle, 100*c.idle/float64(groups),
				c.goroutines, float64(c.goroutines)/float64(groups), c.memory>>10/uint64(groups), c.rate, c.perCommand.Round(100*time.Nanosecond))
		}
	}
	if *scaling {
		if err := table.Flush(); err != nil {
			t.Error(err)
		}
	}
}
