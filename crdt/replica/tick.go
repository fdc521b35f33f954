package replica

import (
	"fmt"

	"github.com/atolldb/atoll/hlc"
)

// This file makes events without effects. What a delete, an expiry or a reset leaves behind goes once every
// other region is known to have got past it, and a region tells that by its events: each has an instant, and
// says what its author had seen. A region that has nothing to write tells it by a tick.
//
// Nobody waits for what a tick says of itself, so only events with effects, and expiry, make a tick
// necessary: after the last of them every region ticks once, and is silent.

// owe records that others may wait for an own event at an instant or later.
func (m *meta) owe(at hlc.Time) {
	if at > m.times[m.self] {
		m.owed = max(m.owed, at)
	}
}

// NeedsTick reports whether other regions may be waiting for an event of this one, be it without effects: since
// the last own event an event with effects was merged, of which they cannot know, or a register expired. now is
// the instant that a Tick would be given. It is a function of the replica's state and the argument.
func (r *Replica) NeedsTick(now hlc.Time) bool {
	return r.meta.owed != 0 && r.meta.owed <= r.meta.instant(now)
}

// Owed returns the instant at or after which other regions may be waiting for an event of this one; 0 if they
// are not. It rises with every event merged that has effects.
func (r *Replica) Owed() hlc.Time { return r.meta.owed }

// Tick makes an event without effects if NeedsTick says so, and reports whether it did. Whoever merges it knows
// that nothing from before it is still to come from this region, and what this region had seen.
func (r *Replica) Tick(now hlc.Time) (Delta, bool, error) { return r.TickPast(now, 0) }

// TickPast is Tick, which also makes the event if this region's last one is before past.
func (r *Replica) TickPast(now, past hlc.Time) (Delta, bool, error) {
	if !r.NeedsTick(now) && r.meta.times[r.meta.self] >= past {
		return Delta{}, false, nil
	}
	w := r.begin(false)
	d := w.event(w.instant(now), nil)
	if err := r.commit(w); err != nil {
		return Delta{}, false, fmt.Errorf("tick: %w", err)
	}
	return d, true, nil
}
