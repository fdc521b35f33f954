package transport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/atolldb/atoll/topology"
)

// A connection looks after itself twice a second while anything is under way on it, by counting looks
// rather than reading clocks.
const (
	lookEvery       = 500 * time.Millisecond
	controlPatience = 5  // looks until a call on the control connection is given up
	bulkPatience    = 20 // and on a bulk connection, where an answer waits for a disk
	writePatience   = 20 // looks until a peer that takes nothing is given up
	patientDelay    = 50 * time.Millisecond

	controlQueueBytes = 4 << 20
	bulkQueueBytes    = 64 << 20
	readBuffer        = 32 << 10
)

// wire is a connection that carries frames, from before it is dialed until it is lost. Who dialed
// asks, who listened answers. Its writer sends all that waits at once.
type wire struct {
	mux  *Mux
	peer topology.NodeID
	lane Lane
	// link is what the wire serves if this node dialed; nil if it answers.
	link *link
	wake chan struct{} // the writer has something to do
	gone chan struct{} // closed with the wire

	mu struct {
		sync.Mutex
		raw     net.Conn // nil until connected
		closed  bool
		queue   []message
		bytes   int  // of the queue
		waiting bool // the queue waits for the patience timer
		corked  bool // a frame is being handled: its answers leave together
		uncork  bool // something urgent was queued meanwhile

		calls map[uint64]call
		next  uint64

		looking bool
		looks   uint32
		heard   uint32 // at which look something was read last
		writing bool
		since   uint32 // at which look the write began
	}
	patience *time.Timer
	looker   *time.Timer

	sending sync.Mutex // held while frames are written, and of what follows
	frames  framer
	spare   []message // an old queue's memory
}

// call is a request that has not been answered.
type call struct {
	done func([]byte, error)
	sent uint32 // at which look
}

func newWire(m *Mux, peer topology.NodeID, lane Lane, l *link) *wire {
	w := &wire{mux: m, peer: peer, lane: lane, link: l, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	w.mu.calls = map[uint64]call{}
	w.patience = time.AfterFunc(time.Hour, w.flushSoon)
	w.patience.Stop()
	w.looker = time.AfterFunc(time.Hour, w.look)
	w.looker.Stop()
	return w
}

// ask queues a request. It returns false, and has not taken the request, if the wire is closed.
func (w *wire) ask(m message, patient bool, done func([]byte, error)) bool {
	w.mu.Lock()
	if w.mu.closed {
		w.mu.Unlock()
		return false
	}
	if !w.fitsLocked(&m) {
		w.mu.Unlock()
		done(nil, fmt.Errorf("%w: %d bytes wait for node %s", ErrOverloaded, w.bytesQueued(), w.peer))
		return true
	}
	w.mu.next++
	m.id = w.mu.next
	w.mu.calls[m.id] = call{done: done, sent: w.mu.looks}
	w.lookLocked()
	w.pushLocked(m, patient)
	w.mu.Unlock()
	return true
}

func (w *wire) bytesQueued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.bytes
}

// answer queues an answer. A peer that does not take its answers loses the connection.
func (w *wire) answer(m message) {
	w.mu.Lock()
	full := !w.fitsLocked(&m)
	if !full && !w.mu.closed {
		w.pushLocked(m, false)
	}
	w.mu.Unlock()
	if full {
		w.fail(fmt.Errorf("%w: the node takes no answers", ErrOverloaded))
	}
}

// reply answers a request.
func (w *wire) reply(q message, answer []byte, err error) {
	q.flags = flagAnswer
	if err == nil && len(answer) > maxFrame(w.lane)-messageHeader {
		err = fmt.Errorf("%w: answer of %d bytes", ErrTooLarge, len(answer))
	}
	if err != nil {
		q.flags |= flagError
		answer = encodeError(err)
	}
	q.body = answer
	w.answer(q)
}

// fitsLocked reports whether the queue takes m: anything that is not too large if it is empty.
func (w *wire) fitsLocked(m *message) bool {
	limit := controlQueueBytes
	if w.lane == Bulk {
		limit = bulkQueueBytes
	}
	return w.mu.bytes == 0 || w.mu.bytes+m.size() <= limit
}

func (w *wire) pushLocked(m message, patient bool) {
	w.mu.queue = append(w.mu.queue, m)
	w.mu.bytes += m.size()
	switch {
	case patient && w.mu.waiting:
	case patient:
		w.mu.waiting = true
		w.patience.Reset(patientDelay)
	case w.mu.corked:
		w.mu.uncork = true
	default:
		w.wakeWriter()
	}
}

func (w *wire) wakeWriter() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wire) flushSoon() { w.wakeWriter() }

// attach gives the wire its connection. It returns false if the wire was closed meanwhile.
func (w *wire) attach(raw net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.closed {
		return false
	}
	w.mu.raw = raw
	w.mu.heard = w.mu.looks
	return true
}

// run carries frames until the connection is lost.
func (w *wire) run(c *conn) {
	var writer sync.WaitGroup
	writer.Go(func() { w.write(c.Conn) }) // itself, which takes many parts in one call
	err := w.read(c.Conn)
	w.fail(err)
	writer.Wait()
}

// write is the writer: it sends all that is queued, again and again.
func (w *wire) write(raw net.Conn) {
	for {
		select {
		case <-w.wake:
		case <-w.gone:
			return
		}
		runtime.Gosched() // who is about to queue something goes first, and it leaves in the same frame
		w.sending.Lock()
		err := w.flush(raw)
		w.sending.Unlock()
		if err != nil {
			w.fail(err)
			return
		}
	}
}

// flush sends all that is queued. Its caller holds sending.
func (w *wire) flush(raw net.Conn) error {
	for {
		batch := w.take(w.spare)
		if w.spare = nil; len(batch) == 0 { // what it was is the queue now
			break
		}
		if err := w.send(&w.frames, raw, batch); err != nil {
			return err
		}
		clear(batch)
		w.spare = batch[:0]
	}
	if cap(w.frames.head) > 2*bulkFrameBytes {
		w.frames.head = nil
	}
	return nil
}

// take returns all that is queued. The queue goes on in spare's memory.
func (w *wire) take(spare []message) []message {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.mu.queue
	w.mu.queue, w.mu.bytes, w.mu.waiting = spare, 0, false
	w.mu.writing, w.mu.since = len(batch) > 0, w.mu.looks
	if w.mu.writing {
		w.lookLocked()
	}
	return batch
}

func (w *wire) send(frames *framer, raw net.Conn, batch []message) error {
	limit := controlFrameBytes
	if w.lane == Bulk {
		limit = bulkFrameBytes
	}
	for len(batch) > 0 {
		n, err := frames.write(raw, batch, limit)
		if err != nil {
			return err
		}
		batch = batch[n:]
		if len(batch) > 0 {
			w.progress()
		}
	}
	return nil
}

// progress notes that the peer takes what is sent.
func (w *wire) progress() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.since = w.mu.looks
}

// read reads frames until the connection is lost, and returns why.
func (w *wire) read(raw net.Conn) error {
	buffered := bufio.NewReaderSize(raw, readBuffer)
	limit := maxFrame(w.lane)
	for {
		payload, err := readFrame(buffered, limit)
		if err != nil {
			return err
		}
		w.cork()
		err = w.handle(payload)
		if w.pull() && err == nil {
			err = w.flushNow(raw)
		}
		if err != nil {
			return err
		}
	}
}

func (w *wire) cork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.corked = true
	w.mu.heard = w.mu.looks
}

// pull takes the cork out. It returns whether something urgent was queued.
func (w *wire) pull() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	urgent := w.mu.uncork
	w.mu.corked, w.mu.uncork = false, false
	return urgent
}

// flushNow sends what is queued without waking the writer, if it is not at work. Who asks does not: two
// readers that each wait until the other reads would wait for ever.
func (w *wire) flushNow(raw net.Conn) error {
	if w.link != nil || !w.sending.TryLock() {
		w.wakeWriter()
		return nil
	}
	defer w.sending.Unlock()
	return w.flush(raw)
}

func (w *wire) handle(payload []byte) error {
	whole := len(payload)
	for len(payload) > 0 {
		m, rest, err := nextMessage(payload)
		if err != nil {
			return err
		}
		if w.lane == Bulk && len(m.body) < whole/2 {
			m.body = append([]byte(nil), m.body...) // who keeps it must not keep the whole frame
		}
		if err := w.deliver(m); err != nil {
			return err
		}
		payload = rest
	}
	return nil
}

func (w *wire) deliver(m message) error {
	asked := w.link == nil
	if asked == (m.flags&flagAnswer != 0) {
		return fmt.Errorf("%w: requests and answers go the other way", errFrame)
	}
	if asked {
		w.mux.request(w, m)
		return nil
	}
	w.mu.Lock()
	c, ok := w.mu.calls[m.id]
	delete(w.mu.calls, m.id)
	w.mu.Unlock()
	switch {
	case !ok: // given up
	case m.flags&flagError != 0:
		c.done(nil, decodeError(m.body))
	default:
		c.done(m.body, nil)
	}
	return nil
}

// lookLocked has look called soon.
func (w *wire) lookLocked() {
	if !w.mu.looking {
		w.mu.looking = true
		w.looker.Reset(w.mux.lookEvery)
	}
}

// look gives up calls that were not answered in time, and the whole connection if nothing came at all
// since one of them was sent, or if the peer takes nothing.
func (w *wire) look() {
	patience := uint32(controlPatience)
	if w.lane == Bulk {
		patience = bulkPatience
	}
	var late []call
	w.mu.Lock()
	w.mu.looks++
	stuck := w.mu.writing && w.mu.looks-w.mu.since > writePatience
	dead := stuck
	for id, c := range w.mu.calls {
		if w.mu.looks-c.sent > patience {
			delete(w.mu.calls, id)
			late = append(late, c)
			dead = dead || w.mu.raw != nil && int32(w.mu.heard-c.sent) <= 0
		}
	}
	w.mu.looking = !w.mu.closed && !dead && (len(w.mu.calls) > 0 || w.mu.writing)
	if w.mu.looking {
		w.looker.Reset(w.mux.lookEvery)
	}
	w.mu.Unlock()
	for _, c := range late {
		c.done(nil, fmt.Errorf("%w: node %s", ErrTimeout, w.peer))
	}
	if dead {
		w.fail(fmt.Errorf("%w: it is silent", ErrTimeout))
	}
}

// fail closes the wire: what waits for an answer gets an error. More calls do nothing.
func (w *wire) fail(err error) {
	w.mu.Lock()
	if w.mu.closed {
		w.mu.Unlock()
		return
	}
	w.mu.closed = true
	raw, calls := w.mu.raw, w.mu.calls
	w.mu.calls, w.mu.queue, w.mu.bytes = nil, nil, 0
	w.mu.Unlock()
	close(w.gone)
	w.patience.Stop()
	w.looker.Stop()
	if raw != nil {
		_ = raw.Close() // the peer notices
	}
	err = fmt.Errorf("%w: node %s: %w", ErrUnreachable, w.peer, err)
	if w.link != nil {
		w.link.lose(w)
	}
	for _, c := range calls {
		c.done(nil, err)
	}
	if raw != nil {
		w.mux.wireEnded(w, err)
	}
}

// ended reports whether an error of reading means that the peer's end is gone.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
