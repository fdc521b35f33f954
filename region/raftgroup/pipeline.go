package raftgroup

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	pipelineCount  = 16
	pipelineBytes  = 8 << 20
	pipelineUnread = 256 // replies that nobody has taken; Raft takes them as they come
	pipelineWait   = 5 * time.Second
)

var errPipelineClosed = errors.New("the pipeline is closed")

// pipeline sends a member one request after the other without waiting for the answers. It closes itself
// at the first answer that is not a success, and when nobody takes the answers: then requests fail at
// once, and Raft goes back to one at a time. The library's own pipeline waits for ever in these cases,
// because the goroutine that takes answers has ended, and the one that sends waits for it.
type pipeline struct {
	network *network
	id      raft.ServerID
	to      topology.NodeID
	replies chan raft.AppendFuture
	wait    time.Duration // how long there may be no room
	room    chan struct{} // signalled when an answer has come
	done    chan struct{} // closed with the pipeline
	mu      struct {
		sync.Mutex
		closed bool
		err    error // why
		count  int   // requests that are not answered
		bytes  int
	}
}

// AppendEntriesPipeline implements raft.Transport.
func (n *network) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	return newPipeline(n, id, topology.NodeID(to)), nil
}

func newPipeline(n *network, id raft.ServerID, to topology.NodeID) *pipeline {
	return &pipeline{
		network: n, id: id, to: to, wait: pipelineWait,
		replies: make(chan raft.AppendFuture, pipelineUnread),
		room:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
}

// AppendEntries implements raft.AppendPipeline. It waits while too much is under way, but not long.
func (p *pipeline) AppendEntries(a *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	shorten(a)
	body, err := encodeAppend(a)
	if err != nil {
		return nil, err
	}
	alone, err := p.reserve(len(body))
	if err != nil {
		return nil, err
	}
	f := &appendFuture{request: a, answer: answer, done: make(chan struct{})}
	p.network.layer.Go(p.to, laneOf(a, alone), kindAppend, body, func(reply []byte, err error) { p.answered(f, len(body), reply, err) })
	return f, nil
}

// reserve waits until a request of a size may be sent. It returns whether it is the only one.
func (p *pipeline) reserve(size int) (alone bool, err error) {
	if count, err := p.tryReserve(size); count > 0 || err != nil {
		return count == 1, err
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	for {
		select {
		case <-p.room:
		case <-p.done:
		case <-p.network.done:
			p.close(raft.ErrTransportShutdown)
		case <-timer.C:
			p.close(fmt.Errorf("%w: node %s", transport.ErrTimeout, p.to))
		}
		if count, err := p.tryReserve(size); count > 0 || err != nil {
			return count == 1, err
		}
	}
}

// tryReserve returns how many requests are under way with this one, or 0 if there is no room.
func (p *pipeline) tryReserve(size int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return 0, p.mu.err
	}
	if p.mu.count > 0 && (p.mu.count >= pipelineCount || p.mu.bytes+size > pipelineBytes) {
		return 0, nil
	}
	p.mu.count++
	p.mu.bytes += size
	return p.mu.count, nil
}

// answered takes a request's answer, in the order of the requests.
func (p *pipeline) answered(f *appendFuture, size int, reply []byte, err error) {
	if err == nil {
		reply, err = unsign(reply, p.id, raft.ServerAddress(p.to))
	}
	if err == nil {
		err = decodeAppended(reply, f.answer)
	}
	if err != nil {
		*f.answer = raft.AppendEntriesResponse{} // Raft looks at nothing else: not a success
		f.err = err
	}
	close(f.done)
	p.mu.Lock()
	p.mu.count--
	p.mu.bytes -= size
	closed := p.mu.closed
	p.mu.Unlock()
	if closed {
		return
	}
	select {
	case p.replies <- f:
	default:
		p.close(fmt.Errorf("%w: nobody takes its answers", errPipelineClosed))
		return
	}
	switch {
	case err != nil:
		p.close(err)
	case !f.answer.Success || f.answer.Term > f.request.Term:
		p.close(fmt.Errorf("%w: node %s did not append", errPipelineClosed, p.to))
	default:
		select {
		case p.room <- struct{}{}:
		default:
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.replies }

// Close implements raft.AppendPipeline. Answers that are yet to come are not told any more.
func (p *pipeline) Close() error {
	p.close(errPipelineClosed)
	return nil
}

func (p *pipeline) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.closed {
		p.mu.closed, p.mu.err = true, err
		close(p.done)
	}
}

// appendFuture is a request in a pipeline.
type appendFuture struct {
	request *raft.AppendEntriesRequest
	answer  *raft.AppendEntriesResponse
	err     error
	done    chan struct{}
}

// Error implements raft.Future: it waits for the answer.
func (f *appendFuture) Error() error {
	<-f.done
	return f.err
}

// Start implements raft.AppendFuture. Only the library's metrics ask, which go nowhere.
func (f *appendFuture) Start() time.Time { return time.Time{} }

// Request implements raft.AppendFuture.
func (f *appendFuture) Request() *raft.AppendEntriesRequest { return f.request }

// Response implements raft.AppendFuture.
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.answer }
