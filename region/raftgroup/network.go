package raftgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// The kinds of messages between members that are Raft's.
const (
	kindFirst      uint8 = 1
	kindAppend     uint8 = 1
	kindVote       uint8 = 2
	kindPreVote    uint8 = 3
	kindTimeoutNow uint8 = 4
	kindSnapshot   uint8 = 5 // a stream
	kindLast       uint8 = 31
)

// appendBytes is about how much is sent at once of what a member lacks: at least one entry. Raft itself
// counts entries only, and sixty-four of them can be anything.
const appendBytes = 4 << 20

// For so long a call with entries waits for a node that is down, looking so often whether it is up.
const (
	downPatience = 5 * time.Second
	downLook     = 50 * time.Millisecond
)

// network carries Raft's messages of one group over the node's transport. A server's address is its
// node's name, which never changes; the transport knows where nodes are.
type network struct {
	layer     *transport.Layer
	self      raft.ServerAddress
	selfBytes []byte
	logger    *slog.Logger
	inbox     inbox
	// heartbeat takes requests past Raft's main loop, which may be waiting for the disk.
	heartbeat atomic.Pointer[func(raft.RPC)]
	// beat is the last heartbeat sent: they are all the same within a term.
	beat    atomic.Pointer[beat]
	leader  atomic.Pointer[raft.ServerAddress] // the last address decoded; they are nearly all the same
	waiters sync.Pool
	transfers
	sends *sends
	// incarnation is this server's.
	incarnation atomic.Uint32
	// stall is how long a transfer may stand still; tests are in a hurry.
	stall time.Duration
	once  sync.Once
	done  chan struct{} // closed with the network
}

// beat is a heartbeat and its encoding.
type beat struct {
	term uint64
	body []byte
}

func newNetwork(layer *transport.Layer, self topology.NodeID, logger *slog.Logger) *network {
	n := &network{
		layer: layer, self: raft.ServerAddress(self), selfBytes: []byte(self), logger: logger,
		sends: &sends{budget: NewBudget(0), logger: logger},
		stall: transferStall, done: make(chan struct{}),
	}
	n.waiters.New = func() any { return newWaiter() }
	n.inbox.init(n.done)
	layer.Handle(kindFirst, kindLast, n.receive)
	layer.HandleStream(kindSnapshot, n.receiveSnapshot)
	return n
}

// Consumer implements raft.Transport.
func (n *network) Consumer() <-chan raft.RPC { return n.inbox.requests }

// LocalAddr implements raft.Transport.
func (n *network) LocalAddr() raft.ServerAddress { return n.self }

// EncodePeer implements raft.Transport.
func (n *network) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	if address == n.self {
		return n.selfBytes
	}
	return []byte(address)
}

// DecodePeer implements raft.Transport.
func (n *network) DecodePeer(b []byte) raft.ServerAddress {
	if last := n.leader.Load(); last != nil && string(*last) == string(b) {
		return *last
	}
	address := raft.ServerAddress(b)
	n.leader.Store(&address)
	return address
}

// SetHeartbeatHandler implements raft.Transport.
func (n *network) SetHeartbeatHandler(handler func(raft.RPC)) { n.heartbeat.Store(&handler) }

// isHeartbeat reports whether a request has the shape that Raft gives to heartbeats alone.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// AppendEntries implements raft.Transport. Of too much to be sent at once, it sends the beginning, and
// shortens the request to what was sent, which is what Raft goes on from.
func (n *network) AppendEntries(id raft.ServerID, to raft.ServerAddress, a *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) error {
	if isHeartbeat(a) {
		return n.sendHeartbeat(id, to, a, answer)
	}
	shorten(a)
	body, err := encodeAppend(a)
	if err != nil {
		return err
	}
	b, err := n.callWhenUp(id, to, laneOf(a, true), kindAppend, body)
	if err != nil {
		return err
	}
	return decodeAppended(b, answer)
}

// callWhenUp is call, but waits for a while until the node can be reached and has opened the group. The
// library waits twice as long after each failure, for up to ten seconds: if failing were quick, a member
// that is back would go on lacking entries for as long as it was away, and could not lead meanwhile.
func (n *network) callWhenUp(
	id raft.ServerID, to raft.ServerAddress, lane transport.Lane, kind uint8, body []byte,
) ([]byte, error) {
	b, err := n.call(id, to, lane, kind, body)
	if !down(err) {
		return b, err
	}
	patience, look := time.NewTimer(downPatience), time.NewTicker(downLook)
	defer patience.Stop()
	defer look.Stop()
	for {
		select {
		case <-n.done:
			return nil, raft.ErrTransportShutdown
		case <-patience.C:
			return nil, err
		case <-look.C:
		}
		if b, err = n.call(id, to, lane, kind, body); !down(err) {
			return b, err
		}
	}
}

// down reports whether a call failed because there is nobody to answer it yet.
func down(err error) bool {
	return errors.Is(err, transport.ErrUnreachable) || errors.Is(err, transport.ErrNoGroup)
}

// laneOf returns how a request travels. One without entries, by which an idle leader tells what is
// committed, waits for those of other groups, unless it could overtake entries sent before it.
func laneOf(a *raft.AppendEntriesRequest, alone bool) transport.Lane {
	if len(a.Entries) == 0 && alone {
		return transport.Patient
	}
	return transport.Bulk
}

// shorten cuts a request to about what may be sent at once. What it says of commitment holds for what
// it carries: a member must not take as committed what it has beyond.
func shorten(a *raft.AppendEntriesRequest) {
	size := 0
	for i, l := range a.Entries {
		size += entryHeader + len(l.Data) + len(l.Extensions)
		if size > appendBytes && i > 0 {
			a.Entries = a.Entries[:i]
			break
		}
	}
	a.LeaderCommitIndex = min(a.LeaderCommitIndex, a.PrevLogEntry+uint64(len(a.Entries)))
}

func (n *network) sendHeartbeat(id raft.ServerID, to raft.ServerAddress, a *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) error {
	last := n.beat.Load()
	if last == nil || last.term != a.Term {
		body, err := encodeAppend(a)
		if err != nil {
			return err
		}
		last = &beat{term: a.Term, body: body}
		n.beat.Store(last)
	}
	b, err := n.call(id, to, transport.Patient, kindAppend, last.body)
	if err != nil {
		return err
	}
	return decodeAppended(b, answer)
}

// RequestVote implements raft.Transport.
func (n *network) RequestVote(id raft.ServerID, to raft.ServerAddress, v *raft.RequestVoteRequest, answer *raft.RequestVoteResponse) error {
	term, granted, err := n.requestVote(id, to, kindVote, vote{v.RPCHeader, v.Term, v.LastLogIndex, v.LastLogTerm, v.LeadershipTransfer})
	answer.Term, answer.Granted = term, granted
	return err
}

// RequestPreVote implements raft.WithPreVote.
func (n *network) RequestPreVote(id raft.ServerID, to raft.ServerAddress, v *raft.RequestPreVoteRequest, answer *raft.RequestPreVoteResponse) error {
	term, granted, err := n.requestVote(id, to, kindPreVote, vote{v.RPCHeader, v.Term, v.LastLogIndex, v.LastLogTerm, false})
	answer.Term, answer.Granted = term, granted
	return err
}

func (n *network) requestVote(id raft.ServerID, to raft.ServerAddress, kind uint8, v vote) (term uint64, granted bool, err error) {
	body, err := encodeVote(v)
	if err != nil {
		return 0, false, err
	}
	b, err := n.call(id, to, transport.Control, kind, body)
	if err != nil {
		return 0, false, err
	}
	return decodeVerdict(b)
}

// TimeoutNow implements raft.Transport.
func (n *network) TimeoutNow(id raft.ServerID, to raft.ServerAddress, t *raft.TimeoutNowRequest, _ *raft.TimeoutNowResponse) error {
	body, err := encodeTimeoutNow(t)
	if err != nil {
		return err
	}
	b, err := n.call(id, to, transport.Control, kindTimeoutNow, body)
	if err != nil {
		return err
	}
	_, _, err = decodeVerdict(b)
	return err
}

// waiter waits for one answer at a time.
type waiter struct {
	answered chan result
	done     func([]byte, error)
}

type result struct {
	body []byte
	err  error
}

func newWaiter() *waiter {
	w := &waiter{answered: make(chan result, 1)}
	w.done = func(body []byte, err error) { w.answered <- result{body, err} }
	return w
}

// call sends a request and waits for the answer, which comes within seconds or never.
func (n *network) call(id raft.ServerID, to raft.ServerAddress, lane transport.Lane, kind uint8, body []byte) ([]byte, error) {
	w, ok := n.waiters.Get().(*waiter)
	if !ok {
		w = newWaiter()
	}
	n.layer.Go(topology.NodeID(to), lane, kind, body, w.done)
	select {
	case r := <-w.answered:
		n.waiters.Put(w)
		if r.err != nil {
			return nil, r.err
		}
		return unsign(r.body, id, to)
	case <-n.done:
		return nil, raft.ErrTransportShutdown
	}
}

// Close implements raft.WithClose: what waits for another node waits no more, and nothing is received.
func (n *network) Close() error {
	n.once.Do(func() {
		n.layer.Handle(kindFirst, kindLast, nil)
		n.layer.HandleStream(kindSnapshot, nil)
		n.inbox.close()
		close(n.done)
		n.CloseStreams()
	})
	n.inbox.running.Wait()
	return nil
}

// receive takes another member's request.
func (n *network) receive(from topology.NodeID, kind uint8, body []byte, reply func([]byte, error)) {
	reply = signed(reply, n.incarnation.Load())
	in := &inbound{reply: reply, bytes: len(body)}
	var err error
	switch kind {
	case kindAppend:
		if n.receiveEmpty(body, reply) {
			return
		}
		a := new(raft.AppendEntriesRequest)
		err = decodeAppend(body, a)
		in.command = a
	case kindVote, kindPreVote:
		var v vote
		v, err = decodeVote(body)
		in.command = voteCommand(kind, v)
	case kindTimeoutNow:
		in.command, err = decodeTimeoutNow(body)
	default:
		err = transport.ErrNoGroup
	}
	if err == nil {
		err = n.inbox.put(in)
	} else {
		n.logger.Warn("message refused", "peer", from, "kind", kind, "err", err)
	}
	if err != nil {
		reply(nil, err)
	}
}

func voteCommand(kind uint8, v vote) any {
	if kind == kindPreVote {
		return &raft.RequestPreVoteRequest{RPCHeader: v.header, Term: v.term, LastLogIndex: v.lastIndex, LastLogTerm: v.lastTerm}
	}
	return &raft.RequestVoteRequest{
		RPCHeader: v.header, Term: v.term, LastLogIndex: v.lastIndex, LastLogTerm: v.lastTerm,
		LeadershipTransfer: v.leadershipPassed,
	}
}

// receiveEmpty answers on the spot, past Raft's main loop, what a leader says all the time: that it leads,
// and nothing new. What is new goes the long way: the first request of a term makes Raft write the term
// to disk, and one that commits entries makes it apply them.
func (n *network) receiveEmpty(body []byte, reply func([]byte, error)) bool {
	handler := n.heartbeat.Load()
	if handler == nil || len(body) > maxHeartbeat {
		return false
	}
	s, ok := n.inbox.scratches.Get().(*scratch)
	if !ok {
		s = newScratch()
	}
	defer n.inbox.scratches.Put(s)
	a := &s.request
	if decodeAppend(body, a) != nil || len(a.Entries) > 0 || !n.inbox.knows(a) {
		return false
	}
	(*handler)(raft.RPC{Command: a, RespChan: s.answered})
	select {
	case r := <-s.answered:
		reply(encodeResponse(r))
	default: // Raft has shut down
		reply(nil, transport.ErrNoGroup)
	}
	return true
}

// encodeResponse encodes what Raft answers.
func encodeResponse(r raft.RPCResponse) ([]byte, error) {
	if r.Error != nil {
		return nil, r.Error
	}
	switch a := r.Response.(type) {
	case *raft.AppendEntriesResponse:
		return encodeAppended(a), nil
	case *raft.RequestVoteResponse:
		return encodeVerdict(a.Term, a.Granted), nil
	case *raft.RequestPreVoteResponse:
		return encodeVerdict(a.Term, a.Granted), nil
	case *raft.InstallSnapshotResponse:
		return encodeVerdict(a.Term, a.Success), nil
	case *raft.TimeoutNowResponse:
		return encodeVerdict(0, true), nil
	default:
		return nil, fmt.Errorf("%w: answer %T", errMalformed, r.Response)
	}
}
