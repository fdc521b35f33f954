package replica

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// TestMapMeetsTheSpecification runs random histories over three regions.
func TestMapMeetsTheSpecification(t *testing.T) {
	t.Parallel()
	runFields(t, fieldsSubject{of: crdt.TypeLWWMap, op: randomMapOp, read: readMap, check: checkMapReads})
}

func randomMapOp(rng *rand.Rand, have map[string]string) (Op, *fieldsEvent) {
	e := &fieldsEvent{put: map[string]string{}, removed: map[string]bool{}}
	op := Op{Kind: OpMapPut}
	if rng.IntN(3) == 0 {
		op.Kind = OpMapRemove
	}
	for range rng.IntN(4) {
		name := string('a' + byte(rng.IntN(5)))
		op.Elements = append(op.Elements, []byte(name))
		if op.Kind == OpMapRemove {
			if _, ok := have[name]; ok {
				e.removed[name] = true
			}
			continue
		}
		value := fmt.Sprintf("v%d", rng.IntN(3))
		op.Values = append(op.Values, []byte(value))
		e.put[name] = value
	}
	return op, e
}

func readMap(r *Replica, key string) (map[string]string, error) {
	got := map[string]string{}
	fields, more, err := r.MapFields("", key, nil, 100, 1<<20)
	if more || !slices.IsSortedFunc(fields, func(a, b Field) int { return slices.Compare(a.Name, b.Name) }) {
		return nil, fmt.Errorf("more %v, or out of order: %q", more, fields)
	}
	for _, f := range fields {
		got[string(f.Name)] = string(f.Value)
	}
	return got, err
}

func checkMapReads(r *Replica, rng *rand.Rand, key string, want map[string]string) error {
	name := string('a' + byte(rng.IntN(5)))
	fields, more, err := r.MapGet("", key, [][]byte{[]byte(name), nil}, 1)
	if err != nil || more {
		return fmt.Errorf("more %v, %w", more, err)
	}
	value, ok := want[name]
	if ok != (len(fields) == 1) || ok && (string(fields[0].Value) != value || string(fields[0].Name) != name) {
		return fmt.Errorf("field %q is %q, want %q", name, fields, value)
	}
	return nil
}

func mapPut(key string, pairs ...string) Op {
	op := Op{Kind: OpMapPut, Key: key}
	for i := 0; i < len(pairs); i += 2 {
		op.Elements, op.Values = append(op.Elements, []byte(pairs[i])), append(op.Values, []byte(pairs[i+1]))
	}
	return op
}

func mapRemove(key string, names ...string) Op {
	op := Op{Kind: OpMapRemove, Key: key}
	for _, name := range names {
		op.Elements = append(op.Elements, []byte(name))
	}
	return op
}

func TestMapFieldsArePaged(t *testing.T) {
	r := open(t, NewMemory(), 1)
	do(t, r, mapPut("m", "a", "1", "b", "22", "c", "", "d", "4", "b", "2"))
	do(t, r, mapRemove("m", "a", "absent"))
	var names []string
	for after, pages := []byte(nil), 0; ; pages++ {
		page, more, err := r.MapFields("", "m", after, 2, 1<<20)
		if err != nil || pages > 2 {
			t.Fatalf("page %d, %v", pages, err)
		}
		for _, f := range page {
			names = append(names, string(f.Name)+"="+string(f.Value))
			after = f.Name
		}
		if !more {
			break
		}
	}
	if !slices.Equal(names, []string{"b=2", "c=", "d=4"}) {
		t.Errorf("%q", names)
	}
	if page, more, err := r.MapFields("", "m", nil, 10, 3); err != nil || !more || len(page) != 2 {
		t.Errorf("%d fields in 3 bytes, more %v, %v", len(page), more, err)
	}
	if found, more, err := r.MapGet("", "m", [][]byte{[]byte("d"), []byte("b"), []byte("a"), []byte("c")}, 3); err != nil || !more || len(found) != 2 || string(found[1].Name) != "c" {
		t.Errorf("%q in 3 bytes, more %v, %v", found, more, err)
	}
}

func TestMapRefuses(t *testing.T) {
	for name, op := range map[string]Op{
		"values missing":  {Kind: OpMapPut, Key: "m", Elements: [][]byte{[]byte("f")}},
		"large value":     {Kind: OpMapPut, Key: "m", Elements: [][]byte{[]byte("f")}, Values: [][]byte{make([]byte, crdt.MaxValueBytes+1)}},
		"empty field":     mapPut("m", "", "v"),
		"empty removed":   mapRemove("m", ""),
		"condition value": {Kind: OpMapPut, Key: "m", Condition: Condition{Kind: CondValue}},
	} {
		if err := refusedCleanly(t, op); !errors.Is(err, ErrInvalidOperation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var wrong *WrongTypeError
	if err := refusedCleanly(t, mapPut("c", "f", "v")); !errors.As(err, &wrong) || wrong.Found != crdt.TypeCounter {
		t.Errorf("a counter: %v", err)
	}
	n := newNode(1)
	n.r.inside = insideLimits{}
	do(t, n.r, mapPut("m", "a", "1"))
	h := fieldsHeader{last: crdt.Dot{Actor: 1, Seq: 1}, elements: elements{kid: 1}, count: MaxSetElements}
	if err := n.kv.Put(objectKey("", "m", crdt.TypeLWWMap), h.append(nil)); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(n)
	if _, _, err := n.r.Execute(noon, []Op{mapPut("m", "a", "1", "b", "2")}); !errors.Is(err, ErrTooManyElements) || fingerprint(n) != before {
		t.Errorf("%v", err)
	}
	if out, _ := do(t, n.r, mapPut("m", "a", "2")); out.Changed != 1 || out.Size != MaxSetElements {
		t.Errorf("a field that is there can be written: %+v", out)
	}
}

// TestRemoteDeleteOfAMap: what comes after the delete stays, however much of the map that is.
func TestRemoteDeleteOfAMap(t *testing.T) {
	for _, later := range []int{0, 10, 90, 100} {
		a, b := newNode(1), newNode(2)
		_, first := do(t, a.r, Op{Kind: OpMapPut, Key: "m", Elements: numbered(100), Values: numbered(100)})
		merge(t, b.r, first...)
		_, deletion, err := b.r.Execute(noon+100, []Op{{Kind: OpDelete, Key: "m"}})
		if err != nil {
			t.Fatal(err)
		}
		if later > 0 {
			if _, _, err := a.r.Execute(noon+200, []Op{{Kind: OpMapPut, Key: "m", Elements: numbered(later), Values: numbered(later)}}); err != nil {
				t.Fatal(err)
			}
		}
		merge(t, a.r, deletion...)
		if err := audit(a); err != nil {
			t.Error(err)
		}
		if got, err := readMap(a.r, "m"); err != nil || len(got) != later {
			t.Errorf("%d fields of %d, %v", len(got), later, err)
		}
	}
}

// TestCostDoesNotGrowWithTheMap: an operation reads and writes its own fields only, and a delete none.
func TestCostDoesNotGrowWithTheMap(t *testing.T) {
	n := newNode(1)
	do(t, n.r, Op{Kind: OpMapPut, Key: "m", Elements: numbered(5000), Values: numbered(5000)})
	kv := &counting{KV: n.kv}
	if err := n.r.Flush(); err != nil {
		t.Fatal(err)
	}
	r := open(t, kv, 1)
	for _, op := range []Op{mapPut("m", "element-000001", "x"), mapRemove("m", "element-000002"), mapPut("m", "element-000002", "y")} {
		*kv = counting{KV: n.kv}
		do(t, r, op)
		if kv.gets+kv.writes+kv.visits > 8 {
			t.Errorf("operation %d: %d gets, %d writes, %d visits", op.Kind, kv.gets, kv.writes, kv.visits)
		}
	}
	*kv = counting{KV: n.kv}
	if _, _, err := r.MapGet("", "m", [][]byte{[]byte("element-000001")}, 1); err != nil || kv.gets+kv.visits > 2 {
		t.Errorf("get: %+v, %v", kv, err)
	}
	*kv = counting{KV: n.kv}
	if do(t, r, Op{Kind: OpDelete, Key: "m"}); kv.writes > 2*sweepBudget {
		t.Errorf("delete: %d writes", kv.writes)
	}
}

func TestExplainMap(t *testing.T) {
	r := open(t, NewMemory(), 1)
	do(t, r, mapPut("m", "gone", "1"))
	do(t, r, Op{Kind: OpDelete, Key: "m"})
	do(t, r, mapPut("m", "a", "1", "b", "2"))
	do(t, r, mapRemove("m", "b"))
	all, err := r.Explain("", "m")
	if err != nil || len(all) != 1 || all[0].Size != 3 || len(all[0].Parts) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, want := range []ExplainedPart{{Value: "all before was deleted", Hidden: true}, {Name: []byte("a"), Value: `"1"`}, {Name: []byte("b"), Value: "removed", Hidden: true}} {
		got := all[0].Parts[i]
		if string(got.Name) != string(want.Name) || got.Value != want.Value || got.Hidden != want.Hidden || got.Time == 0 || got.Dots[0].Seq != uint64(i+2) {
			t.Errorf("part %d: %+v", i, got)
		}
	}
}

// goldenMap are the deltas of a map's operations.
func goldenMap(t testing.TB) (names []string, deltas []Delta) {
	r := open(t, NewMemory(), 3)
	for _, op := range []Op{mapPut("m", "b", "", "a", "value"), mapRemove("m", "b", "absent"), {Kind: OpDelete, Key: "m"}} {
		_, d := do(t, r, op)
		deltas = append(deltas, d...)
	}
	return []string{"map put", "map remove", "map delete"}, deltas
}

func TestBadMapDeltasAreRefused(t *testing.T) {
	x, y := FieldChange{Name: []byte("x")}, FieldChange{Name: []byte("y")}
	valued := FieldChange{Name: []byte("x"), Value: []byte("v")}
	for reason, c := range map[string]FieldsChange{
		"unknown action":         {Action: 4},
		"delete with fields":     {Action: FieldsDelete, Fields: []FieldChange{x}},
		"without effect":         {},
		"effect without effect":  {Action: FieldsRemove},
		"too many fields":        {Fields: make([]FieldChange, MaxOperationElements+1)},
		"out of bounds":          {Fields: []FieldChange{{}}},
		"name out of bounds":     {Action: FieldsRemove, Fields: []FieldChange{{Name: make([]byte, crdt.MaxElementBytes+1)}}},
		"fields out of order":    {Fields: []FieldChange{y, x}},
		"out of order":           {Action: FieldsRemove, Fields: []FieldChange{x, x}},
		"value too large":        {Fields: []FieldChange{{x.Name, make([]byte, crdt.MaxValueBytes+1)}}},
		"removed field with a v": {Action: FieldsRemove, Fields: []FieldChange{valued}},
	} {
		refuseDelta(t, reason, Effect{Key: "k", Type: crdt.TypeLWWMap, Change: &MapChange{c}})
	}
	refuseDelta(t, "without its change", Effect{Key: "k", Type: crdt.TypeLWWMap, Change: &SetChange{Elements: []ElementChange{{Element: x.Name, Added: true}}}})
}

// refuseDelta checks that Merge refuses a delta with an effect and changes nothing.
func refuseDelta(t *testing.T, reason string, e Effect) {
	t.Helper()
	n := newNode(1)
	do(t, n.r, setOp(OpSetAdd, "mine"))
	before := fingerprint(n)
	var bad *BadDeltaError
	d := Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: noon, Effects: []Effect{e}}
	if _, err := n.r.Merge(2, []Delta{d}); !errors.As(err, &bad) || !strings.Contains(bad.Reason, reason) || fingerprint(n) != before {
		t.Errorf("%s: %v", reason, err)
	}
}

func TestDecodeRefusesMapDeltas(t *testing.T) {
	const head = "01" + "0105" + "0000000100000000" + "01" + "00016b" + "09"
	for _, c := range []struct{ hex, reason string }{
		{"04", "unknown action"},
		{"03" + "0000000000000000", "up to no instant"},
		{"03" + "0000000100000001", "after the event"},
		{"00" + "05", "cannot be in"},
		{"00" + "01" + "0178" + "05", "bytes wanted"},
		{"00" + "01" + "8108" + "00", "over the limit"},
		{"01" + "02" + "0179" + "0178", "out of order"},
		{"02" + "00", "too many"},
	} {
		data, err := hex.DecodeString(head + c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeDelta(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", c.hex, err)
		}
	}
}

// TestStaleEntriesOfTableY: what a delete left in table Y does not take a later tombstone with it.
func TestStaleEntriesOfTableY(t *testing.T) {
	e := newExpiring(t)
	e.do(1000, mapPut("m", "a", "1", "b", "1"))
	e.do(2000, mapRemove("m", "a"))
	e.do(2001, mapPut("m", "a", "2"))
	e.wantPairs(1, 0, 0)
	e.do(2002, mapRemove("m", "a"))
	e.do(3000, Op{Kind: OpDelete, Key: "m"})
	e.do(4000, mapPut("m", "a", "3", "c", "1"))
	e.do(5000, mapRemove("m", "a"))
	e.wantPairs(1, 0, 3) // the tombstone of before the delete, the stamp, the tombstone
	e.expire(6000, 2500)
	e.wantPairs(1, 0, 2)
	late := Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: at(4500), Effects: []Effect{{Namespace: expiryNS, Key: "m", Type: crdt.TypeLWWMap, Change: &MapChange{
		FieldsChange{Fields: []FieldChange{{[]byte("a"), []byte("late")}}},
	}}}}
	merge(t, e.r, late)
	if got, _, err := e.r.MapGet(expiryNS, "m", [][]byte{[]byte("a")}, 100); err != nil || len(got) != 0 {
		t.Errorf("a put from before the remove is back: %q, %v", got, err)
	}
	e.expire(6000, 4999)
	e.wantPairs(1, 0, 1)
	e.do(7000, mapRemove("m", "c"))
	e.expire(9000, 9000)
	e.wantPairs(0, 0, 0)
}
