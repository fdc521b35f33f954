package replica

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
)

// Merge applies deltas of another actor, which follow each other without a gap, and returns how many
// were new. Those that were applied before are skipped whole, so duplicates and overlaps do no harm.
// Deltas of different actors may arrive in any order relative to each other, even against causality.
//
// The version vector advances with the effects. The result is a function of the replica's state and
// the arguments.
//
// Errors: *GapError means that deltas are missing, *BadDeltaError that these cannot be; nothing was
// changed then. Any other error means that the storage failed or is corrupt, and the replica must
// not be used any more.
func (r *Replica) Merge(actor crdt.Actor, deltas []Delta) (applied uint64, err error) {
	deltas, err = r.admit(actor, deltas)
	if err != nil {
		return 0, err
	}
	return uint64(len(deltas)), r.apply(actor, deltas)
}

// MergeRun applies what is new of the deltas that a run stands for, and returns how many of them were. It
// does what Merge does with each of them. A run that begins before what is applied, and ends after it, does
// no harm.
//
// Errors are those of Merge.
func (r *Replica) MergeRun(run Run) (applied uint64, err error) { return r.MergeRuns(run) }

// MergeRuns applies runs of one actor as one change, all or none. Each begins at the latest where the one
// before it ends.
func (r *Replica) MergeRuns(runs ...Run) (applied uint64, err error) {
	if len(runs) == 0 {
		return 0, nil
	}
	for i := range runs {
		if runs[i].checked {
			continue
		}
		if err := runs[i].check(); err != nil {
			return 0, err
		}
	}
	actor := runs[0].Actor()
	have := r.meta.vector.Get(actor)
	var fresh []Delta
	for i, last := 0, have; i < len(runs); i++ {
		run := &runs[i]
		if err := r.ofOthers(actor, run.Deltas); err != nil {
			return 0, err
		}
		switch {
		case i == 0 && run.From > have+1:
			return 0, &GapError{Actor: actor, Have: have, Got: run.From}
		case i > 0 && run.From > runs[i-1].To()+1:
			return 0, &BadDeltaError{crdt.Dot{Actor: actor, Seq: run.From}, "does not follow on the one before"}
		}
		fresh = append(fresh, run.After(last)...)
		last = max(last, run.To())
	}
	if len(fresh) == 0 {
		return 0, nil
	}
	if err := r.consistent(actor, fresh); err != nil {
		return 0, err
	}
	return fresh[len(fresh)-1].Dot.Seq - have, r.apply(actor, fresh)
}

// apply applies deltas that were admitted. What is missing between them has no effect that is not theirs.
func (r *Replica) apply(actor crdt.Actor, deltas []Delta) error {
	if len(deltas) == 0 {
		return nil
	}
	// Nothing is refused from here on, so nothing need be staged.
	w := r.begin(false)
	for i := range deltas {
		w.meta.vector.Set(actor, deltas[i].Dot.Seq-1)
		if err := w.merge(&deltas[i]); err != nil {
			return fmt.Errorf("merge delta %v: %w", deltas[i].Dot, err)
		}
	}
	if err := w.closeSet(); err != nil {
		return fmt.Errorf("write a set: %w", err)
	}
	if err := w.forgetPreremovals(actor); err != nil {
		return fmt.Errorf("forget pre-removals: %w", err)
	}
	if err := w.forgetDeferred(); err != nil {
		return fmt.Errorf("forget deferred clears: %w", err)
	}
	if err := w.settle(actor, sweepBudget); err != nil {
		return fmt.Errorf("settle resets: %w", err)
	}
	if err := w.forgetAhead(actor); err != nil {
		return fmt.Errorf("forget what was seen ahead: %w", err)
	}
	w.meta.dropLayers()
	return r.commit(w)
}

// ofOthers refuses deltas that are not an actor's, or are of the replica's own.
func (r *Replica) ofOthers(actor crdt.Actor, deltas []Delta) error {
	for i := range deltas {
		switch dot := deltas[i].Dot; {
		case dot.Actor != actor:
			return &BadDeltaError{dot, fmt.Sprintf("not of actor %d", actor)}
		case actor == r.meta.self:
			return &BadDeltaError{dot, "of this replica's own actor"}
		}
	}
	return nil
}

// admit returns the deltas that are new, or why none may be applied.
func (r *Replica) admit(actor crdt.Actor, deltas []Delta) ([]Delta, error) {
	if err := r.ofOthers(actor, deltas); err != nil {
		return nil, err
	}
	for i := range deltas {
		if i > 0 && deltas[i].Dot.Seq != deltas[i-1].Dot.Seq+1 {
			return nil, &BadDeltaError{deltas[i].Dot, "does not follow on the one before"}
		}
	}
	have := r.meta.vector.Get(actor)
	for len(deltas) > 0 && deltas[0].Dot.Seq <= have {
		deltas = deltas[1:]
	}
	if len(deltas) > 0 && deltas[0].Dot.Seq != have+1 {
		return nil, &GapError{Actor: actor, Have: have, Got: deltas[0].Dot.Seq}
	}
	for i := range deltas {
		if reason := deltas[i].fault(); reason != "" {
			return nil, &BadDeltaError{deltas[i].Dot, reason}
		}
	}
	return deltas, r.consistent(actor, deltas)
}

// consistent returns why deltas of an actor that are new, and of which each could be, cannot be here.
func (r *Replica) consistent(actor crdt.Actor, deltas []Delta) error {
	last := r.meta.times[actor]
	for i := range deltas {
		d := &deltas[i]
		reason := ""
		switch {
		case d.Time <= last:
			reason = "its time is not after the one before"
		case d.names(r.meta.self) > r.Seq():
			// It was made by one who knows of events that this replica has lost: its dots are taken.
			reason = fmt.Sprintf("it knows event %d of this replica, which is at %d", d.names(r.meta.self), r.Seq())
		}
		if reason != "" {
			return &BadDeltaError{d.Dot, reason}
		}
		last = d.Time
	}
	return nil
}

// names returns the largest sequence number of an actor that the delta says it has observed.
func (d *Delta) names(a crdt.Actor) uint64 {
	var seq uint64
	for i := range d.Effects {
		seq = max(seq, d.Effects[i].Change.names(a))
	}
	for _, seen := range d.Seen {
		if seen.Actor == a {
			seq = max(seq, seen.Seq)
		}
	}
	return seq
}

// merge applies one delta, whose predecessors are all applied, and then counts it as applied.
func (w *work) merge(d *Delta) error {
	if err := w.observe(d); err != nil {
		return err
	}
	for i := range d.Effects {
		e := &d.Effects[i]
		if len(w.meta.layers) > 0 {
			if e = w.fresh(d, e); e == nil {
				continue
			}
		}
		if w.set != nil && (e.Type != crdt.TypeAWSet || !e.Path.IsRoot()) {
			if err := w.closeSet(); err != nil {
				return err
			}
		}
		merge := kindOf(e.Type).merge
		if !e.Path.IsRoot() {
			merge = mergeLeaf
		}
		if err := merge(w, d, e); err != nil {
			return err
		}
	}
	w.meta.advance(d.Dot, d.Time)
	if len(d.Effects) > 0 { // a tick needs no answer
		w.meta.owe(w.meta.last.Next())
	}
	return nil
}

// forgetPreremovals deletes what was kept for adds of an actor that have arrived by now.
func (w *work) forgetPreremovals(actor crdt.Actor) error {
	if w.meta.preremovals == 0 {
		return nil
	}
	var keys [][]byte
	end := preremovalPrefix(crdt.Dot{Actor: actor, Seq: w.meta.vector.Get(actor) + 1})
	err := w.kv.Scan(preremovalPrefix(crdt.Dot{Actor: actor}), end, func(k, _ []byte) (bool, error) {
		keys = append(keys, append([]byte(nil), k...))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := w.kv.Delete(k); err != nil {
			return err
		}
	}
	w.meta.preremovals -= uint64(len(keys))
	return nil
}

// forgetDeferred deletes the clears all of whose events have arrived by now.
func (w *work) forgetDeferred() error {
	if w.meta.deferred == 0 {
		return nil
	}
	var keys [][]byte
	err := w.kv.Scan([]byte{tableDeferred}, []byte{tableDeferred + 1}, func(k, v []byte) (bool, error) {
		cleared, err := crdt.DecodeVersionVector(v)
		if err == nil && w.meta.vector.Descends(cleared) {
			keys = append(keys, append([]byte(nil), k...))
		}
		return true, err
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := w.kv.Delete(k); err != nil {
			return err
		}
	}
	w.meta.deferred -= uint64(len(keys))
	return nil
}
