package transport

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/atolldb/atoll/topology"
)

// conn is a connection that the mux closes if its owner has not.
type conn struct {
	net.Conn // encrypted if the mux is so configured
	raw      net.Conn
	mux      *Mux
	layer    *Layer          // whose transfer it carries; nil if it carries frames. Guarded by mux.mu
	peer     topology.NodeID // who dialed; empty if this node did. Guarded by mux.mu
}

// track takes charge of a connection. It closes it and returns false if the mux is closed.
func (m *Mux) track(raw net.Conn) (*conn, bool) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(keepAlive) // a connection that fails here fails at the next use
	}
	c := &conn{Conn: raw, raw: raw, mux: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		_ = raw.Close()
		return nil, false
	}
	m.mu.conns[c] = struct{}{}
	return c, true
}

// Close implements net.Conn. It does not say goodbye, which could wait for a peer that takes nothing.
func (c *conn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.mu.conns, c)
	if c.peer != "" {
		if c.mux.mu.dialers[c.peer]--; c.mux.mu.dialers[c.peer] == 0 {
			delete(c.mux.mu.dialers, c.peer)
		}
		c.peer = ""
	}
	c.mux.mu.Unlock()
	if err := c.raw.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// linkTo returns the link that carries a group's messages to a node.
func (m *Mux) linkTo(to topology.NodeID, lane Lane, group uint32) (*link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil, ErrClosed
	}
	l, ok := m.mu.links[to]
	if !ok {
		l = newLinks(m, to)
		m.mu.links[to] = l
	}
	return l.of(lane, group), nil
}

// request hands a request to its group's handler.
func (m *Mux) request(w *wire, q message) {
	var h Handler
	if l := m.layer(q.group); l != nil {
		h = l.handler(q.kind)
	}
	body := q.body
	q.body = nil
	if h == nil {
		w.reply(q, nil, ErrNoGroup)
		return
	}
	h(w.peer, q.kind, body, func(answer []byte, err error) { w.reply(q, answer, err) })
}

// wireEnded notes that a connection was lost. A control connection that a node dialed, and ended, is
// told to every group.
func (m *Mux) wireEnded(w *wire, err error) {
	if m.isClosed() {
		return
	}
	if errors.Is(err, errFrame) {
		m.cfg.Logger.Warn("connection closed", "peer", w.peer, "lane", w.lane, "err", err)
	} else {
		m.cfg.Logger.Debug("connection lost", "peer", w.peer, "lane", w.lane, "err", err)
	}
	if w.link != nil && w.lane == Control && errors.Is(err, ErrTimeout) {
		m.giveUp(w.peer, err)
	}
	if w.link != nil || w.lane != Control || !ended(err) {
		return
	}
	for _, l := range *m.layers.Load() {
		select {
		case l.lost <- w.peer:
		default:
		}
	}
}

// giveUp ends the bulk connections to a node whose control connection is silent. They would notice only
// later, and what they have sent would wait for TCP, which tries again ever more rarely.
func (m *Mux) giveUp(node topology.NodeID, err error) {
	m.mu.Lock()
	l := m.mu.links[node]
	m.mu.Unlock()
	if l == nil {
		return
	}
	for _, bulk := range l.bulk {
		bulk.end(err)
	}
}

// probe is one attempt to find out whether a node's process is there, for all who ask meanwhile.
type probe struct {
	done chan struct{}
	gone bool
}

// probeGone reports whether a node's machine refuses connections to its address.
func (m *Mux) probeGone(node topology.NodeID, timeout time.Duration) bool {
	address, known := m.cfg.Resolve(node)
	if !known {
		return false
	}
	m.mu.Lock()
	p, underway := m.mu.probes[node]
	if !underway {
		p = &probe{done: make(chan struct{})}
		m.mu.probes[node] = p
	}
	m.mu.Unlock()
	if underway {
		<-p.done
		return p.gone
	}
	c, err := net.DialTimeout("tcp", address, timeout)
	if err == nil {
		_ = c.Close() // nothing was said
	}
	p.gone = errors.Is(err, syscall.ECONNREFUSED)
	m.mu.Lock()
	delete(m.mu.probes, node)
	m.mu.Unlock()
	close(p.done)
	return p.gone
}
