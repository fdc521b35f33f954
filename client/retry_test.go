package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// attempts records the op_ids that a server saw.
type attempts struct {
	mu  sync.Mutex
	ids []string
}

func (a *attempts) add(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
	return len(a.ids)
}

func (a *attempts) check(t *testing.T, want int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.ids) != want {
		t.Fatalf("%d attempts, want %d", len(a.ids), want)
	}
	for _, id := range a.ids {
		if id == "" || id != a.ids[0] {
			t.Fatalf("op_ids differ or are empty: %q", a.ids)
		}
	}
}

func TestWriteIsRetriedWithTheSameOpID(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		failures := map[string]func() error{
			"outcome unknown": func() error { return refusal(connect.CodeUnknown, ReasonOutcomeUnknown, 0) },
			"dropped connection": func() error {
				dropConnection()
				return nil
			},
			"no leader":     func() error { return refusal(connect.CodeUnavailable, ReasonNoLeader, time.Millisecond) },
			"shutting down": func() error { return refusal(connect.CodeUnavailable, ReasonShuttingDown, time.Millisecond) },
			"overloaded":    func() error { return refusal(connect.CodeResourceExhausted, ReasonOverloaded, time.Millisecond) },
			"a proxy's 502": func() error { return connect.NewError(connect.CodeUnavailable, "bad gateway") },
		}
		for name, fail := range failures {
			t.Run(name, func(t *testing.T) {
				var seen attempts
				f := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
					if seen.add(r.GetOptions().GetOpId()) < 3 {
						return nil, fail()
					}
					return &atollv1.PutResponse{Version: "v"}, nil
				}}
				version, err := newClient(t, []string{serve(t, f)}).Put(testContext(t), "k", []byte("x"))
				if err != nil || version != "v" {
					t.Fatalf("got %q, %v", version, err)
				}
				seen.check(t, 3)
			})
		}
	})
}

func TestRefusedWriteIsNotRetried(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		retryable := map[Reason]bool{
			ReasonNoLeader: true, ReasonNoQuorum: true, ReasonShuttingDown: true, ReasonNotOwner: true, ReasonNotHome: true, ReasonNoLease: true, ReasonStaleEpoch: true,
			ReasonOverloaded: true, ReasonRateLimited: true, ReasonDeadline: true, ReasonOutcomeUnknown: true,
		}
		for _, row := range contract {
			if retryable[row.reason] {
				continue
			}
			var seen attempts
			f := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
				seen.add(r.GetOptions().GetOpId())
				return nil, refusal(row.code, row.reason, 0)
			}}
			_, err := newClient(t, []string{serve(t, f)}).Put(testContext(t), "k", nil)
			if !errors.Is(err, row.sentinel) {
				t.Errorf("%s: got %v", row.reason, err)
			}
			seen.check(t, 1)
		}
	})
}

func TestGivenOpIDIsUsed(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		f := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			return &atollv1.PutResponse{Version: r.GetOptions().GetOpId()}, nil
		}}
		got, err := newClient(t, []string{serve(t, f)}).Put(testContext(t), "k", nil, WithOpID("mine"))
		if err != nil || got != "mine" {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}

func TestNextEndpointIsTriedAndKept(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		var first, second attempts
		broken := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			first.add(r.GetOptions().GetOpId())
			dropConnection()
			return nil, nil
		}}
		good := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			second.add(r.GetOptions().GetOpId())
			return &atollv1.PutResponse{}, nil
		}}
		c := newClient(t, []string{deadAddress(t), serve(t, broken), serve(t, good)})
		if _, err := c.Put(testContext(t), "k", nil); err != nil {
			t.Fatal(err)
		}
		first.check(t, 1)
		second.check(t, 1)
		if first.ids[0] != second.ids[0] {
			t.Error("the retry at another endpoint has another op_id")
		}
		for range 5 {
			if _, err := c.Put(testContext(t), "k", nil, WithOpID(second.ids[0])); err != nil {
				t.Fatal(err)
			}
		}
		first.check(t, 1)
		second.check(t, 6)
	})
}

func TestHangingEndpointIsGivenUp(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		release := make(chan struct{})
		hanging := &fakeServer{get: func(ctx context.Context, _ *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, connect.NewError(connect.CodeUnavailable, "late")
		}}
		good := &fakeServer{get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			return &atollv1.GetResponse{Found: true, Value: []byte("x")}, nil
		}}
		c := newClient(t, []string{serve(t, hanging), serve(t, good)}, WithAttemptTimeout(50*time.Millisecond))
		v, err := c.Get(testContext(t), "k")
		close(release)
		if err != nil || string(v.Bytes) != "x" {
			t.Fatalf("got %q, %v", v.Bytes, err)
		}
	})
}

func TestUnansweredWriteIsOutcomeUnknown(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		f := &fakeServer{put: func(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			dropConnection()
			return nil, nil
		}}
		_, err := newClient(t, []string{serve(t, f)}, WithMaxAttempts(2)).Put(testContext(t), "k", nil, WithOpID("id-1"))
		var e *Error
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.As(err, &e) || e.Metadata["op_id"] != "id-1" {
			t.Fatalf("got %+v", err)
		}
	})
}

func TestLaterRefusalsDoNotUndoAnUnknownAttempt(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		var seen attempts
		f := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			if seen.add(r.GetOptions().GetOpId()) == 1 {
				dropConnection()
			}
			return nil, refusal(connect.CodeUnavailable, ReasonNoLeader, time.Millisecond)
		}}
		_, err := newClient(t, []string{serve(t, f)}, WithMaxAttempts(3)).Put(testContext(t), "k", nil)
		if !errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("got %v", err)
		}
		seen.check(t, 3)
	})
}

func TestWriteThatNeverConnectedIsNotDone(t *testing.T) {
	_, err := newClient(t, []string{deadAddress(t)}, WithMaxAttempts(2)).Put(testContext(t), "k", nil)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("got %v", err)
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("the cause is lost: %v", err)
	}
}

func TestDeadlineDuringAWriteIsOutcomeUnknown(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		f := &fakeServer{put: func(ctx context.Context, _ *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		_, err := newClient(t, []string{serve(t, f)}, WithTimeout(300*time.Millisecond)).Put(t.Context(), "k", nil)
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestDeadlineWhileNothingWasDoneIsDeadline(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		f := &fakeServer{put: func(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error) {
			return nil, refusal(connect.CodeUnavailable, ReasonNoLeader, time.Minute)
		}}
		_, err := newClient(t, []string{serve(t, f)}, WithTimeout(200*time.Millisecond)).Put(t.Context(), "k", nil)
		if !errors.Is(err, ErrDeadline) || errors.Is(err, ErrOutcomeUnknown) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestCancelledReadIsDeadline(t *testing.T) {
	bothWays(t, func(t *testing.T, serve func(*testing.T, *fakeServer) string) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &fakeServer{get: func(ctx context.Context, _ *atollv1.GetRequest) (*atollv1.GetResponse, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		_, err := newClient(t, []string{serve(t, f)}).Get(ctx, "k")
		if !errors.Is(err, ErrDeadline) || !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestRetryBudgetEnds(t *testing.T) {
	b := newBudget()
	spent := 0
	for b.retry() {
		spent++
	}
	if spent != budgetUnits/retryCost {
		t.Errorf("%d retries, want %d", spent, budgetUnits/retryCost)
	}
	b.success()
	if b.retry() {
		t.Error("one success pays for a whole retry")
	}
	b.success()
	if !b.retry() {
		t.Error("two successes do not pay for a retry")
	}
}

func TestBackoffGrowsAndObeysTheServer(t *testing.T) {
	for n := 1; n < 100; n++ {
		if d := backoff(n, 0); d < firstBackoff/2 || d > maxBackoff {
			t.Fatalf("attempt %d waits %v", n, d)
		}
	}
	if d := backoff(1, 5*time.Second); d != 5*time.Second {
		t.Errorf("waits %v although the server asked for 5s", d)
	}
}

func TestClosedClientRefuses(t *testing.T) {
	c := newClient(t, []string{deadAddress(t)})
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "k"); err == nil {
		t.Error("a closed client reads")
	}
}
