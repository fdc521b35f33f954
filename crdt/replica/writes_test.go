package replica

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

func writeID(n byte) WriteID { return WriteID{ID: OpID{n, 15: 0xff}, Fingerprint: 1<<63 + uint64(n)} }

// doWrite executes a write that is not refused.
func doWrite(t testing.TB, r *Replica, id WriteID, ops ...Op) ([]Outcome, []Delta, []Addition) {
	t.Helper()
	outcomes, deltas, additions, err := r.ExecuteWrite(noon, ops, id)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes, deltas, additions
}

// undo takes an addition back, which has an effect.
func undo(t testing.TB, r *Replica, a Addition) Delta {
	t.Helper()
	d, left, err := r.Undo(noon, a)
	if err != nil || d == nil || left != 0 {
		t.Fatalf("delta %+v, left %d, %v", d, left, err)
	}
	return *d
}

// goldenWrites are deltas that tell of writes, and that take back.
func goldenWrites(t testing.TB) (names []string, deltas []Delta) {
	r := open(t, NewMemory(), 1)
	_, put, _ := doWrite(t, r, writeID(1), Op{Kind: OpPut, Key: "r", Value: []byte("v")})
	_, batch, _ := doWrite(t, r, writeID(2), Op{Kind: OpPut, Key: "r"}, Op{Kind: OpDelete, Key: "absent"}, Op{Kind: OpCounterAdd, Key: "c", Delta: 1})
	folded := batch[1]
	folded.Seen = []crdt.Dot{{Actor: 65, Seq: 3}}
	folded.Writes = []Write{{WriteID: writeID(3), Seq: 1, Time: put[0].Time}, batch[1].Writes[0], {WriteID: writeID(4), Seq: 3, Time: folded.Time}}
	names, deltas = []string{"write", "write of a batch", "writes folded"}, []Delta{put[0], batch[1], folded}
	for _, a := range additionsOfEveryKind(t, r) {
		names, deltas = append(names, fmt.Sprintf("taken back, kind %d", a.Kind)), append(deltas, undo(t, r, a))
	}
	return names, deltas
}

// additionsOfEveryKind makes one of each.
func additionsOfEveryKind(t testing.TB, r *Replica) []Addition {
	t.Helper()
	doWrite(t, r, writeID(0), Op{Kind: OpBoundedInc, Key: "b", Delta: 1000})
	_, _, additions := doWrite(t, r, writeID(5),
		Op{Kind: OpCounterAdd, Key: "c", Delta: 300}, Op{Kind: OpCounterSet, Key: "c2", Delta: -7},
		Op{Kind: OpBoundedInc, Key: "b", Delta: 5}, Op{Kind: OpBoundedDec, Key: "b", Delta: 3},
		zsetCounted(OpZSetAdd, 7), zsetCounted(OpZSetIncr, 2), Op{Kind: OpTimelineAdd, Key: "t", Value: []byte("entry")})
	if len(additions) != 7 {
		t.Fatalf("additions %+v", additions)
	}
	return additions
}

func zsetCounted(kind OpKind, score float64) Op {
	return Op{Kind: kind, Key: "z", Type: crdt.TypeCounterZSet, Elements: [][]byte{[]byte("m")}, Score: score}
}

// TestWritesTellTheVersionsOfTheirOutcomes: a region that merged a write knows the versions that its author answered.
func TestWritesTellTheVersionsOfTheirOutcomes(t *testing.T) {
	r := open(t, NewMemory(), 1)
	for _, ops := range [][]Op{
		{{Kind: OpPut, Key: "r"}},
		{{Kind: OpPut, Key: "r"}, {Kind: OpDelete, Key: "absent"}, {Kind: OpCounterAdd, Key: "c", Delta: 1}, {Kind: OpPut, Key: "r2"}},
		{{Kind: OpDelete, Key: "r"}, setOp(OpSetAdd, "x"), setOp(OpSetRemove, "absent")},
		{{Kind: OpCounterAdd, Key: "e", Delta: 1, Expires: noon + 1}, {Kind: OpPut, Key: "x"}},
		{{Kind: OpCounterAdd, Key: "e", Delta: 1, Expires: noon + 1<<40}}, // after a purge
		{{Kind: OpMapPut, Key: "h", Elements: [][]byte{{1}}, Values: [][]byte{{2}}}, {Kind: OpFlagEnable, Key: "f"}, {Kind: OpMVPut, Key: "mv"}},
	} {
		outcomes, deltas, _ := doWrite(t, r, writeID(1), ops...)
		last := deltas[len(deltas)-1]
		if len(last.Writes) != 1 || last.Writes[0].WriteID != writeID(1) {
			t.Fatalf("the last delta tells of %+v", last.Writes)
		}
		for i, got := range last.Writes[0].Outcomes(1, len(ops)) {
			want := outcomes[i].Version
			if ops[i].Key == "absent" || ops[i].Kind == OpSetRemove {
				want = "" // no effect
			}
			if got != (Outcome{Version: want}) {
				t.Errorf("%+v: %+v, want version %q", ops[i], got, want)
			}
		}
	}
	many := make([]Op, maxWriteVersions+1)
	for i := range many {
		many[i] = Op{Kind: OpPut, Key: fmt.Sprint(i)}
	}
	_, deltas, _ := doWrite(t, r, writeID(2), many...)
	if got := deltas[len(deltas)-1].Writes[0].Outcomes(1, len(many)); got[0].Version != "" || len(got) != len(many) {
		t.Errorf("versions of many operations travel: %+v", got[0])
	}
	if _, deltas, _ := doWrite(t, r, writeID(3), Op{Kind: OpDelete, Key: "absent"}); len(deltas) != 0 {
		t.Errorf("a write without effect makes %+v", deltas)
	}
}

// TestFoldKeepsWrites: what a run leaves out of values it tells of writes, and each comes not before its event.
func TestFoldKeepsWrites(t *testing.T) {
	r := open(t, NewMemory(), 1)
	var deltas []Delta
	for i := range 6 {
		_, d, _ := doWrite(t, r, writeID(byte(i)), Op{Kind: OpPut, Key: []string{"a", "b"}[i%2]})
		deltas = append(deltas, d...)
	}
	again, err := FoldRuns(foldAll(t, deltas[:4]), foldAll(t, deltas[4:]))
	if err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]Run{"at once": foldAll(t, deltas), "in parts": again} {
		if len(run.Deltas) != 2 || len(run.Deltas[0].Writes) != 5 || len(run.Deltas[1].Writes) != 1 {
			t.Fatalf("%s: %+v", name, run.Deltas)
		}
		back, err := DecodeRun(EncodeRun(run))
		if err != nil || !sameDeltas(back.Deltas, run.Deltas) {
			t.Errorf("%s: %+v, %v", name, back, err)
		}
		for i, w := range slices.Concat(back.Deltas[0].Writes, back.Deltas[1].Writes) {
			d := &deltas[i]
			if w.WriteID != writeID(byte(i)) || w.Seq != d.Dot.Seq || w.Time != d.Time || w.Outcomes(1, 1)[0] != d.Writes[0].Outcomes(1, 1)[0] {
				t.Errorf("%s: write %d is %+v", name, i, w)
			}
		}
	}
}

// TestFoldKeepsTheLastWritesOnly: an outbox that folds for days stays small.
func TestFoldKeepsTheLastWritesOnly(t *testing.T) {
	var runs []Run
	for seq := range uint64(3) {
		d := Delta{Dot: crdt.Dot{Actor: 1, Seq: seq + 1}, Time: noon + hlc.Time(seq), Writes: make([]Write, MaxWrites/2)}
		for i := range d.Writes {
			d.Writes[i] = Write{WriteID: writeID(byte(seq)), Seq: d.Dot.Seq, Time: d.Time}
		}
		runs = append(runs, foldAll(t, []Delta{d}))
	}
	runs[2].Deltas[0].Writes = runs[2].Deltas[0].Writes[:10]
	run, err := FoldRuns(runs...)
	if err != nil {
		t.Fatal(err)
	}
	writes := run.Deltas[0].Writes
	if len(writes) != MaxWrites || writes[9].ID != writeID(0).ID && writes[0].ID != writeID(0).ID || writes[MaxWrites-1].ID != writeID(2).ID {
		t.Errorf("%d writes", len(writes))
	}
	if writes[MaxWrites/2-11].ID != writeID(0).ID || writes[MaxWrites/2-10].ID != writeID(1).ID {
		t.Error("not the first writes were let go")
	}
	run.Deltas[0].Writes = append(writes, writes[0])
	if bad := (*BadDeltaError)(nil); !errors.As(run.check(), &bad) {
		t.Errorf("a run of %d writes is taken: %v", len(run.Deltas[0].Writes), run.check())
	}
}

func TestDecodeWritesRefuses(t *testing.T) {
	const (
		head  = "03" + "0105" + "0000000100000000" + "00" // version, dot 1.5, time, nothing seen
		id    = "000102030405060708090a0b0c0d0e0f" + "0000000000000001"
		write = id + "00" + "00"
	)
	for _, c := range []struct{ name, hex, reason string }{
		{"none", head + "00" + "00", "nothing that version 2 cannot"},
		{"many", head + "05" + write + "00", "cannot be in"},
		{"before the first event", head + "01" + id + "05" + "01" + "00" + "00", "write of another event"},
		{"an earlier event at the same time", head + "01" + id + "01" + "00" + "00" + "00", "write of another event"},
		{"out of order", head + "02" + write + id + "01" + "01" + "00" + "00", "writes out of order"},
		{"many versions", head + "01" + id + "00" + "41" + strings.Repeat("00", 65) + "00", "65 versions"},
		{"version of event 0", head + "01" + id + "00" + "01" + "0b" + "00", "version of no event"},
		{"short id", head + "01" + id[:40], "cannot be in"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = DecodeDelta(data); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %s", c.name, err, c.reason)
		}
	}
	run, err := hex.DecodeString("41" + "01" + "05" + "01" + "00" + "01" + "00" + "00")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeRun(run); !errors.Is(err, crdt.ErrCorrupt) || !strings.Contains(err.Error(), "nothing that version 1 cannot") {
		t.Errorf("run without writes: %v", err)
	}
}
