package transport

import (
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/topology"
)

const (
	dialTimeout  = 2 * time.Second
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 500 * time.Millisecond
	bulkLinks    = 2 // per node; a group always uses the same one
)

// link keeps this node's connection of one lane to one other node: it dials when there is something to
// send, and after an attempt in vain not for a while, in which every call fails at once.
type link struct {
	mux  *Mux
	to   topology.NodeID
	lane Lane
	mu   struct {
		sync.Mutex
		wire    *wire // nil if there is none, nor an attempt
		failed  error // of the last attempt, while the next must wait
		backoff time.Duration
	}
	again *time.Timer
}

func newLink(m *Mux, to topology.NodeID, lane Lane) *link {
	l := &link{mux: m, to: to, lane: lane}
	l.again = time.AfterFunc(time.Hour, l.forgive)
	l.again.Stop()
	return l
}

// ask sends a request, dialing if need be.
func (l *link) ask(m message, patient bool, done func([]byte, error)) {
	for range 2 { // the wire can end just when it was found
		w, err := l.open()
		if err != nil {
			done(nil, err)
			return
		}
		if w.ask(m, patient, done) {
			return
		}
	}
	done(nil, fmt.Errorf("%w: node %s", ErrUnreachable, l.to))
}

// open returns the link's wire, which may still be dialing.
func (l *link) open() (*wire, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.wire != nil:
		return l.mu.wire, nil
	case l.mu.failed != nil:
		return nil, l.mu.failed
	}
	w := newWire(l.mux, l.to, l.lane, l)
	if !l.mux.start(func() { l.connect(w) }) {
		return nil, ErrClosed
	}
	l.mu.wire = w
	return w, nil
}

// connect dials, and carries the wire's frames until it is lost.
func (l *link) connect(w *wire) {
	c, err := l.mux.dial(l.to, &hello{lane: l.lane}, dialTimeout)
	if err != nil {
		l.refuse(fmt.Errorf("%w: %w", ErrUnreachable, err))
		w.fail(err)
		return
	}
	defer func() { _ = c.Close() }() // closed already, but not forgotten
	if !w.attach(c) {
		return
	}
	l.reset()
	l.mux.cfg.Logger.Debug("connected", "peer", l.to, "lane", l.lane)
	w.run(c)
}

// refuse has calls fail at once for a while.
func (l *link) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.backoff == 0 {
		l.mux.cfg.Logger.Warn("cannot connect", "peer", l.to, "lane", l.lane, "err", err)
	}
	l.mu.failed = err
	l.mu.backoff = max(firstBackoff, min(lastBackoff, 2*l.mu.backoff))
	l.again.Reset(l.mu.backoff)
}

// forgive lets the next call dial.
func (l *link) forgive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.failed = nil
}

// reset is forgive with a good reason: the connection was made, or the node was heard of.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.failed, l.mu.backoff = nil, 0
}

// lose forgets a wire that has ended.
func (l *link) lose(w *wire) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.wire == w {
		l.mu.wire = nil
	}
}

// close ends the link.
func (l *link) close() {
	l.again.Stop()
	l.end(ErrClosed)
}

// end ends the link's wire.
func (l *link) end(err error) {
	l.mu.Lock()
	w := l.mu.wire
	l.mu.Unlock()
	if w != nil {
		w.fail(err)
	}
}

// links are a node's links to one other node.
type links struct {
	control *link
	bulk    [bulkLinks]*link
}

func newLinks(m *Mux, to topology.NodeID) *links {
	l := &links{control: newLink(m, to, Control)}
	for i := range l.bulk {
		l.bulk[i] = newLink(m, to, Bulk)
	}
	return l
}

// of returns the link of a group's lane.
func (l *links) of(lane Lane, group uint32) *link {
	if lane == Bulk {
		return l.bulk[group%bulkLinks]
	}
	return l.control
}

func (l *links) each(f func(*link)) {
	f(l.control)
	for _, b := range l.bulk {
		f(b)
	}
}
