package region

import (
	"context"
	"sync"
	"time"

	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// tickRequests gathers what other regions have asked for, until it is proposed.
type tickRequests struct {
	work chan struct{} // has room for one: past has risen
	mu   struct {
		sync.Mutex
		past hlc.Time
	}
}

func newTickRequests() *tickRequests { return &tickRequests{work: make(chan struct{}, 1)} }

func (t *tickRequests) want(past hlc.Time) {
	t.mu.Lock()
	t.mu.past = max(t.mu.past, past)
	t.mu.Unlock()
	select {
	case t.work <- struct{}{}:
	default:
	}
}

func (t *tickRequests) latest() hlc.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.past
}

// WantTick sees to it that this region makes an event at or after an instant, because another region waits for
// one: a read there depends on all that happened here before. If there is one already, that is on its way.
// It does not wait; requests are served together, one event every 200 ms at most.
//
// Errors: *NotLeaderError, ErrFenced, *ClockAheadError if the instant is too far in the future to be believed.
func (p *Partition) WantTick(past hlc.Time) error {
	if err := p.leading(); err != nil {
		return err
	}
	if err := p.muted(); err != nil {
		return err
	}
	if ahead := past.Wall().Sub(p.wall()); ahead > p.clockAhead {
		return &ClockAheadError{Ahead: ahead}
	}
	if view := p.machine.View(); view.HLCs[view.Outbox.Actor] < past && len(p.waitsFor(view)) > 0 {
		p.ticks.want(past)
	}
	return nil
}

// tickLoop proposes the ticks that other regions ask for.
func (p *Partition) tickLoop(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.ticks.work:
		}
		if err := p.tickPast(ctx, p.ticks.latest()); err != nil && ctx.Err() == nil {
			p.logger.Debug("another region was not told how far this one is", "err", err)
		}
		pause.Reset(tickAfter)
	}
}

// tickPast proposes a tick if this region's last event is before an instant. The tick is stamped after it.
func (p *Partition) tickPast(ctx context.Context, past hlc.Time) error {
	if view := p.machine.View(); view.HLCs[view.Outbox.Actor] >= past {
		return nil
	}
	p.clock.Observe(past)
	_, err := p.batcher.do(ctx, &logv1.Command{Command: &logv1.Command_Tick{Tick: &logv1.TickCommand{PastHlc: uint64(past)}}})
	return err
}
