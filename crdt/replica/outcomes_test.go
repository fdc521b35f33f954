package replica

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// concurrent is two operations that two regions do at once, after what both have seen.
type concurrent struct {
	before []Op // done in the first region, and seen by both
	a, b   Op
	// said is how the page writes before, a and b.
	said [3]string
}

// outcomeTable is what becomes of pairs of concurrent operations on values of one type.
type outcomeTable struct {
	of    crdt.Type
	title string
	pairs []concurrent
	// show says what readers see of the key "k".
	show func(r *Replica, o Object) (string, error)
}

const outcomesPage = "../../docs/concurrency.md"

const outcomesHead = `# What concurrent writes give

Two regions each do one operation on the same key, neither having seen the other's; then each gets the other's. This is what
both hold in the end. Where the clock decides, both orders are shown. The page is written by a test, which does exactly
that with the code of the servers (` + "`go test ./crdt/replica -run Outcomes -rewrite`" + `), so it cannot be out of date.
`

// TestConcurrentOutcomes does every pair in both orders of time and of delivery, and compares the page.
func TestConcurrentOutcomes(t *testing.T) {
	var page strings.Builder
	page.WriteString(outcomesHead)
	for _, table := range outcomeTables() {
		fmt.Fprintf(&page, "\n## %s\n\n| before | one region | the other | both hold, the second being later | both hold, the first being later |\n|---|---|---|---|---|\n", table.title)
		for _, pair := range table.pairs {
			second, first := table.outcome(t, pair, true), table.outcome(t, pair, false)
			if first == second {
				first = "the same"
			}
			fmt.Fprintf(&page, "| %s | %s | %s | %s | %s |\n", pair.said[0], pair.said[1], pair.said[2], second, first)
		}
	}
	page.WriteString(deadlineOutcomes(t))
	page.WriteString(conflictsSection(t))
	if *rewrite {
		if err := os.WriteFile(outcomesPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(outcomesPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is out of date: run this test with -rewrite", outcomesPage)
	}
}

// outcome plays a pair between two regions and returns what both read.
func (table *outcomeTable) outcome(t *testing.T, pair concurrent, secondIsLater bool) string {
	t.Helper()
	x, y := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	for _, op := range pair.before {
		_, deltas, err := x.Execute(noon, []Op{op})
		if err != nil {
			t.Fatal(err)
		}
		merge(t, y, deltas...)
	}
	early, late := noon+1000, noon+2000
	if !secondIsLater {
		early, late = late, early
	}
	run := func(r *Replica, at hlc.Time, op Op) []Delta {
		_, deltas, err := r.Execute(at, []Op{op})
		if err != nil {
			t.Fatalf("%+v: %v", op, err)
		}
		return deltas
	}
	fromX, fromY := run(x, early, pair.a), run(y, late, pair.b)
	merge(t, y, fromX...)
	merge(t, x, fromY...)
	a, b := table.read(t, x), table.read(t, y)
	if a != b {
		t.Fatalf("%v: one region reads %s, the other %s", pair.said, a, b)
	}
	return a
}

func (table *outcomeTable) read(t *testing.T, r *Replica) string {
	t.Helper()
	o, found, err := r.LookupType("", "k", table.of, noon+5000)
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return "absent"
	}
	text, err := table.show(r, o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func onK(op Op) Op {
	op.Key = "k"
	return op
}

// outcomeTables are in the order of the page.
func outcomeTables() []outcomeTable {
	return []outcomeTable{registerOutcomes(), counterOutcomes(), setOutcomes(), ormapOutcomes()}
}

func registerOutcomes() outcomeTable {
	put := func(v string) Op { return onK(Op{Kind: OpPut, Value: []byte(v)}) }
	expire := onK(Op{Kind: OpExpire, Expires: noon + 3000})
	return outcomeTable{
		of: crdt.TypeLWWRegister, title: "Register",
		pairs: []concurrent{
			{nil, put("a"), put("b"), [3]string{"absent", "put a", "put b"}},
			{[]Op{put("x")}, put("a"), onK(Op{Kind: OpDelete}), [3]string{"x", "put a", "delete"}},
			{[]Op{put("x")}, put("a"), expire, [3]string{"x", "put a", "expire soon, and later"}},
			{[]Op{put("x")}, onK(Op{Kind: OpDelete}), onK(Op{Kind: OpDelete}), [3]string{"x", "delete", "delete"}},
		},
		show: func(_ *Replica, o Object) (string, error) { return string(o.Value), nil },
	}
}

func counterOutcomes() outcomeTable {
	add := func(n int64) Op { return onK(Op{Kind: OpCounterAdd, Delta: n}) }
	set := func(n int64) Op { return onK(Op{Kind: OpCounterSet, Delta: n}) }
	reset := onK(Op{Kind: OpCounterReset})
	return outcomeTable{
		of: crdt.TypeCounter, title: "Counter",
		pairs: []concurrent{
			{nil, add(2), add(3), [3]string{"absent", "add 2", "add 3"}},
			{[]Op{add(10)}, add(2), reset, [3]string{"10", "add 2", "reset or delete"}},
			{[]Op{add(10)}, add(2), set(5), [3]string{"10", "add 2", "set to 5"}},
			{[]Op{add(10)}, set(4), set(5), [3]string{"10", "set to 4", "set to 5"}},
			{[]Op{add(10)}, reset, reset, [3]string{"10", "reset", "reset"}},
		},
		show: func(_ *Replica, o Object) (string, error) { return fmt.Sprint(o.Counter), nil },
	}
}

func setOutcomes() outcomeTable {
	op := func(kind OpKind, elements ...string) Op {
		o := setOp(kind, elements...)
		return onK(o)
	}
	return outcomeTable{
		of: crdt.TypeAWSet, title: "Set",
		pairs: []concurrent{
			{nil, op(OpSetAdd, "a"), op(OpSetAdd, "b"), [3]string{"absent", "add a", "add b"}},
			{[]Op{op(OpSetAdd, "a")}, op(OpSetAdd, "a"), op(OpSetRemove, "a"), [3]string{"a", "add a", "remove a"}},
			{[]Op{op(OpSetAdd, "a", "b")}, op(OpSetAdd, "a"), op(OpSetClear), [3]string{"a b", "add a", "clear or delete"}},
			{[]Op{op(OpSetAdd, "a", "b")}, op(OpSetRemove, "a"), op(OpSetRemove, "b"), [3]string{"a b", "remove a", "remove b"}},
		},
		show: func(r *Replica, _ Object) (string, error) {
			members, _, err := r.SetMembers("", "k", nil, 10, 1000)
			return joined(members), err
		},
	}
}

// joined writes names one after another.
func joined(names [][]byte) string {
	text := make([]string, len(names))
	for i, n := range names {
		text[i] = string(n)
	}
	return strings.Join(text, " ")
}
