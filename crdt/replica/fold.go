package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// folder is a kind of whose changes an actor's later ones make earlier ones superfluous. The changes of
// other kinds are all kept.
type folder interface {
	// folding returns what later changes of one object do, before there is any.
	folding() folding
}

// folding is what changes of one object do. It meets those of one actor from the last to the first.
type folding interface {
	// fold returns what is left of a change that comes before all that it has met; nil if nothing. What it
	// returned before it may still add to. It leaves c as it is.
	fold(d *Delta, c Change) Change
}

// Fold returns the run of deltas of one actor that follow each other without a gap. It shares their memory,
// and leaves them as they are.
//
// A write that the same actor wrote over is left out. What a later event observed of other actors' is added
// up in it. Of clients' writes it tells in the next delta that is left, of the last MaxWrites. So a run is never more than its deltas, and often much less; and whoever merges it then has the
// values, the vector and the digest of one who merged each delta.
//
// Errors: *BadDeltaError for deltas that do not follow each other, or that cannot be.
func Fold(deltas []Delta) (Run, error) {
	if len(deltas) == 0 {
		return Run{}, &BadDeltaError{crdt.Dot{}, "run of 0 deltas"}
	}
	for i := 1; i < len(deltas); i++ {
		if deltas[i].Dot != (crdt.Dot{Actor: deltas[0].Dot.Actor, Seq: deltas[i-1].Dot.Seq + 1}) {
			return Run{}, &BadDeltaError{deltas[i].Dot, "does not follow on the one before"}
		}
	}
	return foldRun(Run{From: deltas[0].Dot.Seq, Deltas: deltas})
}

// FoldRuns returns the run that stands for all that the given ones stand for; each begins where the one
// before it ends. It shares their memory, and leaves them as they are. Errors are those of Fold.
func FoldRuns(runs ...Run) (Run, error) {
	var all Run
	for i := range runs {
		r := &runs[i]
		switch {
		case len(r.Deltas) == 0:
			return Run{}, &BadDeltaError{crdt.Dot{}, "run of 0 deltas"}
		case i == 0:
			all.From = r.From
		case r.Actor() != all.Actor() || r.From != all.To()+1:
			return Run{}, &BadDeltaError{crdt.Dot{Actor: r.Actor(), Seq: r.From}, fmt.Sprintf("run does not follow on %v", all.Deltas[len(all.Deltas)-1].Dot)}
		}
		all.Deltas = append(all.Deltas, r.Deltas...)
	}
	return foldRun(all)
}

// foldRun folds what may be folded in part already.
func foldRun(r Run) (Run, error) {
	// The deltas are judged before they are used. How many they, and their writes, may be is judged by what is left.
	for rest := r.Deltas; len(rest) > 0; rest = rest[min(len(rest), MaxRunDeltas):] {
		if err := (&Run{From: r.From, Deltas: rest[:min(len(rest), MaxRunDeltas)]}).checkDeltas(); err != nil {
			return Run{}, err
		}
	}
	objects := map[objectID]folding{}
	left := make([][]Effect, len(r.Deltas))
	for i := len(r.Deltas) - 1; i >= 0; i-- {
		d := &r.Deltas[i]
		if len(d.Unknown) > 0 {
			// What a newer program says may be about its effects, or those before or after it.
			clear(objects)
			left[i] = d.Effects
			continue
		}
		left[i] = foldEffects(objects, d)
	}
	folded := Run{From: r.From}
	var seen []crdt.Dot
	var writes []Write
	for i, d := range r.Deltas {
		seen = joinSeen(seen, d.Seen)
		if len(writes) == 0 {
			writes = d.Writes
		} else if len(d.Writes) > 0 {
			writes = slices.Concat(writes, d.Writes)
		}
		if len(left[i]) == 0 && len(d.Unknown) == 0 && i < len(r.Deltas)-1 {
			continue
		}
		d.Seen, d.Effects, seen = seen, left[i], nil
		d.Writes, writes = writes, nil
		folded.Deltas = append(folded.Deltas, d)
	}
	lastWrites(folded.Deltas)
	return folded, folded.check()
}

// foldEffects returns what is left of a delta's effects.
func foldEffects(objects map[objectID]folding, d *Delta) []Effect {
	left := make([]Effect, 0, len(d.Effects))
	for i := range d.Effects {
		e := d.Effects[i]
		k, ok := kindOf(e.Type).(folder)
		if !ok {
			left = append(left, e)
			continue
		}
		object := e.id()
		f := objects[object]
		if f == nil {
			f = k.folding()
			objects[object] = f
		}
		if e.Change = f.fold(d, e.Change); e.Change != nil {
			left = append(left, e)
		}
	}
	return left
}

// joinSeen joins two parts of Delta.Seen. It may return one of them.
func joinSeen(a, b []crdt.Dot) []crdt.Dot {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	all := slices.SortedFunc(slices.Values(slices.Concat(a, b)), crdt.Dot.Compare)
	joined := all[:0]
	for _, d := range all {
		if n := len(joined); n > 0 && joined[n-1].Actor == d.Actor {
			joined[n-1] = d
			continue
		}
		joined = append(joined, d)
	}
	return joined
}
