package crdt

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// timelineEvent is one event of the history of a timeline: an entry, or a trim if trims is set.
type timelineEvent struct {
	entry TimelineEntry
	trims hlc.Time
}

// timelineSpec is the meaning of a timeline: the entries that are not before any trim.
func timelineSpec(events []timelineEvent, seen map[Dot]bool) []TimelineEntry {
	var entries []TimelineEntry
	sees := func(e timelineEvent) bool { return seen[Dot{e.entry.Actor, e.entry.Seq}] }
	for _, add := range events {
		trimmed := func(e timelineEvent) bool { return sees(e) && add.entry.Time < e.trims }
		if add.trims == 0 && sees(add) && !slices.ContainsFunc(events, trimmed) {
			entries = append(entries, add.entry)
		}
	}
	slices.SortFunc(entries, TimelineEntry.Compare)
	return entries
}

func sameEntries(a, b []TimelineEntry) bool {
	return slices.EqualFunc(a, b, func(x, y TimelineEntry) bool {
		return x.Time == y.Time && x.Actor == y.Actor && x.Seq == y.Seq && bytes.Equal(x.Value, y.Value)
	})
}

func TestTimeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []timelineEvent
		operate := func(l *Timeline, at hlc.Time, d Dot) Timeline {
			e := timelineEvent{entry: TimelineEntry{Time: at, Actor: d.Actor, Seq: d.Seq}}
			if between(0, 4).Draw(t, "kind") == 0 {
				e.trims = hlc.Time(between(1, int(at)+2).Draw(t, "before"))
				events = append(events, e)
				return l.Trim(e.trims)
			}
			e.entry.Value = rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value")
			events = append(events, e)
			return l.Add(at, d, e.entry.Value)
		}
		check := func(l *Timeline, seen map[Dot]bool) {
			want := timelineSpec(events, seen)
			if got := slices.Collect(l.OldestFirst(0, math.MaxUint64)); !sameEntries(got, want) || l.Len() != len(want) {
				t.Fatalf("entries %v, want %v", got, want)
			}
			from, before := hlc.Time(between(0, 9).Draw(t, "from")), hlc.Time(between(0, 30).Draw(t, "before"))
			want = slices.DeleteFunc(want, func(e TimelineEntry) bool { return e.Time < from || e.Time >= before })
			slices.Reverse(want)
			if got := slices.Collect(l.NewestFirst(from, before)); !sameEntries(got, want) {
				t.Fatalf("entries from %d before %d: %v, want %v", from, before, got, want)
			}
		}
		runTimed(t, DecodeTimeline, operate, check)
	})
}

// TestTimelineTrim: a trim takes away what arrives late, and the mark only rises.
func TestTimelineTrim(t *testing.T) {
	var a, b Timeline
	late := b.Add(4, Dot{2, 1}, []byte("late"))
	a.Add(5, Dot{1, 1}, []byte("kept"))
	a.Trim(5)
	a.Trim(2)
	a.Join(late)
	b.Join(a)
	if a.Len() != 1 || a.Trimmed() != 5 || !a.Equal(b) {
		t.Fatalf("%+v and %+v", a, b)
	}
	a.Collect(4)
	if a.Trimmed() != 5 {
		t.Fatalf("collected too early: %+v", a)
	}
	if a.Collect(5); a.Trimmed() != 0 || a.Len() != 1 {
		t.Fatalf("%+v", a)
	}
}

// TestTimelineStops: a reader can stop early, in both directions.
func TestTimelineStops(t *testing.T) {
	var l Timeline
	for n := range uint64(5) {
		l.Add(hlc.Time(n+1), Dot{1, n + 1}, nil)
	}
	for e := range l.NewestFirst(0, 5) {
		if e.Seq != 4 {
			t.Fatalf("newest is %+v", e)
		}
		break
	}
	for e := range l.OldestFirst(2, 9) {
		if e.Seq != 2 {
			t.Fatalf("oldest is %+v", e)
		}
		break
	}
}
