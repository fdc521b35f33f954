package api

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

const (
	// A stream with this much under way is not read from until some of it is answered.
	pipelineRequests = 4096
	pipelineBytes    = 32 << 20
	// nodePipelineBytes bounds what all streams of a node have under way. Past it each of them goes on
	// with one message at a time.
	nodePipelineBytes = 128 << 20
	// requestBytes is what a request takes in memory besides what it names and carries.
	requestOverhead = 256
	// pipelineDetours bounds how many requests of a stream are under way to other nodes.
	pipelineDetours = 1024
)

// Pipeline runs many requests over one stream.
//
// The handler reads messages. A message's reads join the lane of their partition, whose runs serve
// all that waits in one view. Its writes go to the partition's batcher, which calls back. So no
// request that this node can serve has a goroutine of its own. What it cannot serve makes a detour: a
// goroutine that does what the unary RPC would. One goroutine sends whatever answers are ready.
func (k *kvService) Pipeline(ctx context.Context, stream atollv1connect.KVPipelineServerStream) error {
	s := k.server()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newPipeline(s, wasForwarded(ctx))
	if err := stream.SendHeaders(); err != nil {
		return err
	}
	received, sent := make(chan error, 1), make(chan error, 1)
	// When the node shuts down, the handler does not wait for the client to end the stream: this
	// goroutine ends when the transport does, after the handler has returned.
	go func() { received <- s.protect(func() error { return p.receive(ctx, stream) }) }()
	go func() {
		defer cancel()
		sent <- s.protect(func() error { return p.send(ctx, stream.Send) })
	}()
	err := p.untilAnswered(ctx, received)
	cancel()
	p.close()
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	return err
}

// pipeline is one stream under way.
type pipeline struct {
	server    *Server
	forwarded bool
	began     time.Time
	detours   chan struct{} // has room for one that is under way
	wake      chan struct{} // has room for one: there is something to send
	tasks     sync.WaitGroup
	mu        struct {
		sync.Mutex
		lanes map[lane]*laneState
		until deadlines
		// requests counts those that are not answered yet. An answer counts when it is sent.
		requests int
		held     int64 // bytes of requests under way
		ready    []outgoing
		waiting  int64         // bytes of answers that wait to be sent
		freed    chan struct{} // closed when some of the above gets less; nil if nobody waits
		packs    bool          // the client sends, and so takes, many in one message
		draining bool
		closed   bool
	}
}

// outgoing is an answer that waits to be sent.
type outgoing struct {
	response *atollv1.PipelineResponse
	bytes    int64
}

func newPipeline(s *Server, forwarded bool) *pipeline {
	p := &pipeline{
		server: s, forwarded: forwarded, began: s.clock(),
		detours: make(chan struct{}, pipelineDetours), wake: make(chan struct{}, 1),
	}
	p.mu.lanes, p.mu.until = map[lane]*laneState{}, deadlines{}
	return p
}

// untilAnswered waits until no more requests come and all are answered.
func (p *pipeline) untilAnswered(ctx context.Context, received <-chan error) error {
	var err error
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err = <-received:
		if err != nil {
			return err
		}
	case <-p.server.draining:
		p.mu.Lock()
		p.mu.draining = true
		p.mu.Unlock()
		err = fail(reasonShuttingDown, "this node is shutting down; go on at another")
	}
	if !p.await(ctx, func() bool { return p.mu.requests == 0 }) {
		return ctx.Err()
	}
	return err
}

// receive takes requests until the client has no more.
func (p *pipeline) receive(ctx context.Context, stream atollv1connect.KVPipelineServerStream) error {
	for p.await(ctx, p.hasRoom) {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if f := p.accept(ctx, msg); f != nil {
			return f
		}
	}
	return ctx.Err()
}

// hasRoom reports whether another message may be read. The lock is held.
func (p *pipeline) hasRoom() bool {
	switch {
	case p.mu.requests == 0:
		return true
	case p.mu.requests >= pipelineRequests, p.mu.held+p.mu.waiting >= pipelineBytes:
		return false
	default:
		return p.server.pipelined.Load() < nodePipelineBytes
	}
}

// await waits until a condition holds, which is asked for with the lock held. It reports false if ctx
// ends first.
func (p *pipeline) await(ctx context.Context, holds func() bool) bool {
	for {
		p.mu.Lock()
		if holds() {
			p.mu.Unlock()
			return true
		}
		if p.mu.freed == nil {
			p.mu.freed = make(chan struct{})
		}
		freed := p.mu.freed
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-freed:
		}
	}
}

func (p *pipeline) freedLocked() {
	if p.mu.freed != nil {
		close(p.mu.freed)
		p.mu.freed = nil
	}
}

// start runs a task, unless the stream is over.
func (p *pipeline) start(task func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.closed {
		p.tasks.Go(task)
	}
}

// close makes answers that still come go nowhere, and waits for the tasks. Their context has ended.
func (p *pipeline) close() {
	p.mu.Lock()
	p.mu.closed = true
	p.server.pipelined.Add(-p.mu.held - p.mu.waiting)
	p.mu.ready = nil
	p.mu.Unlock()
	p.tasks.Wait()
}

// unpack returns the requests of a message.
func unpack(msg *atollv1.PipelineRequest) ([]*atollv1.PipelineRequest, *failure) {
	all := append(make([]*atollv1.PipelineRequest, 0, 1+len(msg.GetMore())), msg)
	for i := 0; i < len(all); i++ {
		if len(all)+len(all[i].GetMore()) > pipelineRequests {
			return nil, fail(reasonBatchTooLarge, "more than "+strconv.Itoa(pipelineRequests)+" requests in one message; split them",
				"field", "more", "limit", strconv.Itoa(pipelineRequests))
		}
		all = append(all, all[i].GetMore()...)
	}
	return all, nil
}

// bytesOf returns about how much memory a request takes.
func bytesOf(r *atollv1.PipelineRequest) int64 {
	switch r := r.GetRequest().(type) {
	case *atollv1.PipelineRequest_Get:
		return requestOverhead + int64(len(r.Get.GetKey()))
	case *atollv1.PipelineRequest_Put:
		return requestOverhead + int64(len(r.Put.GetKey())+len(r.Put.GetValue()))
	default:
		n := requestOverhead
		switch r := r.(type) {
		case *atollv1.PipelineRequest_Delete:
			n += proto.Size(r.Delete)
		case *atollv1.PipelineRequest_Update:
			n += proto.Size(r.Update)
		case *atollv1.PipelineRequest_Query:
			n += proto.Size(r.Query)
		}
		return int64(n)
	}
}

// deadlines are the contexts of requests that have a deadline, by when they end. Requests with about
// the same one share theirs.
type deadlines map[int64]context.Context

const maxDeadlines = 256 // more than this, and those that have passed are removed

// at returns when a request's context ends, in milliseconds since the stream began; 0 means that it
// does not. It is at most an eighth later than asked for.
func (d deadlines) at(ctx context.Context, now time.Duration, timeout uint32) int64 {
	if timeout == 0 {
		return 0
	}
	step := int64(1)
	for step*16 <= int64(timeout) {
		step *= 2
	}
	due := (now.Milliseconds() + int64(timeout) + step) / step * step
	if shared, ok := d[due]; ok && shared.Err() == nil {
		return due
	}
	if len(d) >= maxDeadlines {
		for at, c := range d {
			if c.Err() != nil {
				delete(d, at)
			}
		}
	}
	shared, cancel := context.WithTimeout(ctx, time.Duration(due)*time.Millisecond-now)
	context.AfterFunc(shared, cancel) // the stream's end is the latest that it ends
	d[due] = shared
	return due
}

// contextOf returns the context that ends then.
func (p *pipeline) contextOf(ctx context.Context, due int64) context.Context {
	if due == 0 {
		return ctx
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if shared, ok := p.mu.until[due]; ok {
		return shared
	}
	return ctx
}
