package replica

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// deltasOf executes operations, each as an event of its own.
func deltasOf(t testing.TB, r *Replica, ops ...Op) []Delta {
	t.Helper()
	var all []Delta
	for _, op := range ops {
		_, deltas := do(t, r, op)
		all = append(all, deltas...)
	}
	return all
}

func foldAll(t testing.TB, deltas []Delta) Run {
	t.Helper()
	run, err := Fold(deltas)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// goldenRuns are runs of every kind of change, and of all there is beside them.
func goldenRuns(t testing.TB) (names []string, runs []Run) {
	t.Helper()
	allNames, deltas := goldenDeltas(t)
	for i, d := range deltas {
		names, runs = append(names, allNames[i]), append(runs, Run{From: d.Dot.Seq, Deltas: []Delta{d}})
	}
	r := open(t, NewMemory(), 65)
	some := deltasOf(t, r,
		Op{Kind: OpCounterAdd, Namespace: "n", Key: "hits/a", Delta: 1}, Op{Kind: OpCounterAdd, Namespace: "n", Key: "hits/b", Delta: 1},
		Op{Kind: OpCounterAdd, Namespace: "n", Key: "hits/a", Delta: -300}, setOp(OpSetAdd, "x"), setOp(OpSetAdd, "y"), setOp(OpSetRemove, "x"))
	names, runs = append(names, "counters and a set"), append(runs, foldAll(t, some))
	some[5].Time = hlc.At(some[5].Time.Wall().UnixMilli()+7, 3)
	some[0].Seen = []crdt.Dot{{Actor: 1, Seq: 4}}
	some[1].Unknown = []byte{1, 1, 'u'}
	some[2].Seen = []crdt.Dot{{Actor: 1, Seq: 7}, {Actor: 2, Seq: 1}}
	return append(names, "seen, unknown fields and a later time"), append(runs, foldAll(t, some))
}

func TestRunGoldenVectors(t *testing.T) {
	const path = "testdata/runs_v1.txt"
	names, runs := goldenRuns(t)
	if *rewrite {
		var b strings.Builder
		for i, name := range names {
			fmt.Fprintf(&b, "%s: %x\n", name, EncodeRun(runs[i]))
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	vectors := map[string]string{}
	for line := range strings.Lines(string(file)) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		vectors[name] = text
	}
	for i, name := range names {
		want, err := hex.DecodeString(vectors[name])
		if err != nil || len(want) == 0 {
			t.Errorf("%s has no vector: %v", name, err)
			continue
		}
		if got := EncodeRun(runs[i]); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		back, err := DecodeRun(want)
		if err != nil || !bytes.Equal(EncodeRun(back), want) || !sameDeltas(back.Deltas, runs[i].Deltas) {
			t.Errorf("%s: decodes to %+v, %v", name, back, err)
		}
	}
}

func sameDeltas(a, b []Delta) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(EncodeDelta(a[i]), EncodeDelta(b[i])) {
			return false
		}
	}
	return true
}

func TestFoldJoinsWhatWasSeen(t *testing.T) {
	r := open(t, NewMemory(), 1)
	deltas := deltasOf(t, r, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "b"}, Op{Kind: OpPut, Key: "a"})
	deltas[0].Seen = []crdt.Dot{{Actor: 2, Seq: 4}, {Actor: 5, Seq: 1}}
	deltas[1].Seen = []crdt.Dot{{Actor: 2, Seq: 6}}
	deltas[2].Seen = []crdt.Dot{{Actor: 3, Seq: 1}}
	deltas[3].Seen = []crdt.Dot{{Actor: 3, Seq: 2}}
	run := foldAll(t, deltas)
	want := [][]crdt.Dot{{{Actor: 2, Seq: 6}, {Actor: 3, Seq: 1}, {Actor: 5, Seq: 1}}, {{Actor: 3, Seq: 2}}}
	if len(run.Deltas) != 2 || !reflect.DeepEqual([][]crdt.Dot{run.Deltas[0].Seen, run.Deltas[1].Seen}, want) {
		t.Errorf("%+v", run.Deltas)
	}
	if run.From != 1 || run.To() != 4 || run.Time() != deltas[3].Time || run.Actor() != 1 {
		t.Errorf("run of %d from %d to %d at %v", run.Actor(), run.From, run.To(), run.Time())
	}
}

// TestNothingIsFoldedOverWhatIsUnknown: a newer program's fields may be about any effect.
func TestNothingIsFoldedOverWhatIsUnknown(t *testing.T) {
	r := open(t, NewMemory(), 1)
	puts := deltasOf(t, r, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "a"})
	puts[2].Unknown = []byte{1, 0}
	run := foldAll(t, puts)
	if len(run.Deltas) != 3 || run.Deltas[0].Dot.Seq != 2 || run.Deltas[1].Dot.Seq != 3 || run.Deltas[2].Dot.Seq != 5 {
		t.Errorf("%+v", run.Deltas)
	}
	// One that says nothing else stays, as does the last of all.
	empty := []Delta{puts[0], {Dot: puts[1].Dot, Time: puts[1].Time, Unknown: []byte{1, 0}}, {Dot: puts[2].Dot, Time: puts[2].Time}}
	if run := foldAll(t, empty); !sameDeltas(run.Deltas, empty) {
		t.Errorf("%+v", run.Deltas)
	}
}

func TestFoldRefuses(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	of1 := deltasOf(t, a, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "b"}, Op{Kind: OpPut, Key: "c"})
	of2 := deltasOf(t, b, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "b"})
	late := Delta{Dot: crdt.Dot{Actor: 1, Seq: 2}, Time: of1[0].Time}
	var bad *BadDeltaError
	for name, deltas := range map[string][]Delta{
		"nothing": nil, "a gap": {of1[0], of1[2]}, "two actors": {of1[0], of2[1]}, "a time that stands": {of1[0], late}, "a bad delta": {{}},
	} {
		if run, err := Fold(deltas); !errors.As(err, &bad) {
			t.Errorf("%s folds to %+v, %v", name, run, err)
		}
	}
	first, second := foldAll(t, of1[:1]), foldAll(t, of1[2:])
	for name, runs := range map[string][]Run{"none": nil, "a gap": {first, second}, "two actors": {foldAll(t, of2[:1]), foldAll(t, of1[1:2])}, "an empty one": {{}}} {
		if run, err := FoldRuns(runs...); !errors.As(err, &bad) {
			t.Errorf("%s of runs fold to %+v, %v", name, run, err)
		}
	}
}

func TestMergeRunRefuses(t *testing.T) {
	a := open(t, NewMemory(), 1)
	deltas := deltasOf(t, a, Op{Kind: OpPut, Key: "a"}, Op{Kind: OpPut, Key: "b"}, Op{Kind: OpPut, Key: "c"}, Op{Kind: OpPut, Key: "c"})
	n := newNode(2)
	if _, err := n.r.Merge(1, deltas[:1]); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(n)
	var gap *GapError
	if _, err := n.r.MergeRun(foldAll(t, deltas[2:])); !errors.As(err, &gap) || gap.Have != 1 || gap.Got != 3 {
		t.Errorf("gap: %v", err)
	}
	var bad *BadDeltaError
	own := open(t, NewMemory(), 2)
	for name, run := range map[string]Run{
		"nothing":         {From: 1},
		"of its own":      foldAll(t, deltasOf(t, own, Op{Kind: OpPut, Key: "a"})),
		"from 0":          {Deltas: deltas},
		"from the second": {From: 2, Deltas: deltas},
		"backward":        {From: 1, Deltas: []Delta{deltas[1], deltas[0]}},
		"two actors":      {From: 1, Deltas: []Delta{deltas[1], {Dot: crdt.Dot{Actor: 3, Seq: 9}, Time: deltas[3].Time}}},
		"bad":             {From: 1, Deltas: []Delta{{Dot: crdt.Dot{Actor: 1, Seq: 9}}}},
		"from the past":   {From: 2, Deltas: []Delta{{Dot: crdt.Dot{Actor: 1, Seq: 9}, Time: deltas[0].Time}}},
		"knowing more":    {From: 2, Deltas: []Delta{{Dot: crdt.Dot{Actor: 1, Seq: 9}, Time: deltas[3].Time, Seen: []crdt.Dot{{Actor: 2, Seq: 1}}}}},
		"too long":        {From: 1, Deltas: make([]Delta, MaxRunDeltas+1)},
	} {
		if _, err := n.r.MergeRun(run); !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := n.r.MergeRun(foldAll(t, deltas[:1])); n != 0 || err != nil {
		t.Errorf("duplicate: %d, %v", n, err)
	}
	if fingerprint(n) != before {
		t.Error("what was refused changed the replica")
	}
	if n, err := n.r.MergeRun(foldAll(t, deltas)); n != 3 || err != nil {
		t.Errorf("overlap: %d, %v", n, err)
	}
}

// TestMergeRunsAllOrNone merges runs that overlap, and some of which a later one is bad.
func TestMergeRunsAllOrNone(t *testing.T) {
	a := open(t, NewMemory(), 1)
	var puts []Op
	for i := range 9 {
		puts = append(puts, Op{Kind: OpPut, Key: "k", Value: []byte{byte('a' + i)}}, setOp(OpSetAdd, fmt.Sprint(i/2)))
	}
	deltas := deltasOf(t, a, puts...)
	one, n := newNode(2), newNode(2)
	if _, err := one.r.Merge(1, deltas); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(n)
	var bad *BadDeltaError
	for name, runs := range map[string][]Run{
		"gap":          {foldAll(t, deltas[:4]), foldAll(t, deltas[5:])},
		"another's":    {foldAll(t, deltas[:4]), {From: 5, Deltas: []Delta{{Dot: crdt.Dot{Actor: 3, Seq: 5}, Time: deltas[4].Time}}}},
		"from earlier": {foldAll(t, deltas[:4]), {From: 5, Deltas: []Delta{{Dot: crdt.Dot{Actor: 1, Seq: 5}, Time: deltas[3].Time}}}},
	} {
		if _, err := n.r.MergeRuns(runs...); !errors.As(err, &bad) || fingerprint(n) != before {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, step := range []struct {
		runs []Run
		want uint64
	}{
		{nil, 0},
		{[]Run{foldAll(t, deltas[:4]), foldAll(t, deltas[2:3]), foldAll(t, deltas[3:7])}, 7},
		{[]Run{foldAll(t, deltas[:4]), foldAll(t, deltas[4:6])}, 0},
		{[]Run{foldAll(t, deltas[:9]), foldAll(t, deltas[9:10]), foldAll(t, deltas[6:])}, uint64(len(deltas)) - 7},
	} {
		if got, err := n.r.MergeRuns(step.runs...); got != step.want || err != nil {
			t.Errorf("%d of them are new, want %d: %v", got, step.want, err)
		}
	}
	x, err := n.r.Digest()
	if want, err2 := one.r.Digest(); x != want || err != nil || err2 != nil {
		t.Errorf("digest %x, want %x, %v %v", x, want, err, err2)
	}
}

func TestDecodeRunRefuses(t *testing.T) {
	const (
		head = "40" + "01" + "05" + "01"                // actor 1 from 5, one delta
		one  = head + "00" + "01" + "00"                // it is 5, at 1 ms
		put  = "00" + "016b" + "01" + "01" + "00000100" // key "k", a register, an effect of delta 0
	)
	for _, c := range []struct{ name, hex, reason string }{
		{"nothing", "", "ends early"},
		{"a delta", "01", "unknown version 1"},
		{"newer version", "42", "unknown version 66"},
		{"no deltas", "40" + "01" + "05" + "00" + "00", "run of 0 deltas"},
		{"many deltas", "40" + "01" + "05" + "ff01", "cannot be in"},
		{"from 0", "40" + "01" + "00" + "01" + "00" + "01" + "00" + "00", "from 0"},
		{"number too large", "40" + "01" + "feffffffffffffffff01" + "01" + "04" + "01" + "00" + "00", "number out of range"},
		{"late time", head + "00" + "ffffffffffff3f" + "00" + "00", "time out of range"},
		{"logical time out of range", head + "00" + "01" + "808004" + "00", "over the limit"},
		{"flagged without need", head + "01" + "01" + "00" + "00" + "00" + "00", "nothing more"},
		{"seen of its own", head + "01" + "01" + "00" + "01" + "0104" + "00" + "00", "seen is out of order"},
		{"bad fields", head + "01" + "01" + "00" + "00" + "02" + "0000" + "00", "field 0 after field 0"},
		{"namespace without objects", one + "01" + "00" + "00" + "00", "without objects"},
		{"namespace twice", one + "02" + "00" + "01" + put + "00" + "01" + put, "out of order"},
		{"unknown type", one + "01" + "00" + "01" + "00" + "016b" + "0f" + "01" + "00" + "0000", "unknown type(15)"},
		{"object twice", one + "01" + "00" + "02" + put + "01" + "00" + "01" + "01" + "00000100", "objects out of order"},
		{"key that shares more", one + "01" + "00" + "02" + put + "00" + "026b6b" + "01" + "01" + "00000100", "shares more"},
		{"key that shares too much", one + "01" + "00" + "01" + "01" + "016b" + "01" + "01" + "00000100", "over the limit"},
		{"no effects", one + "01" + "00" + "01" + "00" + "016b" + "01" + "00" + "0000", "without effects"},
		{"effect of no delta", one + "01" + "00" + "01" + "00" + "016b" + "01" + "01" + "01" + "0000", "of no delta"},
		{"long entry", one + "01" + "00" + "01" + "00" + "016b" + "02" + "01" + "00" + "06" + "010101050002", "longer than needed"},
		{"bytes too many", one + "01" + "00" + "01" + "00" + "016b" + "01" + "01" + "00" + "0000" + "00", "too many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = DecodeRun(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v, want %s", err, c.reason)
			}
		})
	}
}

// TestRunSizes: what operations cost on the wire in a run of a thousand, names of 16 bytes included.
func TestRunSizes(t *testing.T) {
	const events = 1000
	for _, c := range []struct {
		name  string
		op    func(i int) Op
		limit int // bytes per operation, or if it is negative of the whole run
	}{
		{"a hot counter", func(int) Op { return Op{Kind: OpCounterAdd, Namespace: "n", Key: "hits of the page", Delta: 7} }, -44},
		{"counters", func(i int) Op {
			return Op{Kind: OpCounterAdd, Namespace: "n", Key: fmt.Sprintf("hits of%9d", i), Delta: 7}
		}, 22},
		{"set adds of 16 bytes", func(i int) Op { return setOp(OpSetAdd, fmt.Sprintf("member%10d", i)) }, 25},
		{"puts of nothing", func(i int) Op { return Op{Kind: OpPut, Key: fmt.Sprintf("user/%011d", i*7919)} }, 22},
		{"a hot register", func(int) Op { return Op{Kind: OpPut, Key: "config of a page"} }, -40},
	} {
		r := open(t, NewMemory(), 65)
		for range 100_000 { // let the sequence numbers grow to three bytes
			r.meta.advance(crdt.Dot{Actor: 65, Seq: r.Seq() + 1}, noon)
		}
		var deltas []Delta
		for i := range events {
			deltas = append(deltas, deltasOf(t, r, c.op(i))...)
		}
		data := EncodeRun(foldAll(t, deltas))
		if per := (len(data) + events - 1) / events; c.limit > 0 && per > c.limit || c.limit < 0 && len(data) > -c.limit {
			t.Errorf("%s: run of %d bytes, %d per operation, more than %d", c.name, len(data), per, c.limit)
		}
	}
}

func FuzzDecodeRun(f *testing.F) {
	_, runs := goldenRuns(f)
	for _, r := range runs {
		f.Add(EncodeRun(r))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		run, err := DecodeRun(data)
		if err != nil {
			if !errors.Is(err, crdt.ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if again := EncodeRun(run); !bytes.Equal(again, data) {
			t.Fatalf("%x is also %x", data, again)
		}
		folded, err := FoldRuns(run)
		if err != nil {
			t.Fatal(err)
		}
		n := newNode(65)
		if run.Actor() == 65 {
			return
		}
		n.r.meta.vector.Set(run.Actor(), run.From-1)
		var bad *BadDeltaError
		if _, err := n.r.MergeRun(folded); err != nil && !errors.As(err, &bad) {
			t.Fatal(err)
		}
		if err := audit(n); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRuns is TestRunsAreTheirDeltas for any seed.
func FuzzRuns(f *testing.F) {
	f.Add(uint64(1), uint8(40))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint8) {
		w := newFoldWorld(seed, map[crdt.Type]int{})
		if err := w.run(int(steps)); err != nil {
			t.Fatalf("%v\n%s", err, strings.Join(w.trace, "\n"))
		}
	})
}

// TestTimeOfIsTheLatest: a judge of the clock reads the same instants as a merge.
func TestTimeOfIsTheLatest(t *testing.T) {
	names, runs := goldenRuns(t)
	for i, run := range runs {
		last := run.Deltas[len(run.Deltas)-1]
		for what, data := range map[string][]byte{"run": EncodeRun(run), "delta": EncodeDelta(last)} {
			if at, err := TimeOf(data); err != nil || at != last.Time {
				t.Errorf("%s: the %s is of %v, %v, not %v", names[i], what, at, err, last.Time)
			}
			for n := range min(len(data), 10) {
				if at, err := TimeOf(data[:n]); err == nil && at != last.Time {
					t.Errorf("%s: %d bytes of the %s are of %v", names[i], n, what, at)
				}
			}
		}
	}
}
