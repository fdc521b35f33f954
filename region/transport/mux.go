package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/atolldb/atoll/topology"
)

const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 256 // at once; further connections wait to be accepted
	acceptQueue      = 16  // per group, connections that wait to be taken
	lostQueue        = 16  // per group; more news of lost connections tell nothing new
	keepAlive        = 5 * time.Second
	acceptPause      = 100 * time.Millisecond // after the system refused, for want of descriptors say
)

// Config is what a Mux needs; all fields are required.
type Config struct {
	// Cluster is the deployment's name, Self this node's.
	Cluster string
	Self    topology.NodeID
	// Listen is this node's host:port.
	Listen string
	// Resolve returns another node's address, and whether it belongs to the region.
	Resolve func(topology.NodeID) (address string, known bool)
	Logger  *slog.Logger
}

// Mux carries the connections of all groups of one node. It is safe for concurrent use.
type Mux struct {
	cfg      Config
	listener net.Listener
	mu       struct {
		sync.Mutex
		layers map[uint32]*Layer
		conns  map[*conn]struct{}
		closed bool
	}
}

// Listen takes the address. Nothing is accepted before Run.
func Listen(cfg Config) (*Mux, error) {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the region's nodes on %s: %w", cfg.Listen, err)
	}
	m := &Mux{cfg: cfg, listener: listener}
	m.mu.layers = map[uint32]*Layer{}
	m.mu.conns = map[*conn]struct{}{}
	return m, nil
}

// Addr returns the address that the node listens on.
func (m *Mux) Addr() net.Addr { return m.listener.Addr() }

// Group returns the part of one group; the same one for every call.
func (m *Mux) Group(id uint32) *Layer {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.mu.layers[id]
	if !ok {
		l = &Layer{
			mux: m, group: id, conns: make(chan net.Conn, acceptQueue),
			lost: make(chan topology.NodeID, lostQueue), closed: make(chan struct{}),
		}
		m.mu.layers[id] = l
	}
	return l
}

// Run accepts connections until ctx ends, and then closes all, dialed ones too.
func (m *Mux) Run(ctx context.Context) error {
	var handshakes sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = m.Close() })
	defer stop()
	defer handshakes.Wait()
	places := make(chan struct{}, maxHandshakes)
	for {
		c, err := m.listener.Accept()
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
		handshakes.Go(func() {
			defer func() { <-places }()
			m.welcome(c)
		})
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

// welcome reads a connection's hello, and hands it to its group or closes it.
func (m *Mux) welcome(raw net.Conn) {
	c, ok := m.track(raw)
	if !ok {
		return
	}
	layer, err := m.admit(c)
	if err == nil {
		err = layer.own(c)
	}
	if err != nil {
		m.cfg.Logger.Warn("connection refused", "peer", raw.RemoteAddr().String(), "err", err)
		_ = c.Close() // it is refused already
		return
	}
	select {
	case layer.conns <- c:
	case <-layer.closed:
		_ = c.Close()
	}
}

// admit runs the listener's side of the handshake.
func (m *Mux) admit(c *conn) (*Layer, error) {
	guard := time.AfterFunc(handshakeTimeout, func() { _ = c.Conn.Close() })
	defer guard.Stop()
	h, err := readHello(c)
	if err != nil {
		return nil, err
	}
	layer, verdict := m.judge(h)
	if _, err := c.Write([]byte{byte(verdict)}); err != nil {
		return nil, fmt.Errorf("answer %s: %w", h.from, err)
	}
	if verdict != accepted {
		return nil, fmt.Errorf("node %s of cluster %s, group %d: %w", h.from, h.cluster, h.group, verdict)
	}
	c.peer = h.from
	return layer, nil
}

func (m *Mux) judge(h *hello) (*Layer, refusal) {
	if h.cluster != m.cfg.Cluster {
		return nil, refusedCluster
	}
	if _, known := m.cfg.Resolve(h.from); !known {
		return nil, refusedStranger
	}
	if h.to != m.cfg.Self {
		return nil, refusedTarget
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	layer, ok := m.mu.layers[h.group]
	if !ok {
		return nil, refusedGroup
	}
	return layer, accepted
}

// dial connects a group to the same group of another node.
func (m *Mux) dial(to topology.NodeID, group uint32, timeout time.Duration) (*conn, error) {
	address, known := m.cfg.Resolve(to)
	if !known {
		return nil, fmt.Errorf("node %s is not in this region", to)
	}
	dialer := net.Dialer{Timeout: timeout, KeepAlive: keepAlive}
	raw, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", to, err)
	}
	c, ok := m.track(raw)
	if !ok {
		return nil, fmt.Errorf("dial node %s: %w", to, net.ErrClosed)
	}
	if err := m.introduce(c, to, group, timeout); err != nil {
		return nil, errors.Join(fmt.Errorf("dial node %s: %w", to, err), c.Close())
	}
	return c, nil
}

// introduce runs the dialer's side of the handshake.
func (m *Mux) introduce(c *conn, to topology.NodeID, group uint32, timeout time.Duration) error {
	guard := time.AfterFunc(timeout, func() { _ = c.Conn.Close() })
	defer guard.Stop()
	frame, err := (&hello{cluster: m.cfg.Cluster, from: m.cfg.Self, to: to, group: group}).encode()
	if err != nil {
		return err
	}
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := c.Read(answer[:]); err != nil {
		return err
	}
	if verdict := refusal(answer[0]); verdict != accepted {
		return verdict
	}
	return nil
}

// Close closes the listener and every connection.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.mu.closed = true
	conns := m.mu.conns
	m.mu.conns = map[*conn]struct{}{}
	layers := m.mu.layers
	m.mu.Unlock()
	err := m.listener.Close()
	for c := range conns {
		_ = c.Conn.Close() // the peer notices
	}
	for _, l := range layers {
		_ = l.Close() // never fails
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// conn is a connection that Close closes if its owner has not.
type conn struct {
	net.Conn
	mux   *Mux
	layer *Layer          // once it has one; guarded by mux.mu
	peer  topology.NodeID // who dialed; empty if this node did
}

// Read implements net.Conn. It notes when the peer's end of an accepted connection is gone.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && c.peer != "" && c.layer != nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		select {
		case c.layer.lost <- c.peer:
		default:
		}
	}
	return n, err
}

// track takes charge of a connection. It closes it and returns false if the mux is closed.
func (m *Mux) track(raw net.Conn) (*conn, bool) {
	c := &conn{Conn: raw, mux: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		_ = raw.Close()
		return nil, false
	}
	m.mu.conns[c] = struct{}{}
	return c, true
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.mu.conns, c)
	c.mux.mu.Unlock()
	return c.Conn.Close()
}

// Layer is one group's part of a Mux: a listener and a dialer. It is safe for concurrent use.
type Layer struct {
	mux    *Mux
	group  uint32
	conns  chan net.Conn
	lost   chan topology.NodeID
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *Layer) Accept() (net.Conn, error) {
	select {
	case <-l.closed: // even if connections wait: they are closed too
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Lost names a node each time a connection that it dialed to this group ended. That alone says little:
// nodes end connections that they have no use for. Gone tells more.
func (l *Layer) Lost() <-chan topology.NodeID { return l.lost }

// Gone reports whether a node's process has ended: its machine answers, and refuses connections to
// the address that the process had. No answer at all proves nothing.
func (l *Layer) Gone(node topology.NodeID, timeout time.Duration) bool {
	address, known := l.mux.cfg.Resolve(node)
	if !known {
		return false
	}
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	_ = c.Close() // nothing was said
	return false
}

// own makes c one of the layer's connections, unless the layer is closed.
func (l *Layer) own(c *conn) error {
	l.mux.mu.Lock()
	defer l.mux.mu.Unlock()
	select {
	case <-l.closed:
		return net.ErrClosed
	default:
		c.layer = l
		return nil
	}
}

// Close implements net.Listener. It closes the group's connections too, so that nothing of the group
// waits for a peer any more, but not the node's listener.
func (l *Layer) Close() error {
	l.once.Do(func() {
		l.mux.mu.Lock()
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
	})
	return nil
}

// Addr implements net.Listener.
func (l *Layer) Addr() net.Addr { return l.mux.Addr() }

// Dial connects to the same group of another node.
func (l *Layer) Dial(to topology.NodeID, timeout time.Duration) (net.Conn, error) {
	c, err := l.mux.dial(to, l.group, timeout)
	if err != nil {
		return nil, err
	}
	if err := l.own(c); err != nil {
		return nil, errors.Join(fmt.Errorf("dial node %s: %w", to, err), c.Close())
	}
	return c, nil
}
