package crdt

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type flagEvent struct {
	dot     Dot
	enables bool
	before  map[Dot]bool
}

// ewFlagSpec is what a flag shows that has seen some of the events: whether there is an enable that no
// disable had seen. The dots are those that no enable had seen either.
func ewFlagSpec(events []flagEvent, seen map[Dot]bool) (enabled bool, dots DotSet) {
	for _, on := range events {
		if !on.enables || !seen[on.dot] {
			continue
		}
		disabled := func(e flagEvent) bool { return !e.enables && seen[e.dot] && e.before[on.dot] }
		replaced := func(e flagEvent) bool { return seen[e.dot] && e.before[on.dot] }
		enabled = enabled || !slices.ContainsFunc(events, disabled)
		if !slices.ContainsFunc(events, replaced) {
			dots = append(dots, on.dot)
		}
	}
	return enabled, NewDotSet(dots...)
}

func joinEWFlags(a, b EWFlag) EWFlag {
	a = a.Clone()
	a.Join(b)
	return a
}

func TestEWFlag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []flagEvent(nil)
		var replicas [3]EWFlag
		states := []EWFlag{{}}
		for range between(1, 25).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			f := &replicas[i]
			old := f.Clone()
			switch from := between(-3, 2).Draw(t, "from"); {
			case from >= 0:
				f.Join(replicas[from])
				r.pull(i, from)
			case from >= -2:
				d, before := r.next(i)
				f.Enable(d)
				events = append(events, flagEvent{d, true, before})
			default:
				before := maps.Clone(r.seen[i])
				f.Disable()
				events = append(events, flagEvent{removal(r, i, len(events)), false, before})
			}
			if !joinEWFlags(old, *f).Equal(*f) {
				t.Fatalf("joining %+v to %+v is not the operation", *f, old)
			}
			if enabled, dots := ewFlagSpec(events, r.seen[i]); f.Enabled() != enabled || !slices.Equal(f.Dots(), dots) {
				t.Fatalf("enabled %v by %v, want %v by %v", f.Enabled(), f.Dots(), enabled, dots)
			}
			roundTrip(t, *f, DecodeEWFlag, EWFlag.Equal)
			states = append(states, f.Clone())
		}
		checkLaws(t, states, joinEWFlags, EWFlag.Equal)
	})
}

func TestEWFlagCopies(t *testing.T) {
	var a EWFlag
	a.Enable(Dot{1, 1})
	copied := a.Clone()
	a.Enable(Dot{1, 2})
	a.Disable()
	if !copied.Enabled() || !slices.Equal(copied.Dots(), DotSet{{1, 1}}) || copied.Context().Get(1) != 1 {
		t.Errorf("the copy changed: %+v", copied)
	}
}

func goldenEWFlag(enabled bool) EWFlag {
	var f EWFlag
	f.context.Set(7, 300)
	f.Enable(Dot{1, 2})
	f.Disable()
	if enabled {
		f.Enable(Dot{1, 3})
		var o EWFlag
		o.Enable(Dot{65, 300})
		f.Join(o)
	}
	return f
}

func TestDecodeEWFlagRefuses(t *testing.T) {
	const context = "01" + "0201020201"
	checkRefused(t, "ewflag", map[string]string{
		"":                   "ends early",
		"0200":               "unknown version",
		"0105":               "cannot be in",
		"010201010102":       "twice in the context",
		context + "01":       "bad varint",
		context + "0100":     "sequence number 0",
		context + "0103":     "outside of the context",
		context + "0301":     "outside of the context",
		context + "02010101": "out of order",
		context + "01010102": "out of order",
	})
}
