package crossregion

import "time"

// backoff spaces out attempts at what keeps going wrong. It has no jitter: those who retry wait for
// different answers, and a step function must not depend on chance.
type backoff struct {
	least, most time.Duration
	failures    int
	until       time.Time
}

func (b *backoff) failed(now time.Time) {
	wait := b.most
	if b.failures < 16 {
		wait = min(b.most, b.least<<b.failures)
	}
	b.failures++
	b.until = now.Add(wait)
}

// hold puts off the next attempt without counting a failure.
func (b *backoff) hold(now time.Time, wait time.Duration) { b.until = now.Add(wait) }

func (b *backoff) succeeded() { b.failures, b.until = 0, time.Time{} }

func (b *backoff) waiting(now time.Time) bool { return now.Before(b.until) }
