package crdt

import (
	"slices"

	"github.com/atolldb/atoll/hlc"
)

// This file joins whole states of which each side may have dropped what it needed no more. A change says all
// that its event did; a whole state says by leaving something out that it was deleted, or that it never was
// there, and what was seen decides which.

// JoinCounters joins two whole counters. A row that one side lacks although it has seen the row's last addition
// was wholly reset there, and dropped by Compact or Settle: it is left out. What its owner adds later belongs to
// a new generation. seenA and seenB report whether a side has seen an event.
func JoinCounters(a, b Counter, seenA, seenB func(Dot) bool) Counter {
	joined := a.without(b, seenB)
	joined.Join(b.without(a, seenA))
	return joined
}

// without returns the rows, but for those that o lacks although it has seen their last addition.
func (c Counter) without(o Counter, seen func(Dot) bool) Counter {
	left := c.Clone()
	var gone []Actor
	left.rows = slices.DeleteFunc(left.rows, func(r Row) bool {
		_, both := o.search(r.Actor)
		reset := !both && r.Entry.Seq != 0 && seen(Dot{r.Actor, r.Entry.Seq})
		if reset {
			gone = append(gone, r.Actor)
		}
		return reset
	})
	left.voids = slices.DeleteFunc(left.voids, func(v Void) bool { return slices.Contains(gone, v.Actor) })
	if len(left.voids) == 0 {
		left.voids = nil
	}
	return left
}

// Since returns what is of after an instant: the writes, and the delete. Joined to it, the state of a replica that
// has seen every event up to the instant makes the state of both, whatever either has collected: of up to there
// that replica knows all, and of after it nothing was collected.
func (r MaxRegister) Since(cut hlc.Time) MaxRegister {
	r.writes = slices.DeleteFunc(slices.Clone(r.writes), func(w maxWrite) bool { return w.time <= cut })
	if r.deletedAt.time <= cut {
		r.deletedAt = moment{}
	}
	return r
}

// Since returns what is of after an instant, as MaxRegister.Since does.
func (r MinRegister) Since(cut hlc.Time) MinRegister { return MinRegister{r.complement.Since(cut)} }

// Since returns what is of after an instant, as MaxRegister.Since does.
func (h HLL) Since(cut hlc.Time) HLL {
	h.layers = slices.DeleteFunc(slices.Clone(h.layers), func(l hllLayer) bool { return l.at <= cut })
	if h.deletedAt <= cut {
		h.deletedAt = 0
	}
	return h
}
