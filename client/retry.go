package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
)

const (
	firstBackoff = 25 * time.Millisecond
	maxBackoff   = time.Second

	// A client may retry freely through an election, but not for ever multiply the load on a region
	// that is down: retries spend the budget, and every two successes earn one back.
	budgetUnits  = 2000
	retryCost    = 2
	successEarns = 1
)

// budget is a token bucket that bounds retries. A new one is full.
type budget struct{ spent atomic.Int64 }

func newBudget() *budget { return &budget{} }

func (b *budget) retry() bool {
	if b.spent.Add(retryCost) <= budgetUnits {
		return true
	}
	b.spent.Add(-retryCost)
	return false
}

func (b *budget) success() {
	if b.spent.Load() > 0 {
		b.spent.Add(-successEarns)
	}
}

// verdict is what an attempt's error allows.
type verdict int

const (
	final     verdict = iota // a retry would be refused again
	notDone                  // nothing was done; a retry can help
	ambiguous                // it may have been done; only the same operation id makes a retry safe
)

// attempt is one try of a call at one endpoint.
type attempt[T any] func(ctx context.Context, e *endpoint) (T, error)

// invoke tries do at one endpoint after another until it succeeds, is refused, or the context, the
// attempts or the budget end. A write has an operation id, which do sends every time.
func invoke[T any](ctx context.Context, s *shared, opID string, do attempt[T]) (T, error) {
	var zero T
	if s.closed.Load() {
		return zero, errors.New("client is closed")
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.timeout)
		defer cancel()
	}
	unknown := false // whether any attempt so far may have been done
	for n := 1; ; n++ {
		index := s.preferred.Load()
		reply, sent, err := tryOnce(ctx, s, s.endpoints[index], do)
		if err == nil {
			s.budget.success()
			return reply, nil
		}
		e, v := judge(ctx, err, opID != "", sent)
		unknown = unknown || v == ambiguous
		if v == final {
			return zero, e
		}
		if len(s.endpoints) > 1 && goElsewhere(e) {
			s.preferred.CompareAndSwap(index, (index+1)%uint32(len(s.endpoints)))
		}
		if n >= s.cfg.attempts || ctx.Err() != nil || !s.budget.retry() || !pause(ctx, backoff(n, e.RetryAfter)) {
			return zero, conclude(ctx, e, unknown && opID != "", opID)
		}
	}
}

// tryOnce reports, besides do's result, whether a connection was had: without one nothing was sent.
func tryOnce[T any](ctx context.Context, s *shared, e *endpoint, do attempt[T]) (T, bool, error) {
	if len(s.endpoints) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.attemptTimeout)
		defer cancel()
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	reply, err := do(ctx, e)
	return reply, connected.Load(), err
}

// judge decides what an attempt's error means.
func judge(ctx context.Context, err error, write, sent bool) (*Error, verdict) {
	e, fromServer := errorOf(err)
	if !fromServer {
		return judgeTransport(ctx, e, write, sent)
	}
	switch e.Reason {
	case ReasonNoLeader, ReasonNoQuorum, ReasonShuttingDown, ReasonNotOwner, ReasonStaleEpoch,
		ReasonOverloaded, ReasonRateLimited, ReasonDeadline:
		return e, notDone
	case ReasonOutcomeUnknown:
		return e, ambiguous
	case ReasonStale:
		if e.RetryAfter > 0 {
			return e, notDone
		}
	}
	return e, final
}

// judgeTransport judges an error that carries no verdict of a server: a broken connection, a proxy's
// answer, or the end of the context.
func judgeTransport(ctx context.Context, e *Error, write, sent bool) (*Error, verdict) {
	if ctx.Err() == nil && isRefusal(e.Code) {
		// The server's RPC layer, or a proxy, refused the request as such.
		e.Reason = reasonOfRefusal(e.Code)
		return e, final
	}
	e.Code, e.Reason = connect.CodeUnavailable, ReasonUnreachable
	e.Message = fmt.Sprintf("no answer from any endpoint: %s (check the address and that the server runs)", e.Message)
	if write && sent {
		return e, ambiguous
	}
	return e, notDone
}

func isRefusal(c connect.Code) bool {
	switch c {
	case connect.CodeInvalidArgument, connect.CodeUnimplemented, connect.CodeUnauthenticated,
		connect.CodePermissionDenied, connect.CodeResourceExhausted, connect.CodeNotFound:
		return true
	default:
		return false
	}
}

func reasonOfRefusal(c connect.Code) Reason {
	switch c {
	case connect.CodeUnauthenticated:
		return ReasonUnauthenticated
	case connect.CodePermissionDenied:
		return ReasonDenied
	default:
		return ReasonInvalidArgument
	}
}

// goElsewhere reports whether another node could do better. A partition without a leader has none
// seen from any node, but this node may be the one that is cut off.
func goElsewhere(e *Error) bool {
	switch e.Reason {
	case ReasonUnreachable, ReasonShuttingDown, ReasonNoLeader, ReasonNoQuorum, ReasonOutcomeUnknown, ReasonDeadline:
		return true
	default:
		return false
	}
}

// conclude makes the error of a call that is given up. Once an attempt may have been done, later
// ones that were not cannot make that undone.
func conclude(ctx context.Context, last *Error, unknown bool, opID string) error {
	if unknown {
		return &Error{
			Code:   connect.CodeUnknown,
			Reason: ReasonOutcomeUnknown,
			Message: fmt.Sprintf("the write may or may not have taken effect: %s; to find out, repeat it within 15 minutes with operation id %s",
				last.Message, opID),
			Metadata: map[string]string{"op_id": opID},
			cause:    errors.Join(last.cause, ctx.Err()),
		}
	}
	if err := ctx.Err(); err != nil {
		return &Error{
			Code:     connect.CodeDeadlineExceeded,
			Reason:   ReasonDeadline,
			Message:  fmt.Sprintf("%s before the request was executed; the last try: %s", contextVerb(err), last.Message),
			Metadata: last.Metadata,
			cause:    errors.Join(last.cause, err),
		}
	}
	return last
}

func contextVerb(err error) string {
	if errors.Is(err, context.Canceled) {
		return "cancelled"
	}
	return "the deadline passed"
}

// backoff returns how long to wait after the nth attempt: exponential, half of it random so that
// clients that failed together do not return together, and never less than the server asks for.
func backoff(n int, atLeast time.Duration) time.Duration {
	d := min(firstBackoff<<min(n-1, 10), maxBackoff)
	return max(d/2+rand.N(d/2), atLeast)
}

// pause waits for d and reports whether the context is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
