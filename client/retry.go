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

// attempt is what one try of a call is to know.
type attempt struct {
	avoid    *endpoint // that failed just now
	now      time.Time
	patience time.Duration // how long it may take
}

// tryer is a call that can be tried. It chooses the endpoint. For an error it reports whether any of
// the request may have been sent.
type tryer interface {
	try(ctx context.Context, s *shared, a attempt) (e *endpoint, sent bool, err error)
}

// run tries a call at one endpoint after another until it succeeds, is refused, or the context, the
// attempts or the budget end. A write has an operation id, which it sends every time.
func (s *shared) run(ctx context.Context, opID string, t tryer) error {
	if s.closed.Load() {
		return errors.New("client is closed")
	}
	s.inUse(ctx)
	now := s.clock()
	deadline, bounded := ctx.Deadline()
	if !bounded {
		deadline = now.Add(s.cfg.timeout)
	}
	e, sent, err := t.try(ctx, s, attempt{now: now, patience: s.patience(deadline.Sub(now))})
	if err == nil {
		s.budget.success()
		return nil
	}
	// A context of its own is made only now: most calls need none.
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	unknown := false // whether any attempt so far may have been done
	var done *Error  // what an attempt said that was done, but not everywhere where it was to be
	for n := 1; ; n++ {
		fault, v := judge(ctx, err, opID != "", sent)
		unknown = unknown || v == ambiguous
		if v == final {
			return fault
		}
		if fault.Metadata["done_in"] != "" {
			done = fault
		}
		avoid := s.learnFrom(ctx, e, t, fault)
		if n >= s.cfg.attempts || ctx.Err() != nil || !s.budget.retry() || !pause(ctx, backoff(n, fault.RetryAfter)) {
			if done != nil {
				return done // later tries that were not answered do not make that unknown
			}
			return conclude(ctx, fault, unknown && opID != "", opID)
		}
		now = s.clock()
		e, sent, err = t.try(ctx, s, attempt{avoid: avoid, now: now, patience: s.patience(deadline.Sub(now))})
		if err == nil {
			s.budget.success()
			return nil
		}
	}
}

// patience returns how long one try may take of a call that has so much time left.
func (s *shared) patience(left time.Duration) time.Duration {
	if s.alternatives() {
		left = min(left, s.cfg.attemptTimeout)
	}
	return max(left, time.Millisecond) // a context that has ended says so itself
}

// rpc is a call that any node takes alike.
type rpc[T any] struct {
	do    func(context.Context, *endpoint) (T, error)
	reply T
}

// invoke runs a call that any node takes alike.
func invoke[T any](ctx context.Context, s *shared, opID string, do func(context.Context, *endpoint) (T, error)) (T, error) {
	c := rpc[T]{do: do}
	if err := s.run(ctx, opID, &c); err != nil {
		var zero T
		return zero, err
	}
	return c.reply, nil
}

func (c *rpc[T]) try(ctx context.Context, s *shared, a attempt) (*endpoint, bool, error) {
	e := s.anyNode(a.avoid)
	sent, err := single(ctx, a, func(ctx context.Context) (err error) {
		c.reply, err = c.do(ctx, e)
		return err
	})
	return e, sent, err
}

// single makes one HTTP request. It reports, besides do's error, whether a connection was had: without
// one nothing was sent.
func single(ctx context.Context, a attempt, do func(context.Context) error) (bool, error) {
	ctx, cancel := context.WithDeadline(ctx, a.now.Add(a.patience))
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	err := do(ctx)
	return connected.Load(), err
}

// judge decides what an attempt's error means.
func judge(ctx context.Context, err error, write, sent bool) (*Error, verdict) {
	e, fromServer := err.(*Error) // as a stream answers; one that is wrapped is no verdict on this call
	if fromServer {
		fromServer = e.Reason != ""
	} else {
		e, fromServer = errorOf(err)
	}
	if !fromServer {
		return judgeTransport(ctx, e, write, sent)
	}
	switch e.Reason {
	case ReasonNoLeader, ReasonNoQuorum, ReasonShuttingDown, ReasonNotOwner, ReasonNotHome, ReasonNoLease, ReasonStaleEpoch,
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
