package replica

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// MaxRunDeltas is how many deltas a run has at most.
const MaxRunDeltas = 16 << 10

// Run stands for the deltas of one actor from one event to another, all of them, after folding: what a
// later one of them makes superfluous is left out. To merge a run is to merge the deltas that it stands for.
type Run struct {
	// From is the first event that the run stands for. The last one is that of the last delta.
	From uint64
	// Deltas are what is left, at least the last one: of one actor, ascending, with gaps. Each has the Seen of
	// those that are missing before it, too.
	Deltas []Delta
	// checked says that the deltas were found to be what an honest replica makes.
	checked bool
}

// DecodeRunOrDelta reads a run, or a delta as the run that stands for it alone.
func DecodeRunOrDelta(data []byte) (Run, error) {
	if IsRun(data) {
		return DecodeRun(data)
	}
	d, err := DecodeDelta(data)
	return Run{From: d.Dot.Seq, Deltas: []Delta{d}, checked: err == nil}, err
}

// Actor returns whose deltas the run stands for.
func (r *Run) Actor() crdt.Actor { return r.Deltas[0].Dot.Actor }

// To returns the last event that the run stands for.
func (r *Run) To() uint64 { return r.Deltas[len(r.Deltas)-1].Dot.Seq }

// Time returns the instant of the last event that the run stands for.
func (r *Run) Time() hlc.Time { return r.Deltas[len(r.Deltas)-1].Time }

// After returns those of the run's deltas that come after an event. They share the run's memory.
func (r *Run) After(seq uint64) []Delta {
	i, _ := slices.BinarySearchFunc(r.Deltas, seq+1, func(d Delta, seq uint64) int { return cmp.Compare(d.Dot.Seq, seq) })
	return r.Deltas[i:]
}

// fault returns what about the run no honest replica makes, and of which event; "" if nothing. It does not
// look into the deltas.
func (r *Run) fault() (crdt.Dot, string) {
	if len(r.Deltas) == 0 || len(r.Deltas) > MaxRunDeltas {
		return crdt.Dot{}, fmt.Sprintf("run of %d deltas", len(r.Deltas))
	}
	if first := r.Deltas[0].Dot; r.From == 0 || first.Seq < r.From {
		return first, "before the beginning of its run"
	}
	for i := range r.Deltas {
		d := &r.Deltas[i]
		if i > 0 {
			switch last := &r.Deltas[i-1]; {
			case d.Dot.Actor != last.Dot.Actor:
				return d.Dot, "of another actor than its run"
			case d.Dot.Seq <= last.Dot.Seq || d.Time <= last.Time:
				return d.Dot, "its number or time is not after the one before"
			}
		}
	}
	return crdt.Dot{}, ""
}

// check returns the first fault of the run or of a delta of it, as a *BadDeltaError.
func (r *Run) check() error {
	if err := r.checkDeltas(); err != nil {
		return err
	}
	writes := 0
	for i := range r.Deltas {
		if writes += len(r.Deltas[i].Writes); writes > MaxWrites {
			return &BadDeltaError{r.Deltas[i].Dot, "too many writes in its run"}
		}
	}
	r.checked = true
	return nil
}

// checkDeltas is check, but for how many writes there are.
func (r *Run) checkDeltas() error {
	dot, reason := r.fault()
	for i := 0; i < len(r.Deltas) && reason == ""; i++ {
		dot, reason = r.Deltas[i].Dot, r.Deltas[i].fault()
	}
	if reason != "" {
		return &BadDeltaError{dot, reason}
	}
	return nil
}

// objectID names what an effect is on. Effects on different objects have nothing to do with each other.
type objectID struct {
	namespace, key string
	path           crdt.Path
	of             crdt.Type
}

func (e *Effect) id() objectID { return objectID{e.Namespace, e.Key, e.Path, e.Type} }

// effect returns a change of the object.
func (o objectID) effect(c Change) Effect {
	return Effect{Namespace: o.namespace, Key: o.key, Path: o.path, Type: o.of, Change: c}
}

// compare orders objects as a delta orders its effects.
func (o objectID) compare(p objectID) int {
	return cmp.Or(strings.Compare(o.namespace, p.namespace), strings.Compare(o.key, p.key), o.path.Compare(p.path), cmp.Compare(o.of, p.of))
}
