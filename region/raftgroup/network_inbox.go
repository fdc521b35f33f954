package raftgroup

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
)

const (
	inboxCount   = 256
	inboxBytes   = 64 << 20
	maxHeartbeat = 1 << 10
)

// inbox holds other members' requests until Raft's main loop takes them. Raft answers each before it
// takes the next, so that one goroutine sees to all answers, in order.
type inbox struct {
	requests  chan raft.RPC
	taken     chan *inbound // the same requests, in the same order, until they are answered
	bytes     atomic.Int64
	scratches sync.Pool
	// adopted is the last term of which Raft has answered a leader's request.
	adopted atomic.Uint64
	// committed is up to where Raft was told, and has understood, that entries are committed.
	committed atomic.Uint64
	// appended hears how Raft answered what its leader sent, if it is set.
	appended func(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse)
	running  sync.WaitGroup
	mu       struct {
		sync.Mutex
		closed bool
	}
}

// inbound is a request that has not been answered.
type inbound struct {
	command  any
	bytes    int
	rpc      raft.RPC
	answered chan raft.RPCResponse
	reply    func([]byte, error)
}

// scratch is memory for a heartbeat.
type scratch struct {
	request  raft.AppendEntriesRequest
	answered chan raft.RPCResponse
}

func newScratch() *scratch { return &scratch{answered: make(chan raft.RPCResponse, 1)} }

func (b *inbox) init(done <-chan struct{}) {
	b.scratches.New = func() any { return newScratch() }
	b.taken = make(chan *inbound, inboxCount)
	b.requests = make(chan raft.RPC, inboxCount+1) // and the one that is being answered: never full
	b.running.Go(func() { b.answer(done) })
}

// put queues a request, unless there are too many.
func (b *inbox) put(in *inbound) error {
	if in.answered == nil {
		in.answered = make(chan raft.RPCResponse, 1)
	}
	in.rpc.Command, in.rpc.RespChan = in.command, in.answered
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed {
		return transport.ErrNoGroup
	}
	if queued := b.bytes.Load(); queued > 0 && queued+int64(in.bytes) > inboxBytes {
		return fmt.Errorf("%w: %d bytes wait for raft", transport.ErrOverloaded, queued)
	}
	select {
	case b.taken <- in:
	default:
		return fmt.Errorf("%w: %d messages wait for raft", transport.ErrOverloaded, inboxCount)
	}
	b.bytes.Add(int64(in.bytes))
	b.requests <- in.rpc
	return nil
}

// answer hands Raft's answers on.
func (b *inbox) answer(done <-chan struct{}) {
	for {
		select {
		case in := <-b.taken:
			select {
			case r := <-in.answered:
				b.bytes.Add(-int64(in.bytes))
				b.adopt(in, r)
				in.reply(encodeResponse(r))
			case <-done:
				in.reply(nil, transport.ErrNoGroup)
			}
		case <-done:
			b.drain()
			return
		}
	}
}

// drain refuses what is left when the inbox is closed.
func (b *inbox) drain() {
	for {
		select {
		case in := <-b.taken:
			in.reply(nil, transport.ErrNoGroup)
		default:
			return
		}
	}
}

// adopt notes what Raft has understood.
func (b *inbox) adopt(in *inbound, r raft.RPCResponse) {
	request, ok := in.command.(*raft.AppendEntriesRequest)
	if !ok {
		return
	}
	answer, ok := r.Response.(*raft.AppendEntriesResponse)
	if !ok || r.Error != nil {
		return
	}
	if answer.Term == request.Term {
		b.adopted.Store(request.Term)
	}
	if answer.Success { // nothing else writes it
		b.committed.Store(max(b.committed.Load(), request.LeaderCommitIndex))
	}
	if b.appended != nil {
		b.appended(request, answer)
	}
}

// knows reports whether a request would tell Raft no term and no commitment that it has not understood.
func (b *inbox) knows(a *raft.AppendEntriesRequest) bool {
	return a.Term == b.adopted.Load() && a.LeaderCommitIndex <= b.committed.Load()
}

func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
}

// timeoutNow makes this node stand for election at once, without asking first whether others still
// have a leader. It is safe at any time: votes decide.
func (n *network) timeoutNow(ctx context.Context) {
	n.inject(ctx, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: n.selfBytes, Addr: n.selfBytes,
	}})
}

// inject hands this node's Raft a message as if it had come from another node. Nobody is told what
// becomes of it.
func (n *network) inject(_ context.Context, command any) {
	if err := n.inbox.put(&inbound{command: command, reply: func([]byte, error) {}}); err != nil {
		n.logger.Warn("raft takes no messages", "err", err)
	}
}
