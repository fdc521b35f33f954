package replica

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

const conflictsHead = `
## What counts as a conflict

A merge that has to decide between two writes that had not seen each other is counted in the region that does it, by namespace,
type and the two regions (` + "`atoll conflicts`" + `, ` + "`Regions.Conflicts`" + `). So each region counts its own merges, and the two may count
differently: what a removal leaves standing is only seen where the removal comes second. A write has seen what its region
had applied when it was made. Of a register, a field and a score the earlier write loses: its value is kept for a while and
can be restored. Two deletes agree, and are not counted. Where both writes simply take effect, as two additions do, nothing
is: maxima, minima, bounded counters, HyperLogLogs and timelines have no conflicts, and neither have two enables or two adds.
What a removal leaves standing counts once for each add, of a counter once for each region's last addition; a set that takes
away only what its own region had added is an addition like any other. Of writes that wait to be sent together a region sends
only what the later ones of them leave: one that a later write of the same region made superfluous is not merged elsewhere, and
not counted there, nor kept where it lost. In an observed-remove map each leaf counts as a value of its type. What a program told
that is older than this is that its writes have seen nothing, so counts are too high while regions are upgraded.

| type | before | one region | the other, later | counted by the one | by the other | lost |
|---|---|---|---|---|---|---|
`

// conflictRow is a pair of operations; said is how the page writes before, a and b.
type conflictRow struct {
	of     crdt.Type
	before []Op
	a, b   Op
	said   [3]string
}

// conflictsSection plays every row and returns the section of the page.
func conflictsSection(t *testing.T) string {
	t.Helper()
	var page strings.Builder
	page.WriteString(conflictsHead)
	for _, row := range conflictRows() {
		x, y := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
		for _, op := range row.before {
			_, deltas := do(t, x, op)
			merge(t, y, deltas...)
		}
		_, fromX, err := x.Execute(noon+1000, []Op{row.a})
		if err != nil {
			t.Fatal(err)
		}
		_, fromY, err := y.Execute(noon+2000, []Op{row.b})
		if err != nil {
			t.Fatal(err)
		}
		merge(t, y, fromX...)
		merge(t, x, fromY...)
		lost := ""
		for _, l := range allLosers(t, x) {
			lost = strings.TrimSpace(fmt.Sprintf("%s %s", lost, loserText(t, &l)))
		}
		fmt.Fprintf(&page, "| %v | %s | %s | %s | %d | %d | %s |\n", row.of, row.said[0], row.said[1], row.said[2], counted(t, x), counted(t, y), lost)
	}
	return page.String()
}

func loserText(t *testing.T, l *Loser) string {
	t.Helper()
	if l.Type != crdt.TypeZSet {
		return string(l.Value)
	}
	score, err := l.Score()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(score)
}

func counted(t *testing.T, r *Replica) (sum uint64) {
	t.Helper()
	counts, err := r.ConflictCounts(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		sum += c.Count
	}
	return sum
}

func conflictRows() []conflictRow {
	put := func(v string) Op { return onK(Op{Kind: OpPut, Value: []byte(v)}) }
	mvput := func(v string) Op { return onK(Op{Kind: OpMVPut, Value: []byte(v)}) }
	set := func(kind OpKind, elements ...string) Op { return onK(setOp(kind, elements...)) }
	field := func(name, value string) Op {
		return onK(Op{Kind: OpMapPut, Elements: [][]byte{[]byte(name)}, Values: [][]byte{[]byte(value)}})
	}
	score := func(kind OpKind, of crdt.Type, n float64) Op {
		return onK(Op{Kind: kind, Type: of, Elements: [][]byte{[]byte("m")}, Score: n})
	}
	add := func(n int64) Op { return onK(Op{Kind: OpCounterAdd, Delta: n}) }
	del, reset := onK(Op{Kind: OpDelete}), onK(Op{Kind: OpCounterReset})
	enable, disable := onK(Op{Kind: OpFlagEnable}), onK(Op{Kind: OpFlagDisable})
	const reg, counted, zset = crdt.TypeLWWRegister, crdt.TypeCounterZSet, crdt.TypeZSet
	raise := onK(Op{Kind: OpMax, Delta: 2})
	return []conflictRow{
		{reg, nil, put("a"), put("b"), [3]string{"absent", "put a", "put b"}},
		{reg, []Op{put("x")}, put("a"), del, [3]string{"x", "put a", "delete"}},
		{reg, []Op{put("x")}, del, put("b"), [3]string{"x", "delete", "put b"}},
		{reg, []Op{put("x")}, del, del, [3]string{"x", "delete", "delete"}},
		{crdt.TypeLWWMap, nil, field("f", "a"), field("f", "b"), [3]string{"absent", "put f a", "put f b"}},
		{crdt.TypeLWWMap, nil, field("f", "a"), field("g", "b"), [3]string{"absent", "put f a", "put g b"}},
		{crdt.TypeLWWMap, []Op{field("f", "x"), field("g", "y")}, field("f", "a"), del, [3]string{"f x, g y", "put f a", "delete"}},
		{crdt.TypeLWWMap, []Op{field("f", "x")}, del, field("f", "b"), [3]string{"f x", "delete", "put f b"}},
		{zset, nil, score(OpZSetAdd, zset, 1), score(OpZSetAdd, zset, 2), [3]string{"absent", "add m 1", "add m 2"}},
		{crdt.TypeMVRegister, nil, mvput("a"), mvput("b"), [3]string{"absent", "put a", "put b"}},
		{crdt.TypeMVRegister, []Op{mvput("x")}, mvput("a"), del, [3]string{"x", "put a", "delete"}},
		{crdt.TypeEWFlag, []Op{enable}, enable, disable, [3]string{"enabled", "enable", "disable"}},
		{crdt.TypeEWFlag, nil, enable, enable, [3]string{"absent", "enable", "enable"}},
		{crdt.TypeAWSet, []Op{set(OpSetAdd, "a")}, set(OpSetAdd, "a"), set(OpSetRemove, "a"), [3]string{"a", "add a", "remove a"}},
		{crdt.TypeAWSet, []Op{set(OpSetAdd, "a")}, set(OpSetAdd, "b", "c"), set(OpSetClear), [3]string{"a", "add b c", "clear or delete"}},
		{crdt.TypeAWSet, nil, set(OpSetAdd, "a"), set(OpSetAdd, "a"), [3]string{"absent", "add a", "add a"}},
		{crdt.TypeCounter, []Op{add(10)}, add(2), reset, [3]string{"10", "add 2", "reset or delete"}},
		{crdt.TypeCounter, []Op{add(10)}, onK(Op{Kind: OpCounterSet, Delta: 4}), onK(Op{Kind: OpCounterSet, Delta: 5}), [3]string{"10", "set to 4", "set to 5"}},
		{crdt.TypeCounter, nil, add(2), add(3), [3]string{"absent", "add 2", "add 3"}},
		{counted, []Op{score(OpZSetIncr, counted, 10)}, score(OpZSetIncr, counted, 2), score(OpZSetRemove, counted, 0), [3]string{"m 10", "incr m 2", "remove m"}},
		{crdt.TypeMaxRegister, []Op{onK(Op{Kind: OpMax, Delta: 1})}, raise, del, [3]string{"1", "raise to 2", "delete"}},
	}
}
