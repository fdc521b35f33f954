package crdt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"pgregory.net/rapid"
)

// ormapEvent is an update of a leaf; with removes set, all at and below the path goes; with op nil
// besides, nothing does: the event is a Compact.
type ormapEvent struct {
	dot     Dot
	path    Path
	op      LeafOp
	removes bool
	before  map[Dot]bool
}

// takes reports whether e takes away what add added, if it saw it.
func (e ormapEvent) takes(add ormapEvent) bool {
	if e.op == nil {
		return e.removes && isAbove(e.path, add.path)
	}
	if e.path != add.path || e.op.leafType() != add.op.leafType() {
		return false
	}
	switch op := e.op.(type) {
	case AddElement:
		return add.op == op
	case RemoveElement:
		return add.op == AddElement(op)
	default:
		return e.op.leafType() != LeafCounter || e.op == ClearLeaf{LeafCounter}
	}
}

// isAbove reports, name by name, whether o is at p or below it.
func isAbove(p, o Path) bool {
	names, below := p.Names(), o.Names()
	return len(names) <= len(below) && slices.Equal(names, below[:len(names)])
}

// ormapSpec writes down every leaf that is not empty, from the history alone.
func ormapSpec(events []ormapEvent, seen map[Dot]bool) map[string]string {
	parts, sums := map[string][]string{}, map[string]int64{}
	for _, add := range events {
		gone := func(e ormapEvent) bool { return seen[e.dot] && e.before[add.dot] && e.takes(add) }
		if add.op == nil || !seen[add.dot] || slices.ContainsFunc(events, gone) {
			continue
		}
		leaf := fmt.Sprint(add.path.Names(), add.op.leafType())
		switch op := add.op.(type) {
		case AddElement:
			parts[leaf] = append(parts[leaf], op.Element)
		case AddAmount:
			sums[leaf] += op.Amount
			parts[leaf] = []string{fmt.Sprint(sums[leaf])}
		case PutValue:
			parts[leaf] = append(parts[leaf], fmt.Sprint(add.dot, op.At, op.Value))
		case EnableFlag:
			parts[leaf] = []string{"enabled"}
		}
	}
	written := map[string]string{}
	for leaf, p := range parts {
		slices.Sort(p)
		written[leaf] = strings.Join(slices.Compact(p), " ")
	}
	return written
}

// written writes down every leaf of a map as ormapSpec does, with the methods for readers.
func written(m ORMap) map[string]string {
	got := map[string]string{}
	for _, key := range m.Leaves(Path{}) {
		var parts []string
		switch key.Type {
		case LeafSet:
			parts = m.Elements(key.Path)
		case LeafCounter:
			n, _ := m.Count(key.Path)
			parts = []string{fmt.Sprint(n)}
		case LeafRegister:
			for _, v := range m.Values(key.Path) {
				parts = append(parts, fmt.Sprint(v.Dot, v.Time, v.Value))
			}
		case LeafFlag:
			if m.Enabled(key.Path) {
				parts = []string{"enabled"}
			}
		}
		got[fmt.Sprint(key.Path.Names(), key.Type)] = strings.Join(parts, " ")
	}
	return got
}

func mustPath(names ...string) Path {
	p, err := NewPath(names...)
	if err != nil {
		panic(err)
	}
	return p
}

var mapPaths = []Path{mustPath("a"), mustPath("a", "b"), mustPath("a", "c", "d", "e"), mustPath("ab"), mustPath("b")}

func drawORMapEvent(t *rapid.T) ormapEvent {
	e := ormapEvent{path: rapid.SampledFrom(mapPaths).Draw(t, "path")}
	element := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "element")
	switch between(0, 11).Draw(t, "kind") {
	case 0, 1:
		e.op = AddElement{element}
	case 2:
		e.op = RemoveElement{element}
	case 3, 4, 5:
		e.op = AddAmount{rapid.Int64Range(-9, 9).Draw(t, "x")}
	case 6:
		e.op = PutValue{hlc.Time(rapid.Uint64Range(1, 9).Draw(t, "at")), []byte(element)}
	case 7:
		e.op = EnableFlag{}
	case 8:
		e.op = ClearLeaf{LeafType(between(1, 4).Draw(t, "type"))}
	case 9, 10:
		e.removes = true
		e.path = rapid.SampledFrom(append(mapPaths, Path{}, mustPath("a", "c"))).Draw(t, "prefix")
	}
	return e
}

func applyMap(t *rapid.T, m *ORMap, e ormapEvent) {
	switch {
	case e.op != nil:
		if err := m.Update(e.dot, e.path, e.op); err != nil {
			t.Fatal(err)
		}
	case e.removes:
		m.Remove(e.dot, e.path)
	default:
		m.Compact(e.dot)
	}
}

func joinMaps(a, b ORMap) ORMap {
	a = a.Clone()
	a.Join(b)
	return a
}

func TestORMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, events := newRun(), []ormapEvent(nil)
		var replicas [3]ORMap
		states := []ORMap{{}}
		for range between(5, 40).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			m := &replicas[i]
			if from := between(-4, 2).Draw(t, "from"); from >= 0 {
				m.Join(replicas[from])
				r.pull(i, from)
			} else {
				old := m.Clone()
				e := drawORMapEvent(t)
				e.dot, e.before = r.next(i)
				applyMap(t, m, e)
				events = append(events, e)
				if !joinMaps(old, *m).Equal(*m) || !joinMaps(*m, old).Equal(*m) {
					t.Fatalf("%+v is not after %+v", *m, old)
				}
			}
			if got, want := written(*m), ormapSpec(events, r.seen[i]); !maps.Equal(got, want) {
				t.Fatalf("%v, want %v: %+v", got, want, *m)
			}
			checkMapReads(t, *m)
			roundTrip(t, *m, DecodeORMap, ORMap.Equal)
			for j := range replicas {
				if maps.Equal(r.seen[i], r.seen[j]) && !replicas[j].Equal(*m) {
					t.Fatalf("the same events give %+v and %+v", *m, replicas[j])
				}
			}
			states = append(states, m.Clone())
		}
		checkLaws(t, states, joinMaps, ORMap.Equal)
		checkNoResidue(t, r, replicas[:])
	})
}

// checkMapReads compares the readers of the map with each other.
func checkMapReads(t *rapid.T, m ORMap) {
	for _, p := range append(mapPaths, Path{}, mustPath("a", "c")) {
		leaves, names := m.Leaves(p), m.Names(p)
		if m.Exists(p) != (len(leaves) > 0) {
			t.Fatalf("%v exists %v, has %v", p, m.Exists(p), leaves)
		}
		for _, name := range names {
			if below, err := NewPath(append(p.Names(), name)...); err != nil || !m.Exists(below) {
				t.Fatalf("%v has a name %q without a leaf", p, name)
			}
		}
		for _, key := range leaves {
			if n, ok := m.Count(key.Path); key.Type == LeafCounter && !ok || !ok && n != 0 {
				t.Fatalf("%v is %d, %v", key, n, ok)
			}
		}
	}
}

// checkNoResidue removes everything, lets all know, and finds nothing left over but the context.
func checkNoResidue(t *rapid.T, r *run, replicas []ORMap) {
	exchange := func() {
		for range 2 {
			for i := range replicas {
				replicas[i].Join(replicas[(i+1)%len(replicas)])
			}
		}
	}
	exchange()
	d, _ := r.next(0)
	replicas[0].Remove(d, Path{})
	for range 2 {
		exchange()
		for i := range replicas {
			d, _ := r.next(i)
			replicas[i].Compact(d)
		}
	}
	exchange()
	for _, m := range replicas {
		if m.Exists(Path{}) || len(m.leaves) > 0 || !m.Context().Equal(replicas[0].Context()) {
			t.Fatalf("left over: %+v", m)
		}
	}
}

func TestORMapResetRemove(t *testing.T) {
	a, b := ORMap{}, ORMap{}
	user, visits, tags := mustPath("user"), mustPath("user", "visits"), mustPath("user", "tags")
	update := func(m *ORMap, d Dot, p Path, op LeafOp) {
		t.Helper()
		if err := m.Update(d, p, op); err != nil {
			t.Fatal(err)
		}
	}
	update(&a, Dot{1, 1}, visits, AddAmount{10})
	update(&a, Dot{1, 2}, tags, AddElement{"new"})
	b.Join(a)
	a.Remove(Dot{1, 3}, user)
	if a.Exists(user) || len(a.leaves) != 0 {
		t.Fatalf("left of a remove of own adds: %+v", a)
	}
	update(&b, Dot{2, 1}, visits, AddAmount{2})
	a.Join(b)
	if n, ok := a.Count(visits); n != 2 || !ok || len(a.Elements(tags)) != 0 {
		t.Fatalf("visits %d, %v, tags %q", n, ok, a.Elements(tags))
	}
	if names := a.Names(Path{}); !slices.Equal(names, []string{"user"}) || !slices.Equal(a.Names(user), []string{"visits"}) {
		t.Fatalf("names %q, %q", names, a.Names(user))
	}
}

func TestORMapRefuses(t *testing.T) {
	long := strings.Repeat("n", MaxNameBytes)
	for _, names := range [][]string{{}, {""}, {"a", ""}, {long + "n"}, {"a", "b", "c", "d", "e"}} {
		if _, err := NewPath(names...); !errors.Is(err, ErrBadPath) {
			t.Errorf("%q: %v", names, err)
		}
	}
	longest := mustPath(long, long, long, long)
	if !slices.Equal(longest.Names(), []string{long, long, long, long}) {
		t.Errorf("names %q", longest.Names())
	}
	var m ORMap
	if err := m.Update(Dot{1, 1}, longest, AddAmount{1<<63 - 1}); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, m, DecodeORMap, ORMap.Equal)
	before := m.Clone()
	if err := m.Update(Dot{1, 2}, longest, AddAmount{1}); !errors.Is(err, ErrCounterOverflow) || !m.Equal(before) {
		t.Errorf("overflow: %v", err)
	}
	if err := m.Update(Dot{1, 2}, Path{}, EnableFlag{}); !errors.Is(err, ErrBadPath) || !m.Equal(before) {
		t.Errorf("root: %v", err)
	}
}

func TestORMapDecoderRefuses(t *testing.T) {
	checkRefusals(t, DecodeORMap, []refusal{
		{"0102" + "01010102", "twice in the context"},
		{"01010101" + "00" + "04" + "010101", "1 to 4 names"},
		{"01010101" + "05" + "0161016101610161016104", "1 to 4 names"},
		{"01010101" + "010004" + "010101", "1 to 4 names"},
		{"01010101" + "018002", "over the limit"},
		{"01010101" + "01016105", "unknown leaf type"},
		{"01010101" + "01016101" + "00", "leaf of nothing"},
		{"01010101" + "01016101" + "01" + "00" + "010101" + "00", "element empty"},
		{"01010101" + "01016101" + "01" + "016100" + "0000", "no dots"},
		{"01010101" + "01016102" + "00", "without rows"},
		{"01010101" + "01016102" + "01" + "01010102" + "00", "outside of the context"},
		{"01010101" + "01016102" + "01" + "0102010100" + "0101", "without an entry"},
		{"01010101" + "01016103" + "00", "leaf of nothing"},
		{"01010101" + "01016103" + "01" + "0102" + "0000000000000001" + "00", "outside of the context"},
		{"01010101" + "01016103" + "02" + strings.Repeat("0101"+"0000000000000001"+"00", 2), "out of order"},
		{"01010101" + "01016104" + "00", "no dots"},
		{"01010101" + "01016104" + "010102", "outside of the context"},
		{"01010101" + "01016104" + "010101" + "01016104" + "010101", "leaves out of order"},
	})
}

// goldenORMap has a leaf of each type, with what concurrent operations leave.
func goldenORMap(at hlc.Time) ORMap {
	user, long := mustPath("user"), mustPath("user", strings.Repeat("n", 200), "c", "d")
	var m, o ORMap
	_ = m.Update(Dot{1, 1}, user, AddElement{"pear"})
	_ = m.Update(Dot{1, 2}, user, AddAmount{10})
	_ = m.Update(Dot{1, 3}, long, EnableFlag{})
	_ = m.Update(Dot{1, 4}, mustPath("v"), PutValue{At: at, Value: []byte("one")})
	_ = m.Update(Dot{1, 5}, mustPath("w"), AddAmount{3})
	_ = o.Update(Dot{65, 300}, user, AddElement{"pear"})
	_ = o.Update(Dot{65, 301}, mustPath("v"), PutValue{At: at + 1})
	_ = o.Update(Dot{65, 302}, long, EnableFlag{})
	m.Join(o)
	m.Remove(Dot{65, 303}, mustPath("w"))
	_ = m.Update(Dot{2, 1}, user, AddAmount{-3})
	return m
}
