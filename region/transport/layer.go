package transport

import (
	"context"
	"errors"
	"net"

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

// Errors of calls. A node that cannot be reached gives the error of the attempt, which wraps
// ErrUnreachable.
var (
	// ErrUnreachable: there is no connection to the node, or it was lost before the answer came.
	ErrUnreachable = errors.New("node unreachable")
	// ErrOverloaded: too much waits to be sent or handled already. Nothing was sent, or nothing done.
	ErrOverloaded = errors.New("too many messages between nodes")
	// ErrTimeout: no answer came in time.
	ErrTimeout = errors.New("no answer from the node in time")
	// ErrTooLarge: a message is larger than its lane takes.
	ErrTooLarge = errors.New("message too large")
	// ErrNoGroup: the other node does not hold the group, or does not handle this kind of message.
	ErrNoGroup = errors.New("the node holds no such group")
	// ErrClosed: this node's part of the group has been closed.
	ErrClosed = errors.New("transport closed")
)

// RemoteError is what the other node's handler answered instead of an answer.
type RemoteError struct{ Text string }

// Error implements error.
func (e *RemoteError) Error() string { return e.Text }

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
	done(nil, ErrClosed)
}

// Handle has h called for requests of the kinds first to last, in place of what was set before; nil
// refuses them.
func (l *Layer) Handle(first, last uint8, h Handler) {}

// Stream opens a connection of its own to the same group of another node, for one transfer. It ends
// with the layer at the latest.
func (l *Layer) Stream(ctx context.Context, to topology.NodeID, kind uint8, header []byte) (net.Conn, error) {
	return nil, ErrClosed
}

// HandleStream has h called for streams of a kind, in place of what was set before; nil refuses them.
func (l *Layer) HandleStream(kind uint8, h StreamHandler) {}
