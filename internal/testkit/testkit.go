// Package testkit holds what the tests of many packages need. Only tests import it.
package testkit

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atolldb/atoll/internal/loopback"
)

// pollInterval is how often Eventually looks: often enough that waiting costs little, seldom enough
// that a condition which takes locks does not slow down what it waits for.
const pollInterval = 5 * time.Millisecond

// Main runs a package's tests and fails if they leave goroutines behind. Call it from TestMain.
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(m, options...)
}

// natsLeftovers ignores what an embedded NATS server may leave behind when it is stopped while it
// makes a stream: it never stops the store of that stream. A process that ends does not mind.
func natsLeftovers() []goleak.Option {
	const server = "github.com/nats-io/nats-server/v2/server"
	return []goleak.Option{
		goleak.IgnoreTopFunction(server + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction(server + "/ats.Register.func1"),
	}
}

// RaftLeftovers ignores who waits for an answer of the Raft library that never comes: to what was
// enqueued when it shut down. Package raftgroup leaves such a goroutine behind, and waits no longer.
func RaftLeftovers() []goleak.Option {
	return []goleak.Option{goleak.IgnoreAnyFunction("github.com/hashicorp/raft.(*deferError).Error")}
}

// NodeLeftovers ignores what a whole node may leave behind.
func NodeLeftovers() []goleak.Option { return append(natsLeftovers(), RaftLeftovers()...) }

// Eventually waits until condition returns nil, and fails the test with its last error if that takes
// longer than the given time.
func Eventually(tb testing.TB, within time.Duration, condition func() error) {
	tb.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("still not after %v: %v", within, err)
			return
		}
	}
}

// FreeAddrs returns n different loopback addresses on which nothing listened just now. Use it only
// where an address must be known before anything listens on it; listen on port 0 otherwise.
func FreeAddrs(tb testing.TB, n int) []string {
	tb.Helper()
	addrs, err := loopback.Free(n)
	if err != nil {
		tb.Fatal(err)
	}
	return addrs
}
