package client

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// shared is what a Client and its copies for other namespaces have in common.
type shared struct {
	cfg       config
	clock     func() time.Time
	unary     *http.Client // carries requests one by one
	streaming *http.Client // carries streams
	budget    *budget
	calls     sync.Pool // of *call

	seeds     []*endpoint   // the addresses that the caller gave
	preferred atomic.Uint32 // index of the seed that answered last
	directory atomic.Pointer[directory]
	turn      atomic.Uint32 // counts reads that any replica may serve

	used       atomic.Bool // whether there was a call since the learner last looked
	learned    atomic.Bool // whether a learner runs, or none is to be started for now
	refresh    chan struct{}
	installing sync.Mutex // serializes install

	closed atomic.Bool
	mu     struct {
		sync.Mutex
		endpoints map[string]*endpoint // by base URL
		running   map[*background]struct{}
	}
}

// background is a goroutine that outlives the call that started it.
type background struct {
	cancel context.CancelFunc
	retire func() bool
	done   chan struct{}
}

func newShared(cfg config) *shared {
	s := &shared{cfg: cfg, clock: time.Now, budget: newBudget(), refresh: make(chan struct{}, 1)}
	s.calls.New = func() any { return newCall() }
	s.mu.endpoints = map[string]*endpoint{}
	s.mu.running = map[*background]struct{}{}
	if cfg.http == nil {
		s.unary, s.streaming = unaryHTTPClient(), streamHTTPClient()
		return s
	}
	endless := *cfg.http
	endless.Timeout = 0 // a stream lasts
	s.unary, s.streaming = cfg.http, &endless
	return s
}

// endpoint returns the endpoint with an address, which it makes if it is new.
func (s *shared) endpoint(base string) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.mu.endpoints[base]
	if e == nil {
		conn := connect.NewClient(connecthttp.NewTransport(s.unary, base,
			connecthttp.WithReadMaxBytes(readMaxBytes), connecthttp.WithCompressMinBytes(compressMinBytes)))
		e = &endpoint{
			address:    base,
			kv:         atollv1connect.NewKVClient(conn),
			regions:    atollv1connect.NewRegionsClient(conn),
			cluster:    atollv1connect.NewClusterClient(conn),
			namespaces: atollv1connect.NewNamespacesClient(conn),
		}
		s.mu.endpoints[base] = e
	}
	return e
}

// start runs do in the background until it returns or the client is closed, and reports false if the
// client is closed already. The context of the call that needs it lends only its values. At the close
// it is cancelled, unless retire, if not nil, reports that it ends by itself when its work is done.
func (s *shared) start(ctx context.Context, do func(context.Context), retire func() bool) bool {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &background{cancel: cancel, retire: retire, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		cancel()
		return false
	}
	s.mu.running[b] = struct{}{}
	go func() {
		defer close(b.done)
		defer cancel()
		do(ctx)
		s.mu.Lock()
		delete(s.mu.running, b)
		s.mu.Unlock()
		if s.closed.Load() {
			s.closeIdle()
		}
	}()
	return true
}

// close ends what runs in the background and waits for it, but for streams with requests under way:
// they end by themselves with the last answer.
func (s *shared) close() {
	if s.closed.Swap(true) {
		return
	}
	s.mu.Lock()
	endpoints := slices.Collect(maps.Values(s.mu.endpoints))
	running := slices.Collect(maps.Keys(s.mu.running))
	s.mu.Unlock()
	for _, e := range endpoints {
		e.stopTimers()
	}
	running = slices.DeleteFunc(running, func(b *background) bool { return b.retire != nil && !b.retire() })
	for _, b := range running {
		b.cancel()
	}
	for _, b := range running {
		<-b.done
	}
	s.closeIdle()
}

func (s *shared) closeIdle() {
	if s.cfg.http == nil {
		s.unary.CloseIdleConnections()
		s.streaming.CloseIdleConnections()
	}
}
