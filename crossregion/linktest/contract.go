package linktest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/crossregion"
	"github.com/atolldb/atoll/topology"
)

// Pair is two regions' links, with the stream of the first working.
type Pair struct {
	Origin, Destination     crossregion.Link
	OriginID, DestinationID topology.RegionID
	// Wipe makes the origin's stream be lost and made anew.
	Wipe func()
}

// patience bounds every wait: JetStream needs several seconds after a loss.
const patience = 60 * time.Second

// Run checks that links do what package crossregion relies on. The origin's stream must be empty and
// hold partitions 0 to 3.
func Run(t *testing.T, pair Pair) {
	ctx, cancel := context.WithCancel(t.Context())
	inbox := newInbox()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	in, out := pair.Destination.Inlet(pair.OriginID), pair.Origin.Outlet()
	wg.Go(func() { keep(ctx, func() error { return in.Subscribe(ctx, inbox) }) })
	wg.Go(func() { keep(ctx, func() error { return out.Serve(ctx, echo{inbox}) }) })

	t.Run("ticks arrive", func(t *testing.T) {
		until(t, "tick", func() bool { return out.Broadcast([]byte("beat")) == nil && inbox.has("tick beat") })
	})
	t.Run("frames arrive in order", func(t *testing.T) { inOrder(t, out, inbox) })
	t.Run("the last frame is found", func(t *testing.T) { lastFrame(t, out) })
	t.Run("fetches are answered by the leader only", func(t *testing.T) { fetches(t, in) })
	t.Run("reports arrive", func(t *testing.T) {
		until(t, "report", func() bool { return in.Report([]byte("marks")) == nil && inbox.has("report marks") })
	})
	t.Run("a wiped stream is another stream", func(t *testing.T) { wiped(t, pair, inbox) })
}

// keep calls run again whenever it ends before its time, as a replicator does.
func keep(ctx context.Context, run func() error) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for run() != nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func inOrder(t *testing.T, out crossregion.Outlet, inbox *inbox) {
	const n = 50
	until(t, "subscription", func() bool {
		return publish(t, out, 0, []byte("ready?")) == nil && inbox.has("0 ready?")
	})
	results := make(chan error, n)
	var mu sync.Mutex
	last := uint64(0)
	for i := range n {
		out.Publish(1, fmt.Appendf(nil, "f%02d", i), func(seq uint64, err error) {
			mu.Lock()
			defer mu.Unlock()
			last = max(last, seq)
			results <- err
		})
	}
	for range n {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all frames", func() bool { return inbox.has(fmt.Sprintf("1 f%02d", n-1)) })
	seen := inbox.of("1 ")
	for i := range n {
		if want := fmt.Sprintf("1 f%02d", i); i >= len(seen) || seen[i] != want {
			t.Fatalf("frame %d is %v", i, seen)
		}
	}
	state, err := out.Stream(t.Context())
	if err != nil || state.LastSeq < last || state.Incarnation == "" {
		t.Errorf("stream is %+v after frame %d: %v", state, last, err)
	}
}

func lastFrame(t *testing.T, out crossregion.Outlet) {
	until(t, "last frame", func() bool {
		frame, err := out.LastFrame(t.Context(), 1)
		return err == nil && string(frame) == "f49"
	})
	if frame, err := out.LastFrame(t.Context(), 3); err != nil || frame != nil {
		t.Errorf("a partition without frames: %q %v", frame, err)
	}
}

func fetches(t *testing.T, in crossregion.Inlet) {
	until(t, "answer", func() bool {
		response, err := in.Fetch(t.Context(), 2, []byte("give"))
		return err == nil && string(response) == "2 give"
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if response, err := in.Fetch(ctx, 3, []byte("give")); err == nil {
		t.Errorf("a partition that no one leads answered %q", response)
	}
}

func wiped(t *testing.T, pair Pair, inbox *inbox) {
	out := pair.Origin.Outlet()
	before, err := out.Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pair.Wipe()
	until(t, "another stream", func() bool {
		after, err := out.Stream(t.Context())
		return err == nil && after.Incarnation != before.Incarnation
	})
	until(t, "publication", func() bool { return publish(t, out, 1, []byte("anew")) == nil })
	until(t, "frame of the new stream", func() bool { return inbox.has("1 anew") })
}

func publish(t *testing.T, out crossregion.Outlet, p topology.PartitionID, frame []byte) error {
	result := make(chan error, 1)
	out.Publish(p, frame, func(_ uint64, err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		t.Fatal("a publication is never answered")
		return nil
	}
}

// until polls: a link promises nothing about when.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("no %s after %v", what, patience)
		case <-ticker.C:
		}
	}
}

// inbox remembers what arrived, in order.
type inbox struct {
	mu   sync.Mutex
	seen []string
	set  map[string]bool
}

func newInbox() *inbox { return &inbox{set: map[string]bool{}} }

func (i *inbox) add(s string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen = append(i.seen, s)
	i.set[s] = true
}

func (i *inbox) has(s string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.set[s]
}

func (i *inbox) of(prefix string) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var of []string
	for _, s := range i.seen {
		if len(s) >= len(prefix) && s[:len(prefix)] == prefix {
			of = append(of, s)
		}
	}
	return of
}

// OnFrame remembers a frame.
func (i *inbox) OnFrame(p topology.PartitionID, frame []byte) { i.add(fmt.Sprintf("%d %s", p, frame)) }

// OnTick remembers a tick.
func (i *inbox) OnTick(frame []byte) { i.add("tick " + string(frame)) }

// echo leads every partition but 3.
type echo struct{ inbox *inbox }

// Fetch returns the request with its partition.
func (e echo) Fetch(p topology.PartitionID, request []byte) []byte {
	if p == 3 {
		return nil
	}
	return fmt.Appendf(nil, "%d %s", p, request)
}

// Report remembers watermarks.
func (e echo) Report(frame []byte) { e.inbox.add("report " + string(frame)) }
