package crdt

import (
	"maps"
	"slices"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// mapEvent is one event of the history of a map from fields to values.
type mapEvent[V any] struct {
	dot   Dot
	at    hlc.Time
	field string // "" if the event deletes the whole map
	puts  bool   // otherwise it removes
	value V
}

// after reports whether e is later than o.
func (e mapEvent[V]) after(o mapEvent[V]) bool {
	return e.at > o.at || e.at == o.at && e.dot.Actor > o.dot.Actor
}

// mapSpec is the meaning of a last-writer-wins map: the last event that concerns a field decides.
func mapSpec[V any](events []mapEvent[V], seen map[Dot]bool) map[string]V {
	fields := map[string]V{}
	for _, put := range events {
		overruled := slices.ContainsFunc(events, func(e mapEvent[V]) bool {
			return seen[e.dot] && (e.field == "" || e.field == put.field) && e.after(put)
		})
		if put.puts && seen[put.dot] && !overruled {
			fields[put.field] = put.value
		}
	}
	return fields
}

var mapFields = []string{"a", "b", "c"}

// drawMapEvent draws an event: mostly puts, some removes, few deletes.
func drawMapEvent[V any](t *rapid.T, at hlc.Time, d Dot, value *rapid.Generator[V]) mapEvent[V] {
	e := mapEvent[V]{dot: d, at: at}
	switch kind := between(0, 7).Draw(t, "kind"); {
	case kind < 5:
		e.puts, e.value = true, value.Draw(t, "value")
		fallthrough
	case kind < 7:
		e.field = rapid.SampledFrom(mapFields).Draw(t, "field")
	}
	return e
}

func TestLWWMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []mapEvent[string]
		operate := func(m *LWWMap, at hlc.Time, d Dot) LWWMap {
			e := drawMapEvent(t, at, d, rapid.SampledFrom([]string{"", "x", "y"}))
			events = append(events, e)
			switch {
			case e.puts:
				return m.Put(at, d, e.field, []byte(e.value))
			case e.field != "":
				return m.Remove(at, d, e.field)
			default:
				return m.Delete(at, d)
			}
		}
		check := func(m *LWWMap, seen map[Dot]bool) {
			want := mapSpec(events, seen)
			if got := m.Fields(); !slices.Equal(got, slices.Sorted(maps.Keys(want))) || m.Len() != len(got) {
				t.Fatalf("fields %q, want %q", got, want)
			}
			for _, field := range mapFields {
				got, ok := m.Get(field)
				if value, there := want[field]; ok != there || string(got) != value {
					t.Fatalf("%s: %q, %v, want %q", field, got, ok, want)
				}
				if r := m.Register(field); ok && (r.Seq == 0 || r.Compare(m.Deleted()) <= 0) {
					t.Fatalf("%s is written by %+v", field, r)
				}
			}
		}
		runTimed(t, DecodeLWWMap, operate, check)
	})
}

// TestLWWMapTies: of equal times the larger actor wins, for a field and for the whole map.
func TestLWWMapTies(t *testing.T) {
	for _, actor := range []Actor{1, 3} {
		for _, remove := range []func(*LWWMap){
			func(m *LWWMap) { m.Remove(5, Dot{actor, 9}, "f") },
			func(m *LWWMap) { m.Delete(5, Dot{actor, 9}) },
		} {
			var a, b LWWMap
			a.Put(5, Dot{2, 1}, "f", []byte("x"))
			remove(&a)
			remove(&b)
			b.Put(5, Dot{2, 1}, "f", []byte("x"))
			if _, ok := a.Get("f"); ok != (actor < 2) || !a.Equal(b) {
				t.Errorf("actor %d: there %v, %+v and %+v", actor, ok, a, b)
			}
		}
	}
	var a, b LWWMap
	first := a.Delete(5, Dot{1, 1})
	last := b.Delete(5, Dot{2, 1})
	a.Join(last)
	if b.Join(first); a.Deleted().Actor != 2 || !a.Equal(b) {
		t.Errorf("two deletes leave %+v and %+v", a, b)
	}
}

// TestLWWMapCollect: tombstones and the mark go when they are due, and nothing else does.
func TestLWWMapCollect(t *testing.T) {
	var m LWWMap
	m.Delete(1, Dot{1, 1})
	m.Put(2, Dot{1, 2}, "kept", []byte("x"))
	m.Remove(3, Dot{1, 3}, "early")
	m.Remove(4, Dot{1, 4}, "late")
	m.Collect(0)
	if m.Deleted().Time != 1 {
		t.Fatalf("collected too early: %+v", m)
	}
	if m.Collect(3); m.Deleted().Seq != 0 || m.Register("early").Seq != 0 || m.Register("late").Seq != 4 {
		t.Fatalf("%+v", m)
	}
	m.Collect(9)
	if value, ok := m.Get("kept"); !ok || string(value) != "x" || len(m.fields) != 1 {
		t.Fatalf("%+v", m)
	}
}
