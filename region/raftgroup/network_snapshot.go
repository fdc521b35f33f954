package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// A snapshot travels on a connection of its own. The receiver tells that it is alive while it installs,
// by one byte now and then, and then answers: 1 | failed u8 | length u16 | answer or the error's text.
const (
	transferStall  = 12 * time.Second // without any progress, either way
	transferAlive  = 3 * time.Second
	installTimeout = 10 * time.Minute // from the last byte sent to the answer
	transferChunk  = 256 << 10
	stillThere     = 0
	answerFollows  = 1
	answerBytes    = 1 << 10
)

var errStalled = errors.New("the transfer made no progress")

// transfers are the connections that carry snapshots now, in or out.
type transfers struct {
	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

func (t *transfers) add(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.conns == nil {
		t.conns = map[net.Conn]struct{}{}
	}
	t.conns[c] = struct{}{}
	return true
}

func (t *transfers) remove(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// CloseStreams ends all transfers, and lets none begin.
func (t *transfers) CloseStreams() {
	t.mu.Lock()
	conns := t.conns
	t.conns, t.closed = nil, true
	t.mu.Unlock()
	for c := range conns {
		_ = c.Close() // who uses it notices
	}
}

// until is a context that ends with a channel.
type until <-chan struct{}

// Deadline implements context.Context.
func (until) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (u until) Done() <-chan struct{} { return u }

// Err implements context.Context.
func (u until) Err() error {
	select {
	case <-u:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements context.Context.
func (until) Value(any) any { return nil }

// guarded is a connection that closes itself when nothing can be read or written for a while.
type guarded struct {
	net.Conn
	timer *time.Timer
	stall time.Duration
	mu    sync.Mutex
	fired bool
}

func guard(c net.Conn, stall time.Duration) *guarded {
	g := &guarded{Conn: c, stall: stall}
	g.timer = time.AfterFunc(stall, g.expire)
	g.timer.Stop()
	return g
}

func (g *guarded) expire() {
	g.mu.Lock()
	g.fired = true
	g.mu.Unlock()
	_ = g.Conn.Close() // who uses it notices
}

// why returns the error to tell: a connection that closed itself tells no reason.
func (g *guarded) why(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && g.fired {
		return fmt.Errorf("%w for %s", errStalled, g.stall)
	}
	return err
}

// Read implements io.Reader.
func (g *guarded) Read(b []byte) (int, error) {
	g.timer.Reset(g.stall)
	n, err := g.Conn.Read(b)
	g.timer.Stop()
	return n, g.why(err)
}

// Write implements io.Writer.
func (g *guarded) Write(b []byte) (int, error) {
	g.timer.Reset(g.stall)
	n, err := g.Conn.Write(b)
	g.timer.Stop()
	return n, g.why(err)
}

// InstallSnapshot implements raft.Transport.
func (n *network) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, s *raft.InstallSnapshotRequest, answer *raft.InstallSnapshotResponse, data io.Reader) (err error) {
	sending := n.sends.begin(topology.NodeID(to), s.Size, data)
	defer func() { sending.end(err) }()
	header, err := encodeSnapshot(s)
	if err != nil {
		return err
	}
	c, err := n.layer.Stream(until(n.done), topology.NodeID(to), kindSnapshot, header)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // it is over
	if !n.add(c) {
		return raft.ErrTransportShutdown
	}
	defer n.remove(c)
	conn := guard(c, n.stall)
	// Neither end's own shortcuts: every chunk has its deadline.
	if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{sending}, make([]byte, transferChunk)); err != nil {
		return fmt.Errorf("send snapshot: %w", err)
	}
	end := time.AfterFunc(installTimeout, conn.expire)
	defer end.Stop()
	body, err := readInstalled(conn)
	if err != nil {
		return fmt.Errorf("snapshot sent: %w", err)
	}
	if body, err = unsign(body, id, to); err != nil {
		return err
	}
	answer.Term, answer.Success, err = decodeVerdict(body)
	return err
}

// readInstalled waits for the receiver's answer.
func readInstalled(r io.Reader) ([]byte, error) {
	var head [4]byte
	for head[0] == stillThere {
		if _, err := io.ReadFull(r, head[:1]); err != nil {
			return nil, err
		}
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(head[2:]))
	if head[0] != answerFollows || length > answerBytes {
		return nil, errMalformed
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if head[1] != 0 {
		return nil, &transport.RemoteError{Text: string(body)}
	}
	return body, nil
}

func writeInstalled(w io.Writer, body []byte, failure error) error {
	head := []byte{answerFollows, 0, 0, 0}
	if failure != nil {
		head[1], body = 1, []byte(failure.Error())
	}
	body = body[:min(len(body), answerBytes)]
	binary.BigEndian.PutUint16(head[2:], uint16(len(body)))
	_, err := w.Write(append(head, body...))
	return err
}

// receiveSnapshot has Raft read a snapshot from the connection and install it.
func (n *network) receiveSnapshot(from topology.NodeID, header []byte, c net.Conn) {
	if !n.add(c) {
		return
	}
	defer n.remove(c)
	conn := guard(c, n.stall)
	s, err := decodeSnapshot(header)
	if err != nil {
		n.logger.Warn("message refused", "peer", from, "kind", kindSnapshot, "err", err)
		_ = writeInstalled(conn, nil, err) // best effort: it is refused either way
		return
	}
	answered := make(chan result, 1)
	in := &inbound{command: s, reply: signed(func(body []byte, err error) { answered <- result{body, err} }, n.incarnation.Load())}
	in.rpc.Reader = io.LimitReader(conn, s.Size)
	if err := n.inbox.put(in); err != nil {
		_ = writeInstalled(conn, nil, err) // best effort: it is refused either way
		return
	}
	alive := time.NewTicker(transferAlive)
	defer alive.Stop()
	writes := guard(c, n.stall) // has its own timer, for Raft reads meanwhile
	for {
		select {
		case r := <-answered:
			_ = writeInstalled(writes, r.body, r.err) // if it is lost, Raft tries again
			return
		case <-alive.C:
			if _, err := writes.Write([]byte{stillThere}); err != nil {
				_ = c.Close() // so that Raft reads no more
				<-answered
				return
			}
		}
	}
}
