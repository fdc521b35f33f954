package crdt

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/hlc"
)

// TestJoinCounters: two replicas of a counter drop what they need no more, as replicas do; joined as whole states
// they have the value of one that has got every change.
func TestJoinCounters(t *testing.T) {
	t.Run("a row that was reset and dropped stays away", func(t *testing.T) {
		var a, b Counter
		add, err := a.Add(Dot{1, 1}, 5)
		if err != nil {
			t.Fatal(err)
		}
		b.Join(add)
		var seenA, seenB VersionVector
		seenA.Set(1, 1)
		seenA.Set(2, 1)
		seenB.Set(1, 1)
		a.Join(a.Reset(Dot{2, 1}))
		a.Compact(1, seenA)
		if a.Len() != 0 {
			t.Fatalf("%+v is left", a)
		}
		for _, joined := range []Counter{JoinCounters(a, b, seenA.Covers, seenB.Covers), JoinCounters(b, a, seenB.Covers, seenA.Covers)} {
			if joined.Len() != 0 {
				t.Errorf("%+v came back", joined)
			}
		}
		plain := a.Clone()
		if plain.Join(b); plain.Empty() {
			t.Error("a plain join would do: this test shows nothing")
		}
	})
	t.Run("a row that was not seen stays", func(t *testing.T) {
		var a Counter
		if _, err := a.Add(Dot{1, 4}, 5); err != nil {
			t.Fatal(err)
		}
		var seen VersionVector
		seen.Set(1, 3)
		if joined := JoinCounters(a, Counter{}, func(Dot) bool { return true }, seen.Covers); joined.Value() != 5 {
			t.Errorf("%+v", joined)
		}
	})
}

// TestSince: of a history of writes and deletes of several actors, two replicas have seen any prefixes, and have
// collected up to an instant up to which they have seen everything. What both make of it is what a replica has
// that has seen both, whichever collected further.
func TestSince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type event struct {
			at  hlc.Time
			max MaxRegister
			hll HLL
		}
		events := make([][]event, 3)
		var world MaxRegister
		var sketch HLL
		n := rapid.IntRange(1, 14).Draw(t, "events")
		for i := range n {
			at, actor := hlc.Time(i+1), rapid.IntRange(0, 2).Draw(t, "actor")
			e := event{at: at}
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				e = event{at, world.Delete(at, Actor(actor)), sketch.Delete(at)}
			} else {
				v := rapid.Int64Range(0, 9).Draw(t, "value")
				e.max, _ = world.Raise(at, Actor(actor), v)
				e.hll = sketch.Add(at, string(rune('a'+v)))
			}
			events[actor] = append(events[actor], e)
		}
		// A side has seen all up to its cut, and then a prefix of each actor's events.
		side := func(name string) (m MaxRegister, h HLL, seen [3]int, cut hlc.Time) {
			cut = hlc.Time(rapid.IntRange(0, n).Draw(t, name+" cut"))
			for a, log := range events {
				seen[a] = rapid.IntRange(0, len(log)).Draw(t, name)
				for i, e := range log {
					if i < seen[a] || e.at <= cut {
						seen[a] = max(seen[a], i+1)
						m.Join(e.max)
						h.Join(e.hll)
					}
				}
			}
			m.Collect(cut)
			h.Collect(cut)
			return m, h, seen, cut
		}
		m1, h1, seen1, cut1 := side("one")
		m2, h2, seen2, cut2 := side("other")
		var wantMax MaxRegister
		var wantHLL HLL
		for a, log := range events {
			for _, e := range log[:max(seen1[a], seen2[a])] {
				wantMax.Join(e.max)
				wantHLL.Join(e.hll)
			}
		}
		if cut1 < cut2 {
			m1, m2, h1, h2, cut1 = m2, m1, h2, h1, cut2
		}
		m1.Join(m2.Since(cut1))
		h1.Join(h2.Since(cut1))
		got, ok := m1.Value()
		if want, present := wantMax.Value(); got != want || ok != present {
			t.Fatalf("maximum %d %v, want %d %v", got, ok, want, present)
		}
		if !h1.Maximum().Equal(wantHLL.Maximum()) {
			t.Fatalf("sketch %+v, want %+v", h1, wantHLL)
		}
	})
}
