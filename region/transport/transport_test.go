package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
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
	tls       map[topology.NodeID]*tls.Config
	logger    *slog.Logger
}

func newNodes() *nodes {
	return &nodes{addresses: map[topology.NodeID]string{}, logger: slog.New(slog.DiscardHandler)}
}

func (n *nodes) resolve(id topology.NodeID) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.addresses[id]
	return a, ok
}

func (n *nodes) set(id topology.NodeID, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses[id] = address
}

func (n *nodes) start(t testing.TB, id topology.NodeID, cluster string) *transport.Mux {
	return n.startAt(t, id, cluster, "127.0.0.1:0")
}

func (n *nodes) startAt(t testing.TB, id topology.NodeID, cluster, listen string) *transport.Mux {
	t.Helper()
	m, err := transport.Listen(transport.Config{
		Cluster: cluster, Self: id, Listen: listen, Resolve: n.resolve, Logger: n.logger, TLS: n.tls[id],
	})
	if err != nil {
		t.Fatal(err)
	}
	n.set(id, m.Addr().String())
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

// within gives a test's wait an end.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// echo answers every request with the node's and the group's name, the kind and the body.
func echo(name string) transport.Handler {
	return func(from topology.NodeID, kind uint8, body []byte, reply func([]byte, error)) {
		reply(append([]byte(name+" "+string(from)+" "), append([]byte{kind, ' '}, body...)...), nil)
	}
}

func TestCallsOfGroupsAndLanesDoNotMix(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	b.Group(1).Handle(1, 9, echo("one"))
	b.Group(2).Handle(1, 9, echo("two"))
	a.Group(1).Handle(1, 9, echo("back"))
	var calls sync.WaitGroup
	for _, lane := range []transport.Lane{transport.Control, transport.Patient, transport.Bulk} {
		for range 50 {
			for group, want := range map[uint32]string{1: "one a \x05 x", 2: "two a \x05 x"} {
				calls.Go(func() {
					got, err := a.Group(group).Call(within(t), "b", lane, 5, []byte("x"))
					if err != nil || string(got) != want {
						t.Errorf("group %d on lane %d: %q, %v", group, lane, got, err)
					}
				})
			}
		}
	}
	calls.Wait()
	if got, err := b.Group(1).Call(within(t), "a", transport.Bulk, 1, nil); err != nil || string(got) != "back b \x01 " {
		t.Errorf("the other way: %q, %v", got, err)
	}
}

func TestWhatIsNotHandledIsRefusedAndTheLinkGoesOn(t *testing.T) {
	n := newNodes()
	a, b := n.start(t, "a", "c"), n.start(t, "b", "c")
	b.Group(1).Handle(1, 1, echo("one"))
	b.Group(1).Handle(2, 2, func(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) {
		reply(nil, errors.New("unexpected command"))
	})
	b.Group(1).Handle(3, 3, func(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) {
		reply(nil, transport.ErrOverloaded)
	})
	remote := new(transport.RemoteError)
	for _, lane := range []transport.Lane{transport.Control, transport.Bulk} {
		if _, err := a.Group(7).Call(within(t), "b", lane, 1, nil); !errors.Is(err, transport.ErrNoGroup) {
			t.Errorf("a group that is not there: %v", err)
		}
		for _, kind := range []uint8{9, 200} {
			if _, err := a.Group(1).Call(within(t), "b", lane, kind, nil); !errors.Is(err, transport.ErrNoGroup) {
				t.Errorf("kind %d: %v", kind, err)
			}
		}
		if _, err := a.Group(1).Call(within(t), "b", lane, 2, nil); !errors.As(err, &remote) || remote.Text != "unexpected command" {
			t.Errorf("a handler's error: %v", err)
		}
		if _, err := a.Group(1).Call(within(t), "b", lane, 3, nil); !errors.Is(err, transport.ErrOverloaded) {
			t.Errorf("a handler's refusal: %v", err)
		}
		if _, err := a.Group(1).Call(within(t), "b", lane, 1, nil); err != nil {
			t.Errorf("after all that: %v", err)
		}
	}
	if err := b.Group(1).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Group(1).Call(within(t), "b", transport.Control, 1, nil); !errors.Is(err, transport.ErrNoGroup) {
		t.Errorf("a group that was closed: %v", err)
	}
	if _, err := b.Group(1).Call(within(t), "a", transport.Control, 1, nil); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("a call of a group that was closed: %v", err)
	}
}
