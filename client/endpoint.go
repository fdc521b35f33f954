package client

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

const (
	// streamlessFor is how long requests go one by one to a node that does not take streams.
	streamlessFor = time.Minute

	// A node that fails rests: requests go to others, if there are any, and it is tried again after that.
	firstRest = 100 * time.Millisecond
	longRest  = 10 * time.Second

	proofTimeout = 3 * time.Second
)

// endpoint is an address of a node.
type endpoint struct {
	address    string // base URL
	kv         atollv1connect.KVClient
	regions    atollv1connect.RegionsClient
	cluster    atollv1connect.ClusterClient
	namespaces atollv1connect.NamespacesClient

	pipe       atomic.Pointer[pipe]
	streamless atomic.Bool // whether it is known not to take streams
	resting    atomic.Bool // whether it failed just now
	answered   atomic.Bool // whether it answered since it last failed
	proving    atomic.Bool // whether somebody finds out

	mu struct {
		sync.Mutex
		failures int // in a row
		timers   [2]*time.Timer
		stopped  bool
	}
}

// The timers of an endpoint.
const (
	restTimer = iota
	streamTimer
)

// after sets flag until d has passed.
func (e *endpoint) after(timer int, d time.Duration, flag *atomic.Bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.stopped {
		return
	}
	flag.Store(true)
	if t := e.mu.timers[timer]; t != nil {
		t.Stop()
	}
	e.mu.timers[timer] = time.AfterFunc(d, func() { flag.Store(false) })
}

func (e *endpoint) stopTimers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.stopped = true
	for _, t := range e.mu.timers {
		if t != nil {
			t.Stop()
		}
	}
}

// failed notes that the node could not be reached or broke a connection.
func (e *endpoint) failed() {
	e.answered.Store(false)
	e.mu.Lock()
	rest := min(firstRest<<min(e.mu.failures, 10), longRest)
	e.mu.failures++
	e.mu.Unlock()
	e.after(restTimer, rest, &e.resting)
}

// works notes that the node answered.
func (e *endpoint) works() {
	if e.answered.Swap(true) {
		return
	}
	e.mu.Lock()
	e.mu.failures = 0
	e.mu.Unlock()
	e.resting.Store(false)
}

// streamlessNow notes that the node takes no streams.
func (e *endpoint) streamlessNow() { e.after(streamTimer, streamlessFor, &e.streamless) }

// usable reports whether a request can be sent to the endpoint without the risk of waiting for a
// connection: an address that was learned may not be reachable from here. If not, it sees to it that
// this is found out in the background.
func (s *shared) usable(ctx context.Context, e *endpoint) bool {
	if e.resting.Load() {
		return false
	}
	if p := e.pipe.Load(); p != nil {
		return p.proven.Load()
	}
	if s.streamless(e) && e.answered.Load() {
		return true
	}
	if !s.streamless(e) {
		s.stream(ctx, e)
		return false
	}
	if !e.proving.Swap(true) {
		started := s.start(ctx, func(ctx context.Context) {
			defer e.proving.Store(false)
			s.fetchTopology(ctx, e)
		}, nil)
		if !started {
			e.proving.Store(false)
		}
	}
	return false
}

func (s *shared) streamless(e *endpoint) bool { return s.cfg.unary || e.streamless.Load() }

// stream returns the endpoint's stream, which it opens if need be. It is nil if there can be none.
func (s *shared) stream(ctx context.Context, e *endpoint) *pipe {
	if p := e.pipe.Load(); p != nil {
		return p
	}
	if s.streamless(e) {
		return nil
	}
	p := newPipe(s, e)
	if !e.pipe.CompareAndSwap(nil, p) {
		return e.pipe.Load() // nil if that one ended already
	}
	if !s.start(ctx, p.run, p.retire) {
		e.pipe.CompareAndSwap(p, nil)
		p.end(errPipeEnded)
		return nil
	}
	return p
}

// call sends one request by itself.
func (e *endpoint) call(ctx context.Context, msg proto.Message) (proto.Message, error) {
	switch m := msg.(type) {
	case *atollv1.GetRequest:
		return e.kv.Get(ctx, m)
	case *atollv1.PutRequest:
		return e.kv.Put(ctx, m)
	case *atollv1.DeleteRequest:
		return e.kv.Delete(ctx, m)
	case *atollv1.UpdateRequest:
		return e.kv.Update(ctx, m)
	case *atollv1.QueryRequest:
		return e.kv.Query(ctx, m)
	default:
		return nil, errors.New("no such request")
	}
}
