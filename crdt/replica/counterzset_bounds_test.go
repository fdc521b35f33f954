package replica

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"pgregory.net/rapid"
)

func zsetOp(kind OpKind, score float64, members ...string) Op {
	op := setOp(kind, members...)
	op.Key, op.Type, op.Score = "z", crdt.TypeCounterZSet, score
	return op
}

// goldenCounterZSet are deltas of a replica that has merged from another.
func goldenCounterZSet(t testing.TB) (names []string, deltas []Delta) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 65)
	_, foreign := do(t, b, zsetOp(OpZSetIncr, 5, "m"))
	merge(t, a, foreign...)
	for _, step := range []struct {
		name string
		op   Op
	}{
		{"counter zset incr", zsetOp(OpZSetIncr, -3, "m")},
		{"counter zset add", zsetOp(OpZSetAdd, 1<<53, "m")},
		{"counter zset add new", zsetOp(OpZSetAdd, 0, "a")},
		{"counter zset remove", zsetOp(OpZSetRemove, 0, "m", "m", "absent")},
		{"counter zset delete", Op{Kind: OpDelete, Key: "z"}},
	} {
		_, d := do(t, a, step.op)
		names, deltas = append(names, step.name), append(deltas, d...)
	}
	return names, deltas
}

func ranked(t *testing.T, r *Replica) []crdt.CountedMember {
	t.Helper()
	members, _, err := r.CounterZSetRange("", "z", CounterZSetRange{Low: math.MinInt64, High: math.MaxInt64, Limit: 1000, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return members
}

func TestCounterZSetConcurrent(t *testing.T) {
	for _, c := range []struct {
		name  string
		a, b  Op
		score int64
		found bool
	}{
		{"incr and incr", zsetOp(OpZSetIncr, 2, "m"), zsetOp(OpZSetIncr, 3, "m"), 15, true},
		{"remove and incr", zsetOp(OpZSetRemove, 0, "m"), zsetOp(OpZSetIncr, 2, "m"), 2, true},
		{"delete and incr", Op{Kind: OpDelete, Key: "z"}, zsetOp(OpZSetIncr, 2, "m"), 2, true},
		{"remove and remove", zsetOp(OpZSetRemove, 0, "m"), zsetOp(OpZSetRemove, 0, "m"), 0, false},
		{"add and incr", zsetOp(OpZSetAdd, 7, "m"), zsetOp(OpZSetIncr, 2, "m"), 9, true},
		{"add and add", zsetOp(OpZSetAdd, 7, "m"), zsetOp(OpZSetAdd, 8, "m"), 15, true},
		{"add and remove", zsetOp(OpZSetAdd, 7, "m"), zsetOp(OpZSetRemove, 0, "m"), 7, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b, third := newNode(1), newNode(2), newNode(3)
			_, first := do(t, third.r, zsetOp(OpZSetAdd, 10, "m"))
			merge(t, a.r, first...)
			merge(t, b.r, first...)
			_, fromA := do(t, a.r, c.a)
			_, fromB := do(t, b.r, c.b)
			merge(t, a.r, fromB...)
			merge(t, b.r, fromA...)
			merge(t, third.r, append(fromA, fromB...)[:1]...)
			merge(t, third.r, fromB...)
			for _, n := range []*node{a, b, third} {
				score, found, err := n.r.CounterZSetScore("", "z", []byte("m"))
				if err != nil || found != c.found || score != c.score {
					t.Errorf("score %d, %v, want %d, %v; %v", score, found, c.score, c.found, err)
				}
				if err := audit(n); err != nil {
					t.Error(err)
				}
			}
			if n := third.kv.Len(); !c.found && n > 1 {
				t.Errorf("%d pairs are left where the score was made", n)
			}
		})
	}
}

func TestCounterZSetRefuses(t *testing.T) {
	nan, long := math.NaN(), strings.Repeat("x", crdt.MaxElementBytes+1)
	for _, c := range []struct {
		op   Op
		want error
	}{
		{zsetOp(OpZSetAdd, 0.5, "m"), ErrScoreRange},
		{zsetOp(OpZSetAdd, nan, "m"), ErrScoreRange},
		{zsetOp(OpZSetIncr, math.Inf(-1), "m"), ErrScoreRange},
		{zsetOp(OpZSetIncr, MaxScore+2, "m"), ErrScoreRange},
		{zsetOp(OpZSetAdd, 1), ErrInvalidOperation},
		{zsetOp(OpZSetAdd, 1, "a", "b"), ErrInvalidOperation},
		{zsetOp(OpZSetIncr, 1, ""), ErrInvalidOperation},
		{zsetOp(OpZSetRemove, 0, long), ErrInvalidOperation},
	} {
		if err := refusedCleanly(t, c.op); !errors.Is(err, c.want) || !errors.Is(err, ErrInvalidOperation) {
			t.Errorf("%v %v: %v", c.op.Kind, c.op.Score, err)
		}
	}
}

// TestCounterZSetScoreRange: what a region does alone stays in range; what went out of it together with
// another region can come back.
func TestCounterZSetScoreRange(t *testing.T) {
	for _, sign := range []float64{1, -1} {
		a, b := newNode(1), newNode(2)
		do(t, a.r, zsetOp(OpZSetAdd, sign*MaxScore, "m"))
		_, more := do(t, b.r, zsetOp(OpZSetIncr, sign*MaxScore, "m"))
		before := fingerprint(a)
		if _, _, err := a.r.Execute(noon, []Op{zsetOp(OpZSetIncr, sign, "m")}); !errors.Is(err, ErrScoreRange) || fingerprint(a) != before {
			t.Errorf("%v", err)
		}
		merge(t, a.r, more...)
		if got := ranked(t, a.r); !slices.Equal(got, []crdt.CountedMember{{Member: "m", Score: int64(sign) << 54}}) {
			t.Errorf("got %v", got)
		}
		if _, _, err := a.r.Execute(noon, []Op{zsetOp(OpZSetIncr, sign, "m")}); !errors.Is(err, ErrScoreRange) {
			t.Errorf("%v", err)
		}
		do(t, a.r, zsetOp(OpZSetIncr, -sign, "m"))
		if err := audit(a); err != nil {
			t.Error(err)
		}
	}
}

// TestCounterZSetDeleteIsBounded: a deletion names every member, so a large one is refused, whatever
// else there is under the key, before anything is changed.
func TestCounterZSetDeleteIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		members int
		prefix  string
	}{{MaxOperationElements + 1, ""}, {6000, long}} {
		n := newNode(1)
		var ops []Op
		for i := range c.members {
			ops = append(ops, zsetOp(OpZSetAdd, float64(i), fmt.Sprint(c.prefix, i)))
		}
		ops = append(ops, Op{Kind: OpPut, Key: "z", AnyType: true})
		if _, _, err := n.r.Execute(noon, ops); err != nil {
			t.Fatal(err)
		}
		before := fingerprint(n)
		for _, only := range []crdt.Type{0, crdt.TypeCounterZSet} {
			_, _, err := n.r.Execute(noon, []Op{{Kind: OpDelete, Key: "z", Type: only}})
			var refused *OpError
			if !errors.Is(err, ErrChangeTooLarge) || !errors.As(err, &refused) || fingerprint(n) != before {
				t.Errorf("%d members: %v", c.members, err)
			}
		}
		remove := zsetOp(OpZSetRemove, 0)
		for i := range MaxOperationElements / 4 {
			remove.Elements = append(remove.Elements, fmt.Append(nil, c.prefix, i))
		}
		do(t, n.r, remove)
		outcome, deltas := do(t, n.r, Op{Kind: OpDelete, Key: "z", Type: crdt.TypeCounterZSet})
		if want := c.members - len(remove.Elements); outcome.Changed != uint64(want) || len(EncodeDelta(deltas[0])) > maxChangeBytes {
			t.Errorf("%+v, want %d; %d bytes", outcome, want, len(EncodeDelta(deltas[0])))
		}
		do(t, n.r, Op{Kind: OpDelete, Key: "z"})
		if n.kv.Len() != 3 || audit(n) != nil { // the meta and a tombstone with its instant
			t.Errorf("%d pairs are left, %v", n.kv.Len(), audit(n))
		}
	}
}

func TestCounterZSetTooManyMembers(t *testing.T) {
	n := newNode(1)
	n.r.inside = insideLimits{}
	do(t, n.r, zsetOp(OpZSetAdd, 1, "m"))
	h := counterZSetHeader{last: crdt.Dot{Actor: 1, Seq: 1}, elements: elements{kid: 1}, present: MaxSetElements}
	if err := n.kv.Put(objectKey("", "z", crdt.TypeCounterZSet), h.append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.r.Execute(noon, []Op{zsetOp(OpZSetIncr, 1, "new")}); !errors.Is(err, ErrTooManyElements) {
		t.Errorf("%v", err)
	}
	do(t, n.r, zsetOp(OpZSetIncr, 1, "m"))
}

// TestCounterZSetCost: what an operation or a page costs does not depend on the size.
func TestCounterZSetCost(t *testing.T) {
	n := newNode(1)
	const size = 5000
	var ops []Op
	for i := range size {
		ops = append(ops, zsetOp(OpZSetAdd, float64(i/10), fmt.Sprintf("user:%06d", i)))
	}
	if _, _, err := n.r.Execute(noon, ops); err != nil {
		t.Fatal(err)
	}
	if err := n.r.Flush(); err != nil {
		t.Fatal(err)
	}
	kv := &counting{KV: n.kv}
	n.r = open(t, kv, 1)
	for _, op := range []Op{zsetOp(OpZSetAdd, 7, "new"), zsetOp(OpZSetIncr, 9, "new"), zsetOp(OpZSetRemove, 0, "new", "absent")} {
		*kv = counting{KV: n.kv}
		do(t, n.r, op)
		if kv.gets > 3 || kv.visits > 1 || kv.writes > 4 || kv.bytes > 150 {
			t.Errorf("%+v: %+v", op, kv)
		}
	}
	for _, reverse := range []bool{false, true} {
		*kv = counting{KV: n.kv}
		q := CounterZSetRange{Low: math.MinInt64, High: math.MaxInt64, Reverse: reverse, Limit: 10, MaxBytes: 1 << 20}
		page, more, err := n.r.CounterZSetRange("", "z", q)
		if err != nil || !more || len(page) != 10 || kv.gets+kv.visits > size/2 {
			t.Errorf("%d members, %v, %v: %+v", len(page), more, err, kv)
		}
		if want := map[bool]string{false: "user:000000", true: "user:004999"}[reverse]; page[0].Member != want {
			t.Errorf("first is %v", page[0])
		}
	}
}

// TestSweepEmptiesTheOrderOfScores: what is under a discarded id goes, from both tables.
func TestSweepEmptiesTheOrderOfScores(t *testing.T) {
	n := newNode(1)
	for i := range 3*sweepBudget + 7 {
		member := fmt.Appendf(nil, "%d", i)
		for _, key := range [][]byte{elementKey(5, member), scoreKey(5, orderOf(int64(i)), member)} {
			if err := n.kv.Put(key, marker[:]); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := n.r.begin(false)
	if err := errors.Join(w.discard(5), n.r.commit(w)); err != nil {
		t.Fatal(err)
	}
	for calls := 0; n.r.meta.garbage > 0; calls++ {
		if calls > 7 {
			t.Fatal("the sweep does not end")
		}
		if _, _, err := n.r.Execute(0, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n.kv.Len() != 0 {
		t.Errorf("%d pairs are left", n.kv.Len())
	}
}

func TestCounterZSetExplain(t *testing.T) {
	a, b := newNode(1), newNode(2)
	_, first := do(t, b.r, zsetOp(OpZSetIncr, 5, "m"))
	merge(t, a.r, first...)
	do(t, a.r, zsetOp(OpZSetIncr, -2, "m"))
	_, second := do(t, b.r, zsetOp(OpZSetAdd, 9, "gone"))
	merge(t, a.r, second...)
	do(t, a.r, zsetOp(OpZSetRemove, 0, "gone"))
	do(t, a.r, zsetOp(OpZSetAdd, 1, "one"))
	objects, err := a.r.Explain("", "z")
	if err != nil || len(objects) != 1 {
		t.Fatalf("%+v, %v", objects, err)
	}
	e := objects[0]
	want := `[{one 1 [1.3] 0 false} {m 3 = -2 + 5 [1.1 2.1] 0 false} {gone removed [2.2] 0 true}]`
	var got []string
	for _, p := range e.Parts {
		got = append(got, fmt.Sprintf("{%s %s %v %d %v}", p.Name, p.Value, p.Dots, uint64(p.Time), p.Hidden))
	}
	if fmt.Sprint(got) != want || e.Size != 3 || e.Type != crdt.TypeCounterZSet || e.Version != "1.3" {
		t.Errorf("%v of %d, version %s, want %s", got, e.Size, e.Version, want)
	}
}

func TestDescend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kv := NewMemory()
		key := rapid.Custom(func(t *rapid.T) string {
			return rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 'a', 'b', 127}), 1, 5, -1).Draw(t, "key")
		})
		keys := rapid.SliceOfNDistinct(key, 0, 120, rapid.ID).Draw(t, "keys")
		start, end := key.Draw(t, "start"), key.Draw(t, "end")
		var want []string
		for _, k := range keys {
			if err := kv.Put([]byte(k), marker[:]); err != nil {
				t.Fatal(err)
			}
			if k >= start && k < end {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		slices.Reverse(want)
		limit := rapid.IntRange(1, 200).Draw(t, "limit")
		want = want[:min(limit, len(want))]
		var got []string
		err := descend(kv, []byte(start), []byte(end), func(k []byte) (bool, error) {
			got = append(got, string(k))
			return len(got) < limit, nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q, want %q, %v", got, want, err)
		}
	})
}
