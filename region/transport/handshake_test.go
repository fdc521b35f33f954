package transport_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) has(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !strings.Contains(l.b.String(), text) {
		return errors.New("not logged: " + text + ", but " + l.b.String())
	}
	return nil
}

func TestStrangersAreRefusedWithTheReason(t *testing.T) {
	n, log := newNodes(), &lines{}
	n.logger = slog.New(slog.NewTextHandler(log, nil))
	b := n.start(t, "b", "c")
	b.Group(1).Handle(1, 1, echo("b"))
	foreign := n.start(t, "a", "another")
	known := n.start(t, "k", "c")
	stranger := newNodes()
	stranger.set("b", b.Addr().String())
	s := stranger.start(t, "s", "c")
	n.set("ghost", b.Addr().String()) // whose address b has taken
	for _, c := range []struct {
		from *transport.Mux
		to   topology.NodeID
		want string
	}{
		{foreign, "b", "different names"},
		{s, "b", "not in the other's configuration"},
		{known, "ghost", "another node listens"},
		{known, "nobody", "not in this region"},
	} {
		for _, lane := range []transport.Lane{transport.Control, transport.Bulk} {
			_, err := c.from.Group(1).Call(within(t), c.to, lane, 1, nil)
			if !errors.Is(err, transport.ErrUnreachable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("calling %s: %v, want %q", c.to, err, c.want)
			}
		}
		if _, err := c.from.Group(1).Stream(t.Context(), c.to, 1, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a stream to %s: %v, want %q", c.to, err, c.want)
		}
		if c.to == "b" {
			eventually(t, func() error { return log.has(c.want) })
		}
	}
	if _, err := known.Group(1).Call(within(t), "b", transport.Control, 1, nil); err != nil {
		t.Errorf("a member: %v", err)
	}
}

// closed has conn end soon, by the other side.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var answer [64]byte
	for {
		_, err := c.Read(answer[:])
		if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
			t.Error("the connection was not closed")
		}
		if err != nil {
			return
		}
	}
}

func TestGarbageIsClosed(t *testing.T) {
	n := newNodes()
	b := n.start(t, "b", "c")
	hello := transport.Hello("c", "b", "b", transport.Control)
	older := bytes.Clone(hello)
	older[4] = 1
	for _, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		append([]byte("ATLR\x02\xff\xff"), bytes.Repeat([]byte{1}, 100)...), // an absurd length
		append([]byte("ATLR\x02\x00\x0c"), bytes.Repeat([]byte{0}, 16)...),  // a wrong checksum
		transport.Hello("c", "b", "b", transport.Patient),                   // no such connection
		older,
	} {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(garbage); err != nil {
			t.Fatal(err)
		}
		closed(t, c)
		_ = c.Close()
	}
}

// introduced returns a connection to m that has said whose it is.
func introduced(t *testing.T, m *transport.Mux, lane transport.Lane) (net.Conn, byte) {
	t.Helper()
	c, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(transport.Hello("c", "a", "b", lane)); err != nil {
		t.Fatal(err)
	}
	var verdict [1]byte
	if _, err := c.Read(verdict[:]); err != nil {
		t.Fatal(err)
	}
	return c, verdict[0]
}

func TestMalformedFramesCloseTheConnection(t *testing.T) {
	n, log := newNodes(), &lines{}
	n.logger = slog.New(slog.NewTextHandler(log, nil))
	b := n.start(t, "b", "c")
	n.set("a", "127.0.0.1:1")
	b.Group(1).Handle(2, 2, echo("b"))
	good := transport.Frame([]byte("x"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for what, frame := range map[string][]byte{
		"more than control takes": binary.BigEndian.AppendUint64(nil, (1<<20+1)<<32),
		"four gigabytes":          binary.BigEndian.AppendUint64(nil, 1<<64-1),
		"a flipped bit":           flipped,
		"a wrong direction":       transport.AnswerFrame(nil), // to a node that has asked nothing
	} {
		c, verdict := introduced(t, b, transport.Control)
		if verdict != 0 {
			t.Fatalf("refused: %d", verdict)
		}
		if _, err := c.Write(append(bytes.Clone(good), frame...)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		closed(t, c)
	}
	eventually(t, func() error { return log.has("malformed frame") })
}

// What a frame claims to hold is believed as it arrives.
func TestClaimsAreNotAllocated(t *testing.T) {
	claim := binary.BigEndian.AppendUint32(nil, transport.BulkBytes)
	claim = append(claim, make([]byte, 4+100)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := transport.ReadFrame(claim); err == nil {
			t.Fatal("a frame that ends early was read")
		}
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 100*(256<<10) {
		t.Errorf("%d bytes allocated for 100 claims of %d", grew, transport.BulkBytes)
	}
}

func TestOneNodeHasFewConnections(t *testing.T) {
	n := newNodes()
	b := n.start(t, "b", "c")
	n.set("a", "127.0.0.1:1")
	for range transport.ConnsPerPeer {
		if _, verdict := introduced(t, b, transport.Bulk); verdict != 0 {
			t.Fatalf("refused: %d", verdict)
		}
	}
	if c, verdict := introduced(t, b, transport.Bulk); verdict == 0 {
		t.Error("there is no end to a node's connections")
	} else {
		closed(t, c)
	}
}

// Who asks and does not take the answers loses the connection.
func TestAnswersThatNobodyTakesEndTheConnection(t *testing.T) {
	n := newNodes()
	b := n.start(t, "b", "c")
	transport.Hurry(b)
	n.set("a", "127.0.0.1:1")
	b.Group(1).Handle(2, 2, func(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) {
		reply(make([]byte, 30<<20), nil) // more than the system holds for us
	})
	c, _ := introduced(t, b, transport.Bulk)
	if _, err := c.Write(transport.Frame(nil)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, err := c.Write([]byte{0}); err == nil { // the rest of a frame is always to come
			return errors.New("the connection is open")
		}
		return nil
	})
}

func TestCloseEndsCalls(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	asked := make(chan func([]byte, error), 2)
	b.Group(1).Handle(1, 1, func(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) { asked <- reply })
	var calls sync.WaitGroup
	for _, lane := range []transport.Lane{transport.Control, transport.Bulk} {
		calls.Go(func() {
			if _, err := a.Group(1).Call(within(t), "b", lane, 1, nil); !errors.Is(err, transport.ErrUnreachable) && !errors.Is(err, transport.ErrClosed) {
				t.Errorf("lane %d: %v", lane, err)
			}
		})
	}
	first, second := <-asked, <-asked
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	calls.Wait()
	first(nil, nil) // too late, and to nobody
	second(nil, nil)
	if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("a call of a closed node: %v", err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(transport.Hello("c", "a", "b", transport.Bulk))
	f.Fuzz(func(t *testing.T, data []byte) { transport.ReadHello(data) })
}

func FuzzFrame(f *testing.F) {
	f.Add(transport.Frame([]byte("one"), nil, []byte("three")))
	f.Add(binary.BigEndian.AppendUint32(nil, 1<<25))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := transport.ReadFrame(data); err == nil && n > len(data) {
			t.Errorf("%d bytes out of %d", n, len(data))
		}
	})
}
