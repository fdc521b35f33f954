package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

var rewrite = flag.Bool("rewrite", false, "write the golden vectors anew")

// goldenDeltas are what one replica makes of every kind of operation, after merging from another.
func goldenDeltas(t testing.TB) (names []string, deltas []Delta) {
	t.Helper()
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 65)
	_, foreign := do(t, b, setOp(OpSetAdd, "x", "y"))
	merge(t, a, foreign...)
	_, foreign = do(t, b, Op{Kind: OpCounterAdd, Key: "c", Delta: -7})
	merge(t, a, foreign...)
	for _, step := range []struct {
		name string
		op   Op
	}{
		{"put", Op{Kind: OpPut, Namespace: "n", Key: "r", Value: []byte("value")}},
		{"put expiring", Op{Kind: OpPut, Key: "e", Value: []byte{0}, Expires: noon + 1}},
		{"delete register", Op{Kind: OpDelete, Namespace: "n", Key: "r"}},
		{"counter add", Op{Kind: OpCounterAdd, Key: "c", Delta: 1 << 40}},
		{"counter set", Op{Kind: OpCounterSet, Key: "c", Delta: 3}},
		{"counter reset", Op{Kind: OpCounterReset, Key: "c"}},
		{"set add", setOp(OpSetAdd, "y", "z", "y")},
		{"set remove", setOp(OpSetRemove, "x", "absent")},
		{"set clear", setOp(OpSetClear)},
	} {
		_, d := do(t, a, step.op)
		names, deltas = append(names, step.name), append(deltas, d...)
	}
	names, deltas = append(names, "empty"), append(deltas, Delta{Dot: crdt.Dot{Actor: 1, Seq: 1}, Time: 1})
	for _, step := range wholeSteps() {
		_, d := do(t, a, step.op)
		names, deltas = append(names, step.name), append(deltas, d...)
	}
	names, deltas = goldenSiblings(t, names, deltas)
	names, deltas = append(names, "timeline add", "timeline trim", "timeline delete"), append(deltas, timelineDeltas(t)...)
	for _, more := range []func(testing.TB) ([]string, []Delta){goldenMap, goldenZSet, goldenCounterZSet, goldenHLL} {
		n, d := more(t)
		names, deltas = append(names, n...), append(deltas, d...)
	}
	// Deltas did not say what their authors had seen when these were written down.
	told := slices.IndexFunc(deltas, func(d Delta) bool { return len(d.Seen) > 0 })
	first := deltas[told]
	for i := range deltas {
		deltas[i].Seen = nil
	}
	last := deltas[len(deltas)-1]
	last.Seen = []crdt.Dot{{Actor: last.Dot.Actor + 1, Seq: 300}, {Actor: last.Dot.Actor + 64, Seq: 1}}
	names, deltas = append(names, "seen"), append(deltas, last)
	last.Unknown = []byte{1, 0, 0x80, 1, 2, 'h', 'i'} // fields 1 and 128
	names, deltas = append(names, "unknown fields"), append(deltas, last)
	n, d := goldenUnknown(t)
	names, deltas = append(names, n...), append(deltas, d...)
	n, d = goldenDeadlines(t)
	names, deltas = append(names, n...), append(deltas, d...)
	names, deltas = append(names, "put after a merge"), append(deltas, first)
	n, d = goldenORMap(t)
	for i := range d {
		d[i].Seen = nil
	}
	names, deltas = append(names, n...), append(deltas, d...)
	n, d = goldenTicks(t)
	names, deltas = append(names, n...), append(deltas, d...)
	at := crdt.LWWRegister{Home: 1<<32 + 1, Time: first.Time, Actor: first.Dot.Actor, Seq: first.Dot.Seq, Value: []byte("at home")}
	first.Effects = []Effect{{Namespace: "locks", Key: "k", Type: crdt.TypeLWWRegister, Change: &RegisterChange{at}}}
	names, deltas = append(names, "put at home"), append(deltas, first)
	n, d = goldenWrites(t)
	return append(names, n...), append(deltas, d...)
}

func TestDeltaGoldenVectors(t *testing.T) {
	const path = "testdata/deltas_v1.txt"
	names, deltas := goldenDeltas(t)
	if len(names) != len(deltas) {
		t.Fatalf("%d deltas for %d names", len(deltas), len(names))
	}
	if *rewrite {
		var b strings.Builder
		for i, name := range names {
			fmt.Fprintf(&b, "%s: %x\n", name, EncodeDelta(deltas[i]))
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(file)), "\n")
	if len(lines) != len(names) {
		t.Fatalf("%d vectors for %d deltas", len(lines), len(names))
	}
	for i, line := range lines {
		name, text, _ := strings.Cut(line, ": ")
		want, err := hex.DecodeString(text)
		if err != nil || name != names[i] {
			t.Fatalf("%q instead of %q, %v", name, names[i], err)
		}
		if got := EncodeDelta(deltas[i]); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		back, err := DecodeDelta(want)
		if err != nil || !bytes.Equal(EncodeDelta(back), want) {
			t.Errorf("%s: decodes to %+v, %v", name, back, err)
		}
		if len(back.Effects) > 0 && !sameEffect(&back.Effects[0], &deltas[i].Effects[0]) {
			t.Errorf("%s: %+v comes back as %+v", name, deltas[i], back)
		}
	}
}

func sameEffect(a, b *Effect) bool {
	return a.Namespace == b.Namespace && a.Key == b.Key && a.Path == b.Path && a.Type == b.Type &&
		bytes.Equal(a.Change.append(nil), b.Change.append(nil)) && reflect.TypeOf(a.Change) == reflect.TypeOf(b.Change)
}

func TestDecodeDeltaRefuses(t *testing.T) {
	const head = "01" + "0105" + "0000000100000000" // version, dot 1.5, time
	for _, c := range []struct{ name, hex, reason string }{
		{"nothing", "", "ends early"},
		{"newer version", "04", "unknown version"},
		{"no sequence number", "01" + "0100" + "0000000100000000" + "00", "sequence number 0"},
		{"late time", "01" + "0105" + "ff00000100000000" + "00", "time out of range"},
		{"many effects", head + "ff01", "cannot be in"},
		{"no key", head + "01" + "0000" + "01" + "0000", "out of bounds"},
		{"unknown type", head + "01" + "00016b" + "0f" + "0000", "unknown type(15)"},
		{"long key", head + "01" + "00" + "8108ffff", "over the limit"},
		{"register flags", head + "01" + "00016b" + "01" + "1000", "register flags"},
		{"no home", head + "01" + "00016b" + "01" + "08" + "00" + "00", "home flagged but 0"},
		{"no expiry", head + "01" + "00016b" + "01" + "02" + "0000000000000000" + "00", "flagged but 0"},
		{"large value", head + "01" + "00016b" + "01" + "00" + "81808001", "over the limit"},
		{"short value", head + "01" + "00016b" + "01" + "00" + "02aa", "2 bytes wanted"},
		{"extended without need", "02" + head[2:] + "0000", "nothing that version 1 cannot"},
		{"seen of its own", "02" + head[2:] + "01" + "0104" + "00", "seen is out of order"},
		{"seen nothing", "02" + head[2:] + "01" + "0200" + "00", "seen is out of order"},
		{"seen out of order", "02" + head[2:] + "02" + "03010201" + "00", "seen is out of order"},
		{"field 0", "02" + head[2:] + "00" + "00" + "0000", "field 0 after field 0"},
		{"fields out of order", "02" + head[2:] + "00" + "00" + "02000100", "field 1 after field 2"},
		{"short field", "02" + head[2:] + "00" + "00" + "010561", "over the limit"},
		{"bytes too many", head + "01" + "00016b" + "01" + "00" + "00" + "ff", "too many"},
		{"bad counter", head + "01" + "00016b" + "02" + "0102", "decode counter"},
		{"set flags", head + "01" + "00016b" + "03" + "0200", "set flags"},
		{"bad clear", head + "01" + "00016b" + "03" + "01" + "0102" + "00", "decode version vector"},
		{"many elements", head + "01" + "00016b" + "03" + "00" + "05", "cannot be in"},
		{"many dots", head + "01" + "00016b" + "03" + "00" + "01" + "0178" + "08", "dots cannot be in"},
		{"many siblings", head + "01" + "00016b" + "04" + "08" + "0201", "dots cannot be in"},
		{"large sibling", head + "01" + "00016b" + "04" + "01" + "81808001", "over the limit"},
		{"flag's value", head + "01" + "00016b" + "06" + "01" + "0178", "over the limit"},
		{"no path", head + "01" + "00016b" + "0a" + "00" + "0100" + "00", "path must"},
		{"empty name", head + "01" + "00016b" + "0a" + "0100" + "0100" + "00", "path must"},
		{"short name", head + "01" + "00016b" + "0a" + "020261" + "0100" + "00", "path must"},
		{"five names", head + "01" + "00016b" + "0a" + "0a" + "01610161016101610161" + "0100" + "00", "path must"},
		{"name's length in two bytes", head + "01" + "00016b" + "0a" + "03" + "810061" + "0100" + "00", "path must"},
		{"long path", head + "01" + "00016b" + "0a" + "8509" + "00", "over the limit"},
		{"map in a map", head + "01" + "00016b" + "0a" + "020161" + "0a" + "0100", "leaf of ormap"},
		{"bounded leaf", head + "01" + "00016b" + "0a" + "020161" + "05" + "08" + "0101050100000000", "leaf of bcounter"},
		{"leaf that expires", head + "01" + "00016b" + "0a" + "020161" + "01" + "02" + "0000000000000001" + "00", "leaf that expires"},
		{"leaves out of order", head + "02" + "00016b" + "0a" + "020162" + "01" + "0000" + "00016b" + "0a" + "020161" + "01" + "0000", "effects out of order"},
		{"leaf before its key", head + "02" + "00016b" + "0a" + "020161" + "01" + "0000" + "00016b" + "01" + "0000", "effects out of order"},
		{"no siblings", head + "01" + "00016b" + "06" + "00", "without effect"},
		{"timeline change", head + "01" + "00016b" + "0e" + "0300", "unknown change"},
		{"timeline void of event 0", head + "01" + "00016b" + "0e" + "02" + "0000000000000001" + "00", "void of event 0"},
		{"timeline void of itself", head + "01" + "00016b" + "0e" + "02" + "0000000000000001" + "05", "still to come"},
		{"void of another's", head + "01" + "00016b" + "02" + "06" + "02" + "01" + "0201" + "04" + "02", "void of another event"},
		{"void of a later event", head + "01" + "00016b" + "02" + "06" + "02" + "01" + "0104" + "02" + "02", "void of another event"},
		{"timeline trim to 0", head + "01" + "00016b" + "0e" + "01" + "0000000000000000", "instant 0"},
		{"timeline trim ahead", head + "01" + "00016b" + "0e" + "01" + "0000000100000002", "still to come"},
		{"large timeline entry", head + "01" + "00016b" + "0e" + "00" + "81808001", "over the limit"},
		{"many members", head + "01" + "00016b" + "0c" + "05", "cannot be in"},
		{"bad member counter", head + "01" + "00016b" + "0c" + "01" + "0178" + "020102", "decode counter"},
		{"member out of bounds", head + "01" + "00016b" + "0c" + "01" + "00" + "06" + "010101050000", "out of bounds"},
		{"dots out of order", head + "01" + "00016b" + "03" + "00" + "01" + "0178" + "04" + "02020201", "out of order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = DecodeDelta(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v, want %s", err, c.reason)
			}
		})
	}
}

// TestDeltaSizes: what an operation costs on the wire, beyond its key.
func TestDeltaSizes(t *testing.T) {
	r := open(t, NewMemory(), 1)
	for range 100_000 { // let the sequence numbers grow to three bytes
		r.meta.advance(crdt.Dot{Actor: 1, Seq: r.Seq() + 1}, noon)
	}
	for _, c := range []struct {
		name  string
		op    Op
		limit int
	}{
		{"counter add", Op{Kind: OpCounterAdd, Key: "s", Delta: 1}, 30},
		{"score of a member of 16 bytes", zsetOp(OpZSetIncr, 1, "0123456789abcdef"), 45},
		{"set add of 16 bytes", setOp(OpSetAdd, "0123456789abcdef"), 40},
		{"put of nothing", Op{Kind: OpPut, Key: "s"}, 22},
	} {
		_, deltas := do(t, r, c.op)
		if n := len(EncodeDelta(deltas[0])); n > c.limit {
			t.Errorf("%s takes %d bytes, more than %d", c.name, n, c.limit)
		}
		do(t, r, Op{Kind: OpDelete, Key: c.op.Key})
	}
}

func FuzzDecodeDelta(f *testing.F) {
	_, deltas := goldenDeltas(f)
	for _, d := range deltas {
		f.Add(EncodeDelta(d))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeDelta(data)
		if err != nil {
			if !errors.Is(err, crdt.ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if again := EncodeDelta(d); !bytes.Equal(again, data) {
			t.Fatalf("%x is also %x", data, again)
		}
	})
}

// FuzzMerge merges whatever decodes into a replica with some history: it is applied or refused, and
// the replica stays sound.
func FuzzMerge(f *testing.F) {
	_, deltas := goldenDeltas(f)
	for i, d := range deltas {
		f.Add(EncodeDelta(d), EncodeDelta(deltas[len(deltas)-1-i]))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		n := newNode(65)
		do(t, n.r, setOp(OpSetAdd, "x", "y"))
		do(t, n.r, Op{Kind: OpCounterAdd, Key: "c", Delta: -7})
		for _, data := range [][]byte{first, second} {
			d, err := DecodeDelta(data)
			if err != nil {
				continue
			}
			if v := &n.r.meta.vector; d.Dot.Actor != 65 && d.Dot.Seq > v.Get(d.Dot.Actor) {
				v.Set(d.Dot.Actor, d.Dot.Seq-1) // let it be the next one
			}
			_, err = n.r.Merge(d.Dot.Actor, []Delta{d})
			var bad *BadDeltaError
			if err != nil && !errors.As(err, &bad) {
				t.Fatal(err)
			}
			if err := audit(n); err != nil {
				t.Fatal(err)
			}
			if _, err := n.r.Digest(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
