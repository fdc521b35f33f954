package client

import (
	"context"
	"time"
)

const (
	sweepEvery = 100 * time.Millisecond
	// A stream that is not answered within proveTicks does not work, one that hears nothing for
	// stallTicks while a request runs out of time hangs, and one unused for idleTicks is closed.
	proveTicks = 20
	stallTicks = 30
	idleTicks  = 600
)

// sweep gives up what takes too long, until ctx or the stream ends.
func (p *pipe) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var w sweeping
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.gone:
			return
		case <-tick.C:
			if err := p.look(&w); err != nil {
				p.end(err)
				return
			}
		}
	}
}

// sweeping is what sweep saw when it last looked.
type sweeping struct {
	messages, submits uint64
	quiet, idle       int // for how many ticks nothing was heard, or nothing was to be done
}

// look gives up calls whose time is over, and returns an error if the stream is to end.
func (p *pipe) look(w *sweeping) error {
	now := p.shared.clock()
	p.mu.Lock()
	expired := p.expiredLocked(now)
	w.quiet++
	w.idle++
	if p.mu.messages != w.messages {
		w.quiet = 0
	}
	if p.mu.submits != w.submits || !p.emptyLocked() {
		w.idle = 0
	}
	w.messages, w.submits = p.mu.messages, p.mu.submits
	finished := p.mu.retiring && p.emptyLocked()
	wake := p.rousesLocked()
	p.mu.Unlock()
	if wake {
		p.wake <- struct{}{}
	}
	for _, c := range expired {
		c.err = errExpired
		c.done <- struct{}{}
	}
	switch {
	case !p.proven.Load() && w.quiet >= proveTicks:
		return errNotProven
	case len(expired) > 0 && w.quiet >= stallTicks:
		return errExpired
	case finished, w.idle >= idleTicks:
		return errPipeEnded
	}
	return nil
}

// expiredLocked takes out the calls whose time is over.
func (p *pipe) expiredLocked(now time.Time) []*call {
	var expired []*call
	take := func(at **call) bool {
		c := *at
		if c == nil || !now.After(c.expires) {
			return false
		}
		*at = nil
		expired = append(expired, c)
		return true
	}
	for i := p.mu.head; i < len(p.mu.queue); i++ {
		take(&p.mu.queue[i])
	}
	p.trimLocked()
	if p.mu.inFlight == 0 {
		return expired
	}
	for i := range p.mu.flying {
		if take(&p.mu.flying[i]) {
			p.mu.inFlight--
		}
	}
	return expired
}
