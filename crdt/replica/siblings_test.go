package replica

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func mvPut(value string) Op { return Op{Kind: OpMVPut, Key: "m", Value: []byte(value)} }

func flagOp(kind OpKind) Op { return Op{Kind: kind, Key: "f"} }

// values returns the values of a multi-value register, the latest first.
func values(t testing.TB, r *Replica) string {
	t.Helper()
	o, found, err := r.Lookup("", "m", 0)
	if err != nil {
		t.Fatal(err)
	}
	var v []string
	for _, s := range o.Siblings {
		v = append(v, string(s.Value))
	}
	if found != (len(v) > 0) || found && (o.Type != crdt.TypeMVRegister || string(o.Value) != v[0]) {
		t.Errorf("found %v, %+v", found, o)
	}
	return strings.Join(v, " ")
}

// goldenSiblings appends what one replica makes of every operation on flags and multi-value registers.
func goldenSiblings(t testing.TB, names []string, deltas []Delta) ([]string, []Delta) {
	t.Helper()
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 65)
	for _, step := range []struct {
		name    string
		foreign bool // another replica does the same first
		op      Op
	}{
		{"flag enable", false, flagOp(OpFlagEnable)},
		{"flag enable over two", true, flagOp(OpFlagEnable)},
		{"flag disable", false, flagOp(OpFlagDisable)},
		{"mvregister put", false, mvPut("value")},
		{"mvregister put over two", true, mvPut("\x00")},
		{"mvregister delete", false, Op{Kind: OpDelete, Key: "m"}},
	} {
		if step.foreign {
			_, foreign := do(t, b, step.op)
			merge(t, a, foreign...)
		}
		_, d := do(t, a, step.op)
		names, deltas = append(names, step.name), append(deltas, d...)
	}
	return names, deltas
}

func TestConcurrentPutsStayUntilOneSeesThem(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, one := do(t, a, mvPut("one"))
	_, two := do(t, b, mvPut("two"))
	merge(t, a, two...)
	merge(t, b, one...)
	if got := values(t, a); got != "two one" || got != values(t, b) { // of equal times the larger actor is later
		t.Errorf("siblings are %q and %q", got, values(t, b))
	}
	_, three := do(t, a, mvPut("three"))
	merge(t, b, three...)
	if got := values(t, a); got != "three" || got != values(t, b) {
		t.Errorf("resolved to %q and %q", got, values(t, b))
	}
	_, gone := do(t, a, Op{Kind: OpDelete, Key: "m"})
	_, four := do(t, b, mvPut("four"))
	merge(t, b, gone...)
	merge(t, a, four...)
	if got := values(t, a); got != "four" || got != values(t, b) {
		t.Errorf("a put beside a delete leaves %q and %q", got, values(t, b))
	}
}

// TestVersionOfSiblings: a condition on the version fails once another region's write was merged.
func TestVersionOfSiblings(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	first, _ := do(t, a, mvPut("one"))
	again := mvPut("two")
	again.Condition = Condition{Kind: CondVersion, Version: first.Version}
	second, _ := do(t, a, again)
	if second.Version == first.Version || !second.Existed {
		t.Errorf("%+v after %+v", second, first)
	}
	_, foreign := do(t, b, mvPut("beside"))
	merge(t, a, foreign...)
	again.Condition.Version = second.Version
	var refused *ConditionError
	if _, _, err := a.Execute(noon, []Op{again}); !errors.As(err, &refused) || refused.Version == second.Version {
		t.Fatalf("%v", err)
	}
	again.Condition.Version = refused.Version
	if do(t, a, again); values(t, a) != "two" {
		t.Errorf("siblings are %q", values(t, a))
	}
	absent := flagOp(OpFlagEnable)
	absent.Condition = Condition{Kind: CondAbsent}
	do(t, a, absent)
	if _, _, err := a.Execute(noon, []Op{absent}); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}

func TestFlagWithoutEffect(t *testing.T) {
	r := open(t, NewMemory(), 1)
	if outcome, deltas := do(t, r, flagOp(OpFlagDisable)); len(deltas) != 0 || outcome != (Outcome{}) {
		t.Errorf("disabling what is not enabled: %+v, %v", outcome, deltas)
	}
	first, _ := do(t, r, flagOp(OpFlagEnable))
	if again, deltas := do(t, r, flagOp(OpFlagEnable)); len(deltas) != 1 || again.Version == first.Version || !again.Existed {
		t.Errorf("enabling anew: %+v, %v", again, deltas)
	}
	large := Op{Kind: OpMVPut, Key: "f", Value: make([]byte, crdt.MaxValueBytes+1)}
	if _, _, err := r.Execute(noon, []Op{large}); !errors.Is(err, ErrInvalidOperation) {
		t.Errorf("too large a value: %v", err)
	}
}

func TestExplainSiblings(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, foreign := do(t, b, mvPut(strings.Repeat("x", explainBytes)+"\xff"))
	do(t, a, mvPut("\xff\n"))
	merge(t, a, foreign...)
	do(t, a, flagOp(OpFlagEnable))
	explained, err := a.Explain("", "m")
	if err != nil || len(explained) != 1 || explained[0].Size != 2 || explained[0].Version != "2.1" {
		t.Fatalf("%+v, %v", explained, err)
	}
	parts := explained[0].Parts
	if parts[0].Value != `"`+strings.Repeat("x", explainBytes)+`" and 1 bytes more, the latest` || parts[0].Dots[0] != (crdt.Dot{Actor: 2, Seq: 1}) {
		t.Errorf("%+v", parts[0])
	}
	if parts[1].Value != `"\xff\n"` || parts[1].Time != noon || parts[1].Hidden {
		t.Errorf("%+v", parts[1])
	}
	explained, err = a.Explain("", "f")
	if err != nil || len(explained) != 1 || explained[0].Parts[0].Value != "enabled" || explained[0].Type != crdt.TypeEWFlag {
		t.Errorf("%+v, %v", explained, err)
	}
}

func TestStoredSiblingsAreChecked(t *testing.T) {
	flag, mv := siblingsKind{crdt.TypeEWFlag}, siblingsKind{crdt.TypeMVRegister}
	sibling := func(actor crdt.Actor, value string) crdt.Sibling {
		return crdt.Sibling{Dot: crdt.Dot{Actor: actor, Seq: 1}, Time: 1, Value: []byte(value)}
	}
	for name, c := range map[string]struct {
		kind siblingsKind
		list []crdt.Sibling
	}{
		"none":          {mv, nil},
		"out of order":  {mv, []crdt.Sibling{sibling(2, ""), sibling(1, "")}},
		"one actor's":   {mv, []crdt.Sibling{sibling(1, ""), sibling(1, "")}},
		"flag's value":  {flag, []crdt.Sibling{sibling(1, "x")}},
		"value too big": {mv, []crdt.Sibling{sibling(1, strings.Repeat("x", crdt.MaxValueBytes+1))}},
	} {
		data := (&siblings{last: crdt.Dot{Actor: 1, Seq: 1}, list: c.list}).append(nil)
		if _, err := c.kind.decode(data); !errors.Is(err, crdt.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := &siblings{last: crdt.Dot{Actor: 9, Seq: 9}, list: []crdt.Sibling{sibling(1, "x"), sibling(2, "")}}
	got, err := mv.decode(want.append(nil))
	if err != nil || !bytes.Equal(got.append(nil), want.append(nil)) {
		t.Errorf("%+v comes back as %+v, %v", want, got, err)
	}
}

func badSiblings(t crdt.Type, c SiblingsChange) badDelta {
	return func(d *Delta) { d.Effects = []Effect{{Key: "k", Type: t, Change: &c}} }
}

// badSiblingDeltas are those of actor 2 that TestMergeRefuses tries.
func badSiblingDeltas() map[string]badDelta {
	flag, mv := crdt.TypeEWFlag, crdt.TypeMVRegister
	return map[string]badDelta{
		"siblings without effect": badSiblings(mv, SiblingsChange{}),
		"value of nothing":        badSiblings(mv, SiblingsChange{Value: []byte("x"), Removed: crdt.DotSet{{Actor: 3, Seq: 1}}}),
		"flag with a value":       badSiblings(flag, SiblingsChange{Added: true, Value: []byte("x")}),
		"large sibling":           badSiblings(mv, SiblingsChange{Added: true, Value: make([]byte, crdt.MaxValueBytes+1)}),
		"sibling removed ahead":   badSiblings(mv, SiblingsChange{Removed: crdt.DotSet{{Actor: 2, Seq: 2}}}),
		"sibling 0 removed":       badSiblings(mv, SiblingsChange{Removed: crdt.DotSet{{Actor: 3}}}),
		"own sibling named":       badSiblings(mv, SiblingsChange{Added: true, Removed: crdt.DotSet{{Actor: 2, Seq: 1}}}),
		"siblings out of order":   badSiblings(mv, SiblingsChange{Removed: crdt.DotSet{{Actor: 4, Seq: 1}, {Actor: 3, Seq: 1}}}),
		"sibling twice":           badSiblings(mv, SiblingsChange{Removed: crdt.DotSet{{Actor: 3, Seq: 1}, {Actor: 3, Seq: 1}}}),
		"siblings lost":           badSiblings(flag, SiblingsChange{Removed: crdt.DotSet{{Actor: 1, Seq: 99}}}),
	}
}
