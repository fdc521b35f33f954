package transport_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

func TestBulkKeepsOrderAndContent(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	random := rand.New(rand.NewPCG(1, 2))
	var sent [][]byte
	for range 200 {
		body := make([]byte, []int{0, 1, 300, 20_000, 200_000, 3 << 20}[random.IntN(6)]>>random.IntN(3))
		for i := 0; i < len(body); i += 1 + i/8 {
			body[i] = byte(random.Uint32())
		}
		sent = append(sent, body)
	}
	sent = append(sent, make([]byte, transport.BulkBytes))
	var mu sync.Mutex
	var got [][]byte
	b.Group(1).Handle(1, 1, func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		mu.Lock()
		got = append(got, body)
		mu.Unlock()
		reply(body, nil)
	})
	var answers sync.WaitGroup
	for i, body := range sent {
		answers.Add(1)
		a.Group(1).Go("b", transport.Bulk, 1, body, func(answer []byte, err error) {
			defer answers.Done()
			if err != nil || !bytes.Equal(answer, body) {
				t.Errorf("message %d: answer of %d bytes for %d, %v", i, len(answer), len(body), err)
			}
		})
		if i%20 == 0 {
			answers.Wait() // the queue has a bound
		}
	}
	answers.Wait()
	mu.Lock()
	arrived := got
	mu.Unlock()
	for i, body := range arrived {
		if !bytes.Equal(body, sent[i]) {
			t.Fatalf("message %d has %d bytes, sent were %d", i, len(body), len(sent[i]))
		}
	}
	if len(arrived) != len(sent) {
		t.Errorf("%d of %d arrived", len(arrived), len(sent))
	}
	for lane, size := range map[transport.Lane]int{transport.Control: transport.ControlBytes, transport.Patient: transport.ControlBytes, transport.Bulk: transport.BulkBytes} {
		if _, err := a.Group(1).Call(within(t), "b", lane, 1, make([]byte, size+1)); !errors.Is(err, transport.ErrTooLarge) {
			t.Errorf("one byte too many on lane %d: %v", lane, err)
		}
	}
	if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, make([]byte, transport.ControlBytes)); err != nil {
		t.Errorf("as much as control takes: %v", err)
	}
}

// What is handled slowly on the bulk connection holds up nothing on the control connection.
func TestControlDoesNotWaitBehindBulk(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	release, blocked := make(chan struct{}), make(chan struct{})
	b.Group(1).Handle(1, 1, func(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) {
		close(blocked)
		<-release
		reply(nil, nil)
	})
	b.Group(1).Handle(2, 2, echo("b"))
	done := make(chan error, 1)
	a.Group(1).Go("b", transport.Bulk, 1, make([]byte, 1<<20), func(_ []byte, err error) { done <- err })
	<-blocked
	for _, lane := range []transport.Lane{transport.Control, transport.Patient} {
		if _, err := a.Group(1).Call(within(t), "b", lane, 2, nil); err != nil {
			t.Error(err)
		}
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// relay is a TCP proxy in front of a node, which counts frames and can fall silent.
type relay struct {
	listener net.Listener
	frames   [2]atomic.Int64 // of requests, of answers
	silent   atomic.Bool
	conns    sync.WaitGroup
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener}
	r.conns.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			end := func() { _, _ = c.Close(), out.Close() }
			r.conns.Go(func() { defer end(); r.pass(c, out, 0) })
			r.conns.Go(func() { defer end(); r.pass(out, c, 1) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); r.conns.Wait() })
	return r
}

// pass copies the handshake, and then frame after frame.
func (r *relay) pass(from, to net.Conn, direction int) {
	if direction == 1 {
		if _, err := io.CopyN(to, from, 1); err != nil {
			return
		}
	} else {
		head := make([]byte, 7)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		if _, err := to.Write(head); err != nil {
			return
		}
		if _, err := io.CopyN(to, from, int64(binary.BigEndian.Uint16(head[5:]))+4); err != nil {
			return
		}
	}
	for {
		head := make([]byte, 8)
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		r.frames[direction].Add(1)
		if r.silent.Load() {
			continue
		}
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}

func TestPatientMessagesOfManyGroupsShareFrames(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	r := newRelay(t, b.Addr().String())
	n.set("b", r.listener.Addr().String())
	const groups = 64
	for g := range uint32(groups) {
		b.Group(g).Handle(1, 1, echo("b"))
	}
	if _, err := a.Group(0).Call(within(t), "b", transport.Control, 1, nil); err != nil {
		t.Fatal(err)
	}
	requests, answers := r.frames[0].Load(), r.frames[1].Load()
	var calls sync.WaitGroup
	for g := range uint32(groups) {
		calls.Go(func() {
			if _, err := a.Group(g).Call(within(t), "b", transport.Patient, 1, nil); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	requests, answers = r.frames[0].Load()-requests, r.frames[1].Load()-answers
	if requests > 4 || answers > 4 { // one each, on a machine that has nothing else to do
		t.Errorf("%d calls took %d frames, and %d of answers", groups, requests, answers)
	}
	// What is urgent takes along what waits: sent last, answered no later.
	order := make(chan string, 2)
	a.Group(1).Go("b", transport.Patient, 1, nil, func([]byte, error) { order <- "patient" })
	a.Group(2).Go("b", transport.Control, 1, nil, func([]byte, error) { order <- "urgent" })
	if first := <-order; first != "patient" {
		t.Error("what waits was not taken along")
	}
	<-order
}

// A node that falls silent costs its callers a few seconds at most, and a new connection is made, so
// that nothing waits for what the old one's TCP makes of the silence.
func TestSilentNodeIsGivenUpAndFoundAgain(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	transport.Hurry(a)
	r := newRelay(t, b.Addr().String())
	n.set("b", r.listener.Addr().String())
	b.Group(1).Handle(1, 1, echo("b"))
	for _, lane := range []transport.Lane{transport.Control, transport.Bulk} {
		r.silent.Store(false)
		if _, err := a.Group(1).Call(within(t), "b", lane, 1, nil); err != nil {
			t.Fatal(err)
		}
		r.silent.Store(true)
		if _, err := a.Group(1).Call(within(t), "b", lane, 1, nil); !errors.Is(err, transport.ErrTimeout) {
			t.Errorf("lane %d: %v", lane, err)
		}
		r.silent.Store(false)
		eventually(t, func() error {
			_, err := a.Group(1).Call(within(t), "b", lane, 1, nil)
			return err
		})
	}
}

// The control connection notices first, for all.
func TestSilenceEndsTheBulkConnectionsToo(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	transport.Hurry(a)
	r := newRelay(t, b.Addr().String())
	n.set("b", r.listener.Addr().String())
	b.Group(1).Handle(1, 1, echo("b"))
	for _, lane := range []transport.Lane{transport.Control, transport.Bulk} {
		if _, err := a.Group(1).Call(within(t), "b", lane, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	r.silent.Store(true)
	bulk := make(chan error, 1)
	a.Group(1).Go("b", transport.Bulk, 1, nil, func(_ []byte, err error) { bulk <- err })
	if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil); !errors.Is(err, transport.ErrTimeout) {
		t.Errorf("on the control connection: %v", err)
	}
	if err := <-bulk; !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("on the bulk connection: %v", err)
	}
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline, ticker := time.NewTimer(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal(err)
		}
	}
}

// deaf accepts connections as node b would, and reads nothing.
func deaf(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	stop := make(chan struct{})
	conns.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := c.Write([]byte{0}); err != nil {
				t.Error(err)
			}
			conns.Go(func() { <-stop; _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); close(stop); conns.Wait() })
	return listener.Addr().String()
}

// A peer that takes nothing fills a bounded queue, and nobody waits for room in it.
func TestFullQueueRefuses(t *testing.T) {
	for _, c := range []struct {
		lane transport.Lane
		size int
	}{{transport.Control, 512 << 10}, {transport.Bulk, 8 << 20}} {
		n := newNodes()
		a := n.start(t, "a", "c")
		n.set("b", deaf(t))
		body := make([]byte, c.size)
		var overloaded, others atomic.Int64
		var calls sync.WaitGroup
		for range 64 {
			calls.Add(1)
			a.Group(1).Go("b", c.lane, 1, body, func(_ []byte, err error) {
				defer calls.Done()
				if errors.Is(err, transport.ErrOverloaded) {
					overloaded.Add(1)
				} else if err != nil {
					others.Add(1)
				}
			})
		}
		if overloaded.Load() == 0 {
			t.Errorf("lane %d: none of %d was refused", c.lane, 64)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		calls.Wait()
		if overloaded.Load()+others.Load() != 64 {
			t.Errorf("lane %d: %d refused, %d ended", c.lane, overloaded.Load(), others.Load())
		}
	}
}

func TestPeerThatTakesNothingIsGivenUp(t *testing.T) {
	n := newNodes()
	a := n.start(t, "a", "c")
	transport.Hurry(a)
	n.set("b", deaf(t))
	if _, err := a.Group(1).Call(within(t), "b", transport.Bulk, 1, make([]byte, 32<<20)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call to a node that takes nothing: %v", err)
	}
}

func TestDeadNodeFailsFastAndIsFoundAgain(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	address := b.Addr().String()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	for range 1000 {
		if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil); !errors.Is(err, transport.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("1000 calls to a dead node took %s", took)
	}
	again := n.startAt(t, "b", "c", address)
	again.Group(1).Handle(1, 1, echo("b"))
	eventually(t, func() error {
		_, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil)
		return err
	})
}

// Calls that fail fast do not each try to connect.
func TestRedialingHasPauses(t *testing.T) {
	n := newNodes()
	a := n.start(t, "a", "c")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dialed atomic.Int64
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			dialed.Add(1)
			_ = c.Close()
		}
	})
	n.set("b", listener.Addr().String())
	calls := int64(0)
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); calls++ {
		if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil); !errors.Is(err, transport.ErrUnreachable) {
			t.Fatal(err)
		}
	}
	_ = listener.Close()
	accepting.Wait()
	if got := dialed.Load(); got == 0 || got > 5 {
		t.Errorf("%d calls in 200 ms dialed %d times", calls, got)
	}
}

func TestTheEndOfANodeIsToldToEveryGroup(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	for g := range uint32(3) {
		a.Group(g)
		if _, err := b.Group(g).Call(within(t), "a", transport.Control, 1, nil); !errors.Is(err, transport.ErrNoGroup) {
			t.Fatal(err)
		}
	}
	if a.Group(0).Gone("b", time.Second) || a.Group(0).Gone("nobody", time.Second) {
		t.Error("a living node is gone")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for g := range uint32(3) {
		select {
		case node := <-a.Group(g).Lost():
			if node != "b" {
				t.Errorf("group %d lost %s", g, node)
			}
		case <-within(t).Done():
			t.Fatalf("group %d was not told", g)
		}
	}
	var asking sync.WaitGroup
	for g := range uint32(3) {
		asking.Go(func() {
			if !a.Group(g).Gone("b", time.Second) {
				t.Errorf("group %d: the node is not gone", g)
			}
		})
	}
	asking.Wait()
}

func TestStreams(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	ended := make(chan error, 1)
	b.Group(1).HandleStream(5, func(from topology.NodeID, header []byte, c net.Conn) {
		_, err := fmt.Fprintf(c, "%s %s ", from, header)
		if err == nil {
			_, err = io.Copy(c, c)
		}
		ended <- err
	})
	c, err := a.Group(1).Stream(t.Context(), "b", 5, []byte("header"))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("a header body"))
	if _, err := c.Write([]byte("body")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "a header body" {
		t.Errorf("%q, %v", got, err)
	}
	if err := a.Group(1).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(got); err == nil {
		t.Error("the stream outlived its group")
	}
	<-ended
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for group, kind := range map[uint32]uint8{1: 6, 2: 5} {
		if _, err := b.Group(group).Stream(t.Context(), "a", kind, nil); !errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("a stream of group %d, kind %d: %v", group, kind, err)
		}
	}
	if _, err := a.Group(1).Stream(t.Context(), "b", 5, nil); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("a stream of a closed group: %v", err)
	}
	if _, err := a.Group(2).Stream(t.Context(), "b", 5, make([]byte, 1<<20)); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("a large header: %v", err)
	}
}
