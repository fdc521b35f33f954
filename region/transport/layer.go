package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/internal/invariant"
	"github.com/atolldb/atoll/topology"
)

// Lane says how a message travels.
type Lane uint8

const (
	// Control is for what is small and urgent. It never waits behind Bulk.
	Control Lane = iota
	// Patient is Control for what may wait a few milliseconds, so that the messages of many groups
	// to one node leave in one frame. Anything urgent takes along what waits.
	Patient
	// Bulk is for what is large. Messages of one group stay in order.
	Bulk
)

// Handler takes a request that another node sent to the same group. It must not block: it is called on
// the goroutine that reads the connection. It calls reply exactly once, then or later, from any
// goroutine. It may keep the body, and must not change an answer that it has given to reply.
type Handler func(from topology.NodeID, kind uint8, body []byte, reply func(answer []byte, err error))

// StreamHandler takes a connection that another node opened for one transfer. It runs in a goroutine
// of its own; the connection is closed when it returns.
type StreamHandler func(from topology.NodeID, header []byte, c net.Conn)

// Call sends a request to the same group of another node, and waits for the answer. It fails fast if
// the node cannot be reached. A *RemoteError is the handler's; any other error leaves open whether the
// request was handled, but for ErrOverloaded, ErrTooLarge and ErrNoGroup.
func (l *Layer) Call(ctx context.Context, to topology.NodeID, lane Lane, kind uint8, body []byte) ([]byte, error) {
	type result struct {
		answer []byte
		err    error
	}
	answered := make(chan result, 1)
	l.Go(to, lane, kind, body, func(answer []byte, err error) { answered <- result{answer, err} })
	select {
	case r := <-answered:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, ErrClosed
	}
}

// Go is Call that does not wait: done is called exactly once, within seconds, perhaps before Go
// returns, and must not block. The body must not be changed until then.
func (l *Layer) Go(to topology.NodeID, lane Lane, kind uint8, body []byte, done func(answer []byte, err error)) {
	if len(body) > maxFrame(lane)-messageHeader {
		done(nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(body)))
		return
	}
	if l.isClosed() {
		done(nil, ErrClosed)
		return
	}
	link, err := l.mux.linkTo(to, lane, l.group)
	if err != nil {
		done(nil, err)
		return
	}
	link.ask(message{group: l.group, kind: kind, body: body}, lane == Patient, done)
}

// Handle has h called for requests of the kinds first to last, in place of what was set before; nil
// refuses them. Kinds end at MaxKind.
func (l *Layer) Handle(first, last uint8, h Handler) {
	invariant.Check(first <= last && last <= MaxKind, "kinds %d to %d", first, last)
	l.mu.Lock()
	defer l.mu.Unlock()
	table := *l.handlers.Load()
	for kind := first; kind <= last; kind++ {
		table.requests[kind] = h
	}
	l.handlers.Store(&table)
}

// HandleStream has h called for streams of a kind, in place of what was set before; nil refuses them.
func (l *Layer) HandleStream(kind uint8, h StreamHandler) {
	invariant.Check(kind <= MaxKind, "kind %d", kind)
	l.mu.Lock()
	defer l.mu.Unlock()
	table := *l.handlers.Load()
	table.streams[kind] = h
	l.handlers.Store(&table)
}

// Stream opens a connection of its own to the same group of another node, for one transfer. It ends
// with the layer at the latest. The header is at most 64 KiB.
func (l *Layer) Stream(ctx context.Context, to topology.NodeID, kind uint8, header []byte) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(header) > streamHeaderBytes {
		return nil, fmt.Errorf("%w: header of %d bytes", ErrTooLarge, len(header))
	}
	c, err := l.mux.dial(to, &hello{lane: streamLane, group: l.group, kind: kind}, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if !l.own(c) {
		return nil, errors.Join(ErrClosed, c.Close())
	}
	guard := time.AfterFunc(handshakeTimeout, func() { _ = c.raw.Close() })
	defer guard.Stop()
	if err := writePayload(c, header); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnreachable, err), c.Close())
	}
	return c, nil
}

// receive serves a stream that another node opened.
func (m *Mux) receive(c *conn, h *hello) {
	l := m.layer(h.group)
	handler := l.streamHandler(h.kind)
	if handler == nil || !l.own(c) {
		return
	}
	guard := time.AfterFunc(handshakeTimeout, func() { _ = c.raw.Close() })
	header, err := readFrame(c, streamHeaderBytes)
	guard.Stop()
	if err != nil {
		m.cfg.Logger.Warn("connection closed", "peer", h.from, "partition", h.group, "err", err)
		return
	}
	handler(h.from, header, c)
}

// Layer is one group's part of a Mux. It is safe for concurrent use.
type Layer struct {
	mux      *Mux
	group    uint32
	lost     chan topology.NodeID
	closed   chan struct{}
	handlers atomic.Pointer[handlers]
	mu       sync.Mutex // of changing the handlers, and of closing
}

// handlers are called for what other nodes send to a group. They are never changed, but replaced.
type handlers struct {
	requests [MaxKind + 1]Handler
	streams  [MaxKind + 1]StreamHandler
}

// MaxKind is the last kind of message that a group can name.
const MaxKind = 63

const (
	streamHeaderBytes = 64 << 10
	lostQueue         = 16 // per group; more news of lost connections tell nothing new
)

func newLayer(m *Mux, group uint32) *Layer {
	l := &Layer{mux: m, group: group, lost: make(chan topology.NodeID, lostQueue), closed: make(chan struct{})}
	l.handlers.Store(&handlers{})
	return l
}

func (l *Layer) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// handler returns what is called for a kind of request, or nil.
func (l *Layer) handler(kind uint8) Handler {
	if kind > MaxKind || l.isClosed() {
		return nil
	}
	return l.handlers.Load().requests[kind]
}

func (l *Layer) streamHandler(kind uint8) StreamHandler {
	if kind > MaxKind || l.isClosed() {
		return nil
	}
	return l.handlers.Load().streams[kind]
}

// own makes c one of the layer's transfers, unless the layer is closed.
func (l *Layer) own(c *conn) bool {
	l.mux.mu.Lock()
	defer l.mux.mu.Unlock()
	c.layer = l
	return !l.isClosed()
}

// Lost names a node each time its control connection to this node ended: the same to every group. That
// alone says little. Gone tells more.
func (l *Layer) Lost() <-chan topology.NodeID { return l.lost }

// Gone reports whether a node's process has ended: its machine answers, and refuses connections to
// the address that the process had. No answer at all proves nothing. Groups that ask at once share
// one attempt.
func (l *Layer) Gone(node topology.NodeID, timeout time.Duration) bool {
	return l.mux.probeGone(node, timeout)
}

// Close ends the group's part: it refuses what others send, calls of this node fail, and its transfers
// end. The other groups go on. It never fails.
func (l *Layer) Close() error {
	l.mux.mu.Lock()
	if l.isClosed() {
		l.mux.mu.Unlock()
		return nil
	}
	close(l.closed)
	var own []*conn
	for c := range l.mux.mu.conns {
		if c.layer == l {
			own = append(own, c)
		}
	}
	l.mux.mu.Unlock()
	for _, c := range own {
		_ = c.Close() // the peer notices
	}
	return nil
}
