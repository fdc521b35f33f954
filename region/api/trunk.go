package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// trunkRequests bounds how many requests wait for one other node. More than the node takes at once
// from a stream, so that its reading is the limit.
const trunkRequests = 2 * pipelineRequests

var errTrunkClosed = errors.New("this node is closing")

// lostError means that a request was sent, and that its answer did not come.
type lostError struct{ err error }

// Error says why the answer did not come.
func (e *lostError) Error() string { return "no answer: " + e.err.Error() }

// Unwrap returns why the answer did not come.
func (e *lostError) Unwrap() error { return e.err }

// trunk carries this node's requests to another one over a pipeline, which costs a small part of what
// calls of their own would. It opens one when there is something to ask, and another when that is
// lost.
type trunk struct {
	kv      atollv1connect.KVClient
	running sync.WaitGroup
	mu      struct {
		sync.Mutex
		line   *line
		closed bool
	}
}

// line is one pipeline of a trunk.
type line struct {
	cancel    context.CancelFunc
	connected atomic.Bool   // without that, nothing has left
	wake      chan struct{} // has room for one: there is something to send
	lost      chan struct{} // closed when err is set
	mu        struct {
		sync.Mutex
		last    uint64
		queue   []*atollv1.PipelineRequest
		waiting map[uint64]*asked
		err     error
	}
}

// asked is a request whose answer somebody waits for.
type asked struct {
	reply chan *atollv1.PipelineResponse // has room for it
	sent  bool                           // guarded by the line's lock
}

// ask sends a request and waits for its answer. The error is a *failure if the other node answered
// with one, and a *lostError if it may have done what was asked.
func (t *trunk) ask(ctx context.Context, q *atollv1.PipelineRequest) (*atollv1.PipelineResponse, error) {
	l, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	q.TimeoutMs = uint32(peerTimeout / time.Millisecond)
	a, err := l.enqueue(q)
	if err != nil {
		return nil, err
	}
	select {
	case res := <-a.reply:
		return verdictOf(res)
	case <-ctx.Done():
		err = ctx.Err()
	case <-l.lost:
		err = l.mu.err // not changed any more
	}
	sent := l.forget(q.GetId(), a)
	select {
	case res := <-a.reply: // it came at the same time
		return verdictOf(res)
	default:
	}
	if sent {
		return nil, &lostError{err}
	}
	return nil, err
}

// verdictOf returns an answer, or the failure that it is.
func verdictOf(res *atollv1.PipelineResponse) (*atollv1.PipelineResponse, error) {
	if e := res.GetError(); e != nil {
		return nil, failureOfItem(e)
	}
	return res, nil
}

// open returns the line, a new one if there is none.
func (t *trunk) open(ctx context.Context) (*line, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.mu.closed:
		return nil, errTrunkClosed
	case t.mu.line != nil:
		return t.mu.line, nil
	}
	// The line outlives the request that opens it: it ends when it is lost or the trunk is closed.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &line{cancel: cancel, wake: make(chan struct{}, 1), lost: make(chan struct{})}
	l.mu.waiting = map[uint64]*asked{}
	t.mu.line = l
	t.running.Go(func() {
		defer cancel()
		err := l.run(ctx, t.kv)
		t.mu.Lock()
		t.mu.line = nil
		t.mu.Unlock()
		l.fail(err)
	})
	return l, nil
}

// close ends the trunk; what still waits for an answer does not get it.
func (t *trunk) close() {
	t.mu.Lock()
	t.mu.closed = true
	if t.mu.line != nil {
		t.mu.line.cancel()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// run sends and receives until the stream is lost.
func (l *line) run(ctx context.Context, kv atollv1connect.KVClient) error {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { l.connected.Store(true) },
	})
	stream, err := kv.Pipeline(hop(ctx))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if err := stream.SendHeaders(); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { received <- l.receive(stream) }()
	for {
		select {
		case <-ctx.Done():
			_ = stream.Close() // ends the receiving
			<-received
			return errTrunkClosed
		case err := <-received:
			return err
		case <-l.wake:
		}
		if msg := l.take(); msg != nil {
			if err := stream.Send(msg); err != nil {
				_ = stream.Close() // ends the receiving, which may know better why
				return fmt.Errorf("send: %w", errors.Join(<-received, err))
			}
		}
	}
}

func (l *line) receive(stream atollv1connect.KVPipelineClientStream) error {
	for {
		msg, err := stream.Receive()
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.answeredLocked(msg)
		for _, res := range msg.GetMore() {
			l.answeredLocked(res)
		}
		l.mu.Unlock()
	}
}

func (l *line) answeredLocked(res *atollv1.PipelineResponse) {
	if a, ok := l.mu.waiting[res.GetId()]; ok {
		delete(l.mu.waiting, res.GetId())
		a.reply <- res
	}
}

// enqueue gives a request its number and has it sent.
func (l *line) enqueue(q *atollv1.PipelineRequest) (*asked, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return nil, l.mu.err
	}
	if len(l.mu.waiting) >= trunkRequests {
		return nil, fail(reasonOverloaded, "too many requests wait for another node; try again later")
	}
	l.mu.last++
	q.Id = l.mu.last
	a := &asked{reply: make(chan *atollv1.PipelineResponse, 1)}
	l.mu.waiting[q.Id] = a
	l.mu.queue = append(l.mu.queue, q)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return a, nil
}

// take packs what waits to be sent into one message of bounded size.
func (l *line) take() *atollv1.PipelineRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	var msg *atollv1.PipelineRequest
	taken, size := 0, int64(0)
	for _, q := range l.mu.queue {
		a, wanted := l.mu.waiting[q.GetId()]
		if wanted {
			size += bytesOf(q)
			if msg != nil && (size > pipelineMessageBytes || len(msg.GetMore()) == pipelineRequests/4) {
				break
			}
			a.sent = true
		}
		taken++
		switch {
		case !wanted:
		case msg == nil:
			msg = q
		default:
			msg.More = append(msg.More, q)
		}
	}
	clear(l.mu.queue[:taken])
	if l.mu.queue = l.mu.queue[taken:]; len(l.mu.queue) > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return msg
}

// forget takes a request back, and reports whether it may have left.
func (l *line) forget(id uint64, a *asked) (sent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.waiting, id)
	return a.sent && l.connected.Load()
}

// fail tells all who wait that the line is lost.
func (l *line) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.err = err
	close(l.lost)
}
