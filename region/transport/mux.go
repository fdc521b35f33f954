package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/topology"
)

const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 256                    // at once; further connections wait to be accepted
	connsPerPeer     = 64                     // that one node may have dialed; it needs three, and one per transfer
	acceptPause      = 100 * time.Millisecond // after the system refused, for want of descriptors say
)

// keepAlive finds a peer whose machine is gone in about ten seconds, if nothing else does.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3} // a constant

// Config is what a Mux needs; all fields are required but TLS.
type Config struct {
	// Cluster is the deployment's name, Self this node's.
	Cluster string
	Self    topology.NodeID
	// Listen is this node's host:port.
	Listen string
	// Resolve returns another node's address, and whether it belongs to the region.
	Resolve func(topology.NodeID) (address string, known bool)
	Logger  *slog.Logger
	// TLS encrypts the connections and proves who is at their ends; see LoadTLS. Nil leaves them plain.
	TLS *tls.Config
}

// Mux carries the messages and transfers of all groups of one node. It is safe for concurrent use.
type Mux struct {
	cfg      Config
	listener net.Listener
	running  sync.WaitGroup // of every goroutine but Run
	layers   atomic.Pointer[map[uint32]*Layer]
	// lookEvery is how often connections look after themselves; tests are in a hurry.
	lookEvery time.Duration
	mu        struct {
		sync.Mutex
		conns   map[*conn]struct{}
		dialers map[topology.NodeID]int // accepted connections by who dialed
		links   map[topology.NodeID]*links
		probes  map[topology.NodeID]*probe
		closed  bool
	}
}

// Listen takes the address. Nothing is accepted before Run.
func Listen(cfg Config) (*Mux, error) {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the region's nodes on %s: %w", cfg.Listen, err)
	}
	m := &Mux{cfg: cfg, listener: listener, lookEvery: lookEvery}
	m.layers.Store(&map[uint32]*Layer{})
	m.mu.conns = map[*conn]struct{}{}
	m.mu.dialers = map[topology.NodeID]int{}
	m.mu.links = map[topology.NodeID]*links{}
	m.mu.probes = map[topology.NodeID]*probe{}
	return m, nil
}

// Addr returns the address that the node listens on.
func (m *Mux) Addr() net.Addr { return m.listener.Addr() }

// Group returns the part of one group; the same one for every call.
func (m *Mux) Group(id uint32) *Layer {
	m.mu.Lock()
	defer m.mu.Unlock()
	have := *m.layers.Load()
	if l, ok := have[id]; ok {
		return l
	}
	l := newLayer(m, id)
	layers := make(map[uint32]*Layer, len(have)+1)
	for id, other := range have {
		layers[id] = other
	}
	layers[id] = l
	m.layers.Store(&layers)
	return l
}

// layer returns a group's part, or nil if the node does not hold it.
func (m *Mux) layer(id uint32) *Layer { return (*m.layers.Load())[id] }

// Run accepts connections until ctx ends, and then closes all, dialed ones too.
func (m *Mux) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = m.shut() }) // what it returns is Accept's business
	defer stop()
	defer func() { _ = m.Close() }() // closed already
	places := make(chan struct{}, maxHandshakes)
	for {
		raw, err := m.listener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			m.cfg.Logger.Warn("cannot accept connections of the region's nodes", "err", err)
			if !pause(ctx, acceptPause) {
				return nil
			}
			continue
		}
		places <- struct{}{}
		if !m.start(func() { m.welcome(raw, func() { <-places }) }) {
			_ = raw.Close() // closing
			<-places
		}
	}
}

// pause returns false if ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// start runs f in a goroutine that Run waits for. It returns false if the mux is closed.
func (m *Mux) start(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return false
	}
	m.running.Go(f)
	return true
}

// welcome reads a connection's hello, and serves or closes it. It calls admitted when the hello is read.
func (m *Mux) welcome(raw net.Conn, admitted func()) {
	c, ok := m.track(raw)
	if !ok {
		admitted()
		return
	}
	defer func() { _ = c.Close() }() // it is over or refused
	h, err := m.admit(c)
	admitted()
	if err != nil {
		if !errors.Is(err, errSilent) {
			m.cfg.Logger.Warn("connection refused", "peer", raw.RemoteAddr().String(), "err", err)
		}
		return
	}
	if h.lane == streamLane {
		m.receive(c, h)
		return
	}
	w := newWire(m, h.from, h.lane, nil)
	if w.attach(c) {
		w.run(c)
	}
}

// admit runs the listener's side of the handshake.
func (m *Mux) admit(c *conn) (*hello, error) {
	guard := time.AfterFunc(handshakeTimeout, func() { _ = c.raw.Close() })
	defer guard.Stop()
	peerNamed, err := m.secureAccepted(c)
	if err != nil {
		return nil, err
	}
	h, err := readHello(c)
	verdict := accepted
	switch {
	case errors.Is(err, errVersion):
		verdict = refusedVersion
	case err != nil:
		return nil, err
	default:
		verdict = m.judge(h, c, peerNamed)
	}
	if _, err := c.Write([]byte{byte(verdict)}); err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if verdict == refusedVersion {
		return nil, verdict
	}
	if verdict != accepted {
		return nil, fmt.Errorf("node %s of cluster %s: %w", h.from, h.cluster, verdict)
	}
	return h, nil
}

// judge decides on a hello, and counts the connection as its sender's if it is accepted.
func (m *Mux) judge(h *hello, c *conn, peerNamed func(topology.NodeID) error) refusal {
	if h.cluster != m.cfg.Cluster {
		return refusedCluster
	}
	if _, known := m.cfg.Resolve(h.from); !known {
		return refusedStranger
	}
	if h.to != m.cfg.Self {
		return refusedTarget
	}
	if peerNamed(h.from) != nil {
		return refusedName
	}
	if h.lane == streamLane {
		if l := m.layer(h.group); l == nil || l.streamHandler(h.kind) == nil {
			return refusedGroup
		}
	}
	if !m.count(h.from, c) {
		return refusedTooMany
	}
	return accepted
}

// count takes an accepted connection as a node's, unless it has too many.
func (m *Mux) count(from topology.NodeID, c *conn) bool {
	m.mu.Lock()
	if m.mu.dialers[from] >= connsPerPeer {
		m.mu.Unlock()
		return false
	}
	m.mu.dialers[from]++
	c.peer = from
	l := m.mu.links[from]
	m.mu.Unlock()
	if l != nil {
		l.each((*link).reset) // it is there: no need to wait before connecting to it
	}
	return true
}

// dial connects to another node, and introduces this one.
func (m *Mux) dial(to topology.NodeID, h *hello, timeout time.Duration) (*conn, error) {
	address, known := m.cfg.Resolve(to)
	if !known {
		return nil, fmt.Errorf("node %s is not in this region", to)
	}
	dialer := net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	raw, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", to, err)
	}
	c, ok := m.track(raw)
	if !ok {
		return nil, fmt.Errorf("dial node %s: %w", to, ErrClosed)
	}
	h.cluster, h.from, h.to = m.cfg.Cluster, m.cfg.Self, to
	if err := m.introduce(c, h, timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("dial node %s: %w", to, err), c.Close())
	}
	return c, nil
}

// introduce runs the dialer's side of the handshake.
func (m *Mux) introduce(c *conn, h *hello, timeout time.Duration) error {
	guard := time.AfterFunc(timeout, func() { _ = c.raw.Close() })
	defer guard.Stop()
	if err := m.secureDialed(c, h.to); err != nil {
		return err
	}
	frame, err := h.encode()
	if err != nil {
		return err
	}
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if verdict := refusal(answer[0]); verdict != accepted {
		return verdict
	}
	return nil
}

// Close closes the listener and every connection, and waits for what served them. It must not be
// called from a handler.
func (m *Mux) Close() error {
	err := m.shut()
	m.running.Wait()
	return err
}

func (m *Mux) shut() error {
	m.mu.Lock()
	m.mu.closed = true
	conns, peers := m.mu.conns, m.mu.links
	m.mu.conns, m.mu.links = map[*conn]struct{}{}, map[topology.NodeID]*links{}
	m.mu.Unlock()
	err := m.listener.Close()
	for _, l := range *m.layers.Load() {
		_ = l.Close() // never fails
	}
	for _, p := range peers {
		p.each((*link).close)
	}
	for c := range conns {
		_ = c.raw.Close() // the peer notices
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (m *Mux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.closed
}
