package region

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

const (
	// tickAfter is how long nothing that others wait for must have happened: a tick tells of all of it at once.
	tickAfter = 200 * time.Millisecond
	// tickEvery is how long after this region's last event the next tick is made. A region that writes needs none.
	tickEvery = 10 * time.Second
)

// tick runs the command that the leader proposes. Watchers have nothing to hear of it.
func (a *application) tick(now hlc.Time, c *logv1.TickCommand) (result, error) {
	d, ticked, err := a.replica.TickPast(now, hlc.Time(c.GetPastHlc()))
	if err != nil || !ticked {
		return result{}, err
	}
	return result{}, a.ship([]replica.Delta{d})
}

// tickTimer is what a leader remembers about ticks.
type tickTimer struct {
	// since is when it saw that others wait, zero if they do not.
	since time.Time
}

// due reports whether others have waited long enough for an event of this region.
func (t *tickTimer) due(view *MachineView, now time.Time) bool {
	if view.Owed == 0 {
		t.since = time.Time{}
		return false
	}
	if t.since.IsZero() {
		t.since = now
	}
	own := view.HLCs[view.Outbox.Actor]
	if now.Sub(own.Wall()) < tickEvery {
		return false
	}
	return now.Sub(view.Owed.Wall()) >= tickAfter || now.Sub(t.since) >= tickEvery
}

// tickDue proposes a tick if other regions wait for an event of this one, and have for long enough.
func (p *Partition) tickDue(ctx context.Context, t *tickTimer) error {
	command := p.tickCommand(t)
	if command == nil {
		return nil
	}
	_, err := p.batcher.do(ctx, command)
	return err
}

// tickCommand returns what tickDue proposes, if anything.
func (p *Partition) tickCommand(t *tickTimer) *logv1.Command {
	view := p.machine.View()
	if len(p.waitsFor(view)) == 0 || !t.due(view, p.wall()) || view.Owed > p.clock.Read() {
		return nil
	}
	return &logv1.Command{Command: &logv1.Command_Tick{Tick: &logv1.TickCommand{}}}
}
