package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nodes is a set of muxes that know each other.
type nodes struct {
	mu        sync.Mutex
	addresses map[topology.NodeID]string
}

func (n *nodes) resolve(id topology.NodeID) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.addresses[id]
	return a, ok
}

func (n *nodes) start(t *testing.T, id topology.NodeID, cluster string) *transport.Mux {
	t.Helper()
	m, err := transport.Listen(transport.Config{
		Cluster: cluster, Self: id, Listen: "127.0.0.1:0", Resolve: n.resolve, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.addresses[id] = m.Addr().String()
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestGroupsShareAListenerAndDoNotMix(t *testing.T) {
	n := &nodes{addresses: map[topology.NodeID]string{}}
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	for _, group := range []uint32{1, 2} {
		b.Group(group)
	}
	for _, group := range []uint32{2, 1} {
		out, err := a.Group(group).Dial("b", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		in, err := b.Group(group).Accept()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = out.Write([]byte{byte(group)}) }()
		var got [1]byte
		if _, err := io.ReadFull(in, got[:]); err != nil || uint32(got[0]) != group {
			t.Errorf("group %d received %d, %v", group, got[0], err)
		}
		if err := errors.Join(in.Close(), out.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestStrangersAreRefusedWithTheReason(t *testing.T) {
	n := &nodes{addresses: map[topology.NodeID]string{}}
	b := n.start(t, "b", "c")
	b.Group(1)
	foreign := n.start(t, "a", "another")
	known := n.start(t, "k", "c")
	stranger := &nodes{addresses: map[topology.NodeID]string{"b": b.Addr().String()}}
	s := stranger.start(t, "s", "c")
	n.mu.Lock()
	n.addresses["ghost"] = b.Addr().String() // whose address b has taken
	n.mu.Unlock()
	for _, c := range []struct {
		from  *transport.Mux
		to    topology.NodeID
		group uint32
		want  string
	}{
		{foreign, "b", 1, "different names"},
		{s, "b", 1, "not in the other's configuration"},
		{known, "ghost", 1, "another node listens"},
		{known, "b", 7, "no such partition"},
		{known, "nobody", 1, "not in this region"},
	} {
		conn, err := c.from.Group(c.group).Dial(c.to, 5*time.Second)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("dialing %s: %v, want %q", c.to, err, c.want)
		}
		if conn != nil {
			t.Errorf("dialing %s gave a connection", c.to)
		}
	}
}

func TestGarbageIsClosed(t *testing.T) {
	n := &nodes{addresses: map[topology.NodeID]string{}}
	b := n.start(t, "b", "c")
	for _, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		append([]byte("ATLR\x01\xff\xff"), bytes.Repeat([]byte{1}, 100)...), // an absurd length
		append([]byte("ATLR\x01\x00\x08"), bytes.Repeat([]byte{0}, 12)...),  // a wrong checksum
	} {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(garbage); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var answer [1]byte
		if _, err := c.Read(answer[:]); err == nil {
			t.Errorf("%q was answered %d", garbage[:7], answer[0])
		} else if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
			t.Errorf("%q was not closed", garbage[:7])
		}
		_ = c.Close()
	}
}

func TestEndClosesEverything(t *testing.T) {
	n := &nodes{addresses: map[topology.NodeID]string{}}
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	b.Group(1)
	out, err := a.Group(1).Dial("b", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the listener's node")
	}
	if _, err := b.Group(1).Accept(); err == nil {
		t.Error("a closed node accepts")
	}
	if err := out.Close(); err != nil {
		t.Error(err)
	}
	if c, err := a.Group(1).Dial("b", 5*time.Second); err == nil {
		t.Errorf("dialed a closed node: %v", c)
	}
}

// A group that stops waits for no peer, and the other groups go on.
func TestClosingAGroupClosesItsConnections(t *testing.T) {
	n := &nodes{addresses: map[topology.NodeID]string{}}
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	in := map[uint32]net.Conn{}
	out := map[uint32]net.Conn{}
	for _, group := range []uint32{1, 2} {
		layer := b.Group(group)
		var err error
		if out[group], err = a.Group(group).Dial("b", 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if in[group], err = layer.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.Group(1).Close(), b.Group(1).Close()); err != nil {
		t.Fatal(err)
	}
	for side, c := range map[string]net.Conn{"accepted": in[1], "dialed": out[1]} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("the %s connection is open", side)
		}
	}
	if _, err := b.Group(1).Dial("a", 5*time.Second); err == nil {
		t.Error("a closed group dials")
	}
	if _, err := out[2].Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in[2], make([]byte, 1)); err != nil {
		t.Errorf("the other group: %v", err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add([]byte("ATLR\x01\x00\x08"))
	f.Fuzz(func(t *testing.T, data []byte) { transport.ReadHello(data) })
}
