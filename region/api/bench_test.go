package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// instant is a partition that costs next to nothing, so that what is measured is the way to it.
type instant struct {
	mu      sync.Mutex
	replica *replica.Replica
}

func (p *instant) Leader() (topology.NodeID, bool) { return "eu-0", true }

func (p *instant) Term() uint64 { return 1 }

// WriteHome is not measured.
func (p *instant) WriteHome(ctx context.Context, opID string, ops []replica.Op, _ bool) (region.WriteResult, error) {
	return p.Write(ctx, opID, ops)
}

// AtHome, Home and MoveHome are not measured.
func (*instant) AtHome(*replica.Replica, string, bool) error { return nil }

func (*instant) Home(context.Context, string, bool) (region.HomeState, error) {
	return region.HomeState{}, nil
}

func (*instant) TakeHome(context.Context, string, topology.RegionID) error { return nil }

func (*instant) MoveHome(context.Context, string, topology.RegionID, bool) error { return nil }

// Garbage is none.
func (*instant) Garbage() (region.Garbage, error) { return region.Garbage{}, nil }

func (p *instant) View() *region.MachineView { return &region.MachineView{} }

func (p *instant) Destinations() ([]region.OutboxDestination, error) { return nil, nil }

func (p *instant) Applied() <-chan struct{} { return nil }

func (p *instant) Observe(hlc.Time) {}

func (p *instant) Write(context.Context, string, []replica.Op) (region.WriteResult, error) {
	return region.WriteResult{Outcomes: []replica.Outcome{{Version: "0123456789abcdef"}}}, nil
}

func (p *instant) WriteAsync(ctx context.Context, opID string, ops []replica.Op, done func(region.WriteResult, error)) {
	done(p.Write(ctx, opID, ops))
}

func (p *instant) WriteLocal(context.Context, string, []replica.Op) error { return nil }

func (p *instant) SubmitQueued(context.Context, [][]byte) error { return nil }

func (p *instant) Future(context.Context, region.FutureQuery) (region.FuturePage, error) {
	return region.FuturePage{}, nil
}

func (p *instant) Watch([]byte) (Feed, error) { return nil, region.ErrTooManyWatchers }

func (p *instant) Read(_ context.Context, o region.ReadOptions, fn func(*replica.Replica, hlc.Time) error) (region.ReadInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return region.ReadInfo{Served: o.Level, Strategy: region.StrategyLeader, Known: true}, fn(p.replica, testNow())
}

const benchKeys = 1000

// benchServer serves partitions that cost nothing, and returns a client's connection to it.
func benchServer(b *testing.B) *connect.Client {
	_, conn := benchNode(b)
	return conn
}

func benchNode(b *testing.B) (*Server, *connect.Client) {
	cluster := &topology.Cluster{Name: "bench", Partitions: 16, ReplicationFactor: 1, Regions: []topology.Region{{
		ID: 1, Name: "eu", Nodes: []topology.Node{{ID: "eu-0", API: "127.0.0.1:0"}},
	}}}
	rep, err := replica.Open(replica.NewMemory(), crdt.Actor(1))
	if err != nil {
		b.Fatal(err)
	}
	for i := range benchKeys {
		op := replica.Op{Kind: replica.OpPut, Namespace: defaultNamespace, Key: benchKey(i), Type: crdt.TypeLWWRegister, Value: make([]byte, 256)}
		if _, _, err := rep.Execute(testNow(), []replica.Op{op}); err != nil {
			b.Fatal(err)
		}
	}
	part := &instant{replica: rep}
	s, err := New(Config{
		Cluster: cluster, Region: 1, Self: "eu-0", Clock: time.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Hosted: func(topology.PartitionID) (Partition, error) { return part, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	web := httptest.NewUnstartedServer(s.Handler())
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	b.Cleanup(web.Close)
	return s, connect.NewClient(connecthttp.NewTransport(h2c(b), web.URL))
}

func benchKey(i int) string { return fmt.Sprintf("user:%08d", i%benchKeys) }

// cpu returns the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkPipeline keeps a number of requests under way over one stream, as a client does that packs
// what its callers have asked for by the time that it can send. Its figures are of client and server
// together.
func BenchmarkPipeline(b *testing.B) {
	put := make([]byte, 256)
	requests := map[string]func(i int) *demand{
		"get": func(i int) *demand { return askGet(uint64(i), benchKey(i)) },
		"put": func(i int) *demand {
			return &demand{Id: uint64(i), TimeoutMs: 5000, Request: &atollv1.PipelineRequest_Put{Put: &atollv1.PutRequest{
				Key: benchKey(i), Value: put, Options: &atollv1.WriteOptions{OpId: "0123456789abcdef"},
			}}}
		},
	}
	for _, kind := range []string{"get", "put"} {
		for _, callers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/callers=%d", kind, callers), func(b *testing.B) {
				s, err := atollv1connect.NewKVClient(benchServer(b)).Pipeline(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = s.Close() }()
				benchPipeline(b, s, callers, requests[kind])
			})
		}
	}
}

// pipelineStream is a client's stream over any transport.
type pipelineStream interface {
	Send(*demand) error
	Receive() (*reply, error)
}

func benchPipeline(b *testing.B, s pipelineStream, callers int, request func(int) *demand) {
	free := make(chan struct{}, callers)
	for range callers {
		free <- struct{}{}
	}
	messages := 0
	b.ReportAllocs()
	began := cpu(b)
	b.ResetTimer()
	done := make(chan error, 1)
	go func() {
		for got := 0; got < b.N; {
			msg, err := s.Receive()
			if err != nil {
				done <- err
				return
			}
			for _, a := range append(msg.GetMore(), msg) {
				if a.GetError() != nil {
					done <- fmt.Errorf("request %d: %v", a.GetId(), a.GetError())
					return
				}
				got++
				free <- struct{}{}
			}
		}
		done <- nil
	}()
	for sent := 0; sent < b.N; messages++ {
		<-free
		msg := request(sent)
		sent++
		for more := true; more && sent < b.N; {
			select {
			case <-free:
				msg.More = append(msg.More, request(sent))
				sent++
			default:
				more = false
			}
		}
		if err := s.Send(msg); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
	b.ReportMetric(float64(b.N)/float64(messages), "ops/message")
}

// BenchmarkUnary is what the same costs without a stream.
func BenchmarkUnary(b *testing.B) {
	kv := atollv1connect.NewKVClient(benchServer(b))
	began := cpu(b)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := kv.Get(b.Context(), &atollv1.GetRequest{Key: benchKey(i)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
}
