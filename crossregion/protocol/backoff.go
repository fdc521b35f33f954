package protocol

import "time"

// Backoff spaces out attempts at what keeps going wrong. It has no jitter: those who retry wait for
// different answers, and a step function must not depend on chance.
type Backoff struct {
	Least, Most time.Duration
	Failures    int
	Until       time.Time
}

// Failed counts a failure: the next attempt waits longer.
func (b *Backoff) Failed(now time.Time) {
	wait := b.Most
	if b.Failures < 16 {
		wait = min(b.Most, b.Least<<b.Failures)
	}
	b.Failures++
	b.Until = now.Add(wait)
}

// hold puts off the next attempt without counting a failure.
func (b *Backoff) hold(now time.Time, wait time.Duration) { b.Until = now.Add(wait) }

// Succeeded ends the waiting.
func (b *Backoff) Succeeded() { b.Failures, b.Until = 0, time.Time{} }

func (b *Backoff) waiting(now time.Time) bool { return now.Before(b.Until) }
