package replica

import (
	"errors"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func TestExecuteRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxKeyBytes+1)
	for _, c := range []struct {
		name string
		op   Op
		want string
	}{
		{"no key", Op{Kind: OpPut}, "out of bounds"},
		{"long key", Op{Kind: OpPut, Key: long}, "out of bounds"},
		{"long namespace", Op{Kind: OpPut, Key: "k", Namespace: long}, "out of bounds"},
		{"large value", Op{Kind: OpPut, Key: "k", Value: make([]byte, crdt.MaxValueBytes+1)}, "value of"},
		{"kind 0", Op{Key: "k"}, "unknown kind"},
		{"kind 99", Op{Kind: 99, Key: "k"}, "unknown kind"},
		{"type 15", Op{Kind: OpDelete, Key: "k", Type: 15}, "unknown type(15)"},
		{"empty element", setOp(OpSetAdd, ""), "element of"},
		{"long element", setOp(OpSetRemove, long), "element of"},
		{"many elements", Op{Kind: OpSetAdd, Key: "s", Elements: make([][]byte, MaxOperationElements+1)}, "10001 elements"},
		{"large entry", Op{Kind: OpTimelineAdd, Key: "t", Value: make([]byte, crdt.MaxValueBytes+1)}, "value of"},
		{"trim to nothing", Op{Kind: OpTimelineTrim, Key: "t"}, "no instant"},
		{"condition 5", Op{Kind: OpPut, Key: "k", Condition: Condition{Kind: 5}}, "unknown condition"},
		{"value of a set", Op{Kind: OpSetClear, Key: "s", Condition: Condition{Kind: CondValue}}, "value of a set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := refusedCleanly(t, c.op)
			if !errors.Is(err, ErrInvalidOperation) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestExecuteRefusesInThisState(t *testing.T) {
	if err := refusedCleanly(t, Op{Kind: OpCounterAdd, Key: "c", Delta: 1}); !errors.Is(err, crdt.ErrCounterOverflow) {
		t.Errorf("overflow: %v", err)
	}
	for _, c := range []Condition{{Kind: CondAbsent}, {Kind: CondVersion, Version: "2.1"}, {Kind: CondValue}} {
		err := refusedCleanly(t, Op{Kind: OpDelete, Key: "c", Condition: c})
		var condition *ConditionError
		if !errors.As(err, &condition) || condition.Kind != c.Kind || condition.Version != "1.1" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Condition{{Kind: CondPresent}, {Kind: CondVersion}, {Kind: CondValue}} {
		err := refusedCleanly(t, Op{Kind: OpPut, Key: "absent", Condition: c})
		var condition *ConditionError
		if !errors.As(err, &condition) || condition.Kind != c.Kind || condition.Version != "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []Condition{{}, {Kind: CondAbsent}} { // the type comes before the condition
		err := refusedCleanly(t, Op{Kind: OpPut, Key: "c", Condition: c})
		var wrongType *WrongTypeError
		if !errors.As(err, &wrongType) || wrongType.Found != crdt.TypeCounter {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// refusedCleanly executes an operation that is refused, alone and in the middle of a batch, on a
// replica with a full counter "c", and checks that nothing was changed.
func refusedCleanly(t *testing.T, op Op) error {
	t.Helper()
	n := newNode(1)
	do(t, n.r, Op{Kind: OpCounterAdd, Key: "c", Delta: math.MaxInt64})
	before := fingerprint(n)
	var refused *OpError
	put := Op{Kind: OpPut, Key: "new", Value: []byte("v")}
	for i, ops := range [][]Op{{op}, {put, op, put}} {
		outcomes, deltas, err := n.r.Execute(noon, ops)
		if !errors.As(err, &refused) || refused.Index != i || outcomes != nil || deltas != nil {
			t.Fatalf("%v, %v, %v", outcomes, deltas, err)
		}
		if fingerprint(n) != before {
			t.Errorf("the refusal %q changed the replica", err)
		}
	}
	return refused
}

func TestTooManyElements(t *testing.T) {
	n := newNode(1)
	n.r.inside = insideLimits{}
	do(t, n.r, setOp(OpSetAdd, "a"))
	key := objectKey("", "s", crdt.TypeAWSet)
	h := setHeader{last: crdt.Dot{Actor: 1, Seq: 1}, elements: elements{kid: 1}, count: MaxSetElements}
	if err := n.kv.Put(key, h.append(nil)); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(n)
	if _, _, err := n.r.Execute(noon, []Op{setOp(OpSetAdd, "a", "b")}); !errors.Is(err, ErrTooManyElements) || fingerprint(n) != before {
		t.Errorf("%v", err)
	}
	if outcome, _ := do(t, n.r, setOp(OpSetAdd, "a")); outcome.Size != MaxSetElements {
		t.Errorf("an element that is there already can be added: %+v", outcome)
	}
}

// badDelta makes a delta of actor 2 bad: its dot is 2.2, its time right after noon.
type badDelta func(*Delta)

func badRegister(change func(*crdt.LWWRegister)) badDelta {
	return func(d *Delta) { change(&d.Effects[0].Change.(*RegisterChange).LWWRegister) }
}

func badRow(row crdt.Row) badDelta {
	return func(d *Delta) {
		d.Effects = []Effect{{Key: "k", Type: crdt.TypeCounter, Change: &CounterChange{rowOf(row)}}}
	}
}

func badSet(effect SetChange) badDelta {
	return func(d *Delta) { d.Effects = []Effect{{Key: "k", Type: crdt.TypeAWSet, Change: &effect}} }
}

func badTimeline(effect TimelineChange) badDelta {
	return func(d *Delta) { d.Effects = []Effect{{Key: "k", Type: crdt.TypeTimeline, Change: &effect}} }
}

func badMembers(m ...MemberChange) badDelta {
	return func(d *Delta) {
		d.Effects = []Effect{{Key: "k", Type: crdt.TypeCounterZSet, Change: &CounterZSetChange{m}}}
	}
}

// rowOf returns a counter of one row.
func rowOf(row crdt.Row) crdt.Counter { return crdt.NewCounter([]crdt.Row{row}) }

func badElements(e ...ElementChange) badDelta { return badSet(SetChange{Elements: e}) }

func vectorOf(dots ...crdt.Dot) *crdt.VersionVector {
	v := &crdt.VersionVector{}
	for _, d := range dots {
		v.Set(d.Actor, d.Seq)
	}
	return v
}

func badDeltas() map[string]badDelta {
	x, dot, lost := []byte("x"), crdt.Dot{Actor: 2, Seq: 2}, crdt.Dot{Actor: 1, Seq: 99}
	fine := rowOf(crdt.Row{Actor: 2, Entry: crdt.Entry{Gen: 2, Seq: 2, Sum: 9}})
	return map[string]badDelta{
		"zset without members":     badMembers(),
		"too many members":         badMembers(make([]MemberChange, MaxOperationElements+1)...),
		"empty member":             badMembers(MemberChange{Rows: fine}),
		"long member":              badMembers(MemberChange{make([]byte, crdt.MaxElementBytes+1), fine}),
		"members out of order":     badMembers(MemberChange{x, fine}, MemberChange{x, fine}),
		"member without rows":      badMembers(MemberChange{Member: x}),
		"member's entry of others": badMembers(MemberChange{x, rowOf(crdt.Row{Actor: 1, Entry: crdt.Entry{Gen: 2, Seq: 2}})}),
		"member's reset of lost":   badMembers(MemberChange{x, rowOf(crdt.Row{Actor: 1, Base: crdt.Base{Gen: 1, Seq: 99, Reset: dot}})}),

		"another actor":          func(d *Delta) { d.Dot.Actor = 3 },
		"no time":                func(d *Delta) { d.Time = 0 },
		"time too late":          func(d *Delta) { d.Time, d.Effects = maxTime+1, nil },
		"time not rising":        func(d *Delta) { d.Time, d.Effects = noon, nil },
		"no key":                 func(d *Delta) { d.Effects[0].Key = "" },
		"effects out of order":   func(d *Delta) { d.Effects = append(d.Effects, d.Effects[0]) },
		"unknown type":           func(d *Delta) { d.Effects[0].Type = 99 },
		"type without effect":    func(d *Delta) { d.Effects[0].Type = crdt.TypeAWSet },
		"register of another":    badRegister(func(r *crdt.LWWRegister) { r.Seq++ }),
		"register at other time": badRegister(func(r *crdt.LWWRegister) { r.Time++ }),
		"large value":            badRegister(func(r *crdt.LWWRegister) { r.Value = make([]byte, crdt.MaxValueBytes+1) }),
		"deleted value":          badRegister(func(r *crdt.LWWRegister) { r.Deleted, r.Expires = true, 1 }),
		"counter without rows":   func(d *Delta) { d.Effects = []Effect{{Key: "k", Type: crdt.TypeCounter, Change: &CounterChange{}}} },
		"entry of another actor": badRow(crdt.Row{Actor: 1, Entry: crdt.Entry{Gen: 2, Seq: 2, Sum: 9}}),
		"entry of another event": badRow(crdt.Row{Actor: 2, Entry: crdt.Entry{Gen: 1, Seq: 1, Sum: 9}}),
		"generation ahead":       badRow(crdt.Row{Actor: 2, Entry: crdt.Entry{Gen: 3, Seq: 2, Sum: 9}}),
		"generation 0":           badRow(crdt.Row{Actor: 2, Entry: crdt.Entry{Seq: 2}}),
		"reset by another":       badRow(crdt.Row{Actor: 1, Base: crdt.Base{Gen: 1, Seq: 1, Reset: lost}}),
		"reset ahead":            badRow(crdt.Row{Actor: 2, Base: crdt.Base{Gen: 2, Seq: 2, Reset: dot}}),
		"reset generation":       badRow(crdt.Row{Actor: 1, Base: crdt.Base{Gen: 2, Seq: 1, Reset: dot}}),
		"reset of lost events":   badRow(crdt.Row{Actor: 1, Base: crdt.Base{Gen: 1, Seq: 99, Reset: dot}}),
		"empty row":              badRow(crdt.Row{Actor: 2}),
		"set without effect":     badSet(SetChange{}),
		"clear ahead":            badSet(SetChange{Cleared: vectorOf(dot)}),
		"clear of lost events":   badSet(SetChange{Cleared: vectorOf(lost)}),
		"too many elements":      badSet(SetChange{Elements: make([]ElementChange, MaxOperationElements+1)}),
		"empty element":          badElements(ElementChange{Added: true}),
		"element without effect": badElements(ElementChange{Element: x}),
		"elements out of order":  badElements(ElementChange{Element: x, Added: true}, ElementChange{Element: x, Added: true}),
		"remove ahead":           badElements(ElementChange{Element: x, Removed: crdt.DotSet{dot}}),
		"remove of lost events":  badElements(ElementChange{Element: x, Removed: crdt.DotSet{lost}}),
		"trim ahead":             badTimeline(TimelineChange{Before: noon + 3}),
		"trim with an entry":     badTimeline(TimelineChange{Before: noon, Value: x}),
		"large entry":            badTimeline(TimelineChange{Value: make([]byte, crdt.MaxValueBytes+1)}),
		"removes out of order":   badElements(ElementChange{Element: x, Removed: crdt.DotSet{{Actor: 3, Seq: 2}, {Actor: 3, Seq: 1}}}),
	}
}

func TestMergeRefuses(t *testing.T) {
	bad := badDeltas()
	maps.Copy(bad, badSiblingDeltas())
	for name, change := range bad {
		t.Run(name, func(t *testing.T) {
			n := newNode(1)
			do(t, n.r, setOp(OpSetAdd, "mine"))
			merge(t, n.r, Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: noon})
			before := fingerprint(n)
			d := Delta{Dot: crdt.Dot{Actor: 2, Seq: 2}, Time: noon + 1}
			reg := crdt.LWWRegister{Time: d.Time, Actor: d.Dot.Actor, Seq: d.Dot.Seq}
			d.Effects = []Effect{{Key: "k", Type: crdt.TypeLWWRegister, Change: &RegisterChange{reg}}}
			change(&d)
			var bad *BadDeltaError
			if applied, err := n.r.Merge(2, []Delta{d}); !errors.As(err, &bad) || applied != 0 || bad.Error() == "" {
				t.Errorf("%d, %v", applied, err)
			}
			if fingerprint(n) != before {
				t.Error("a refused delta changed the replica")
			}
		})
	}
}

func TestMergeRefusesWhatCannotFollow(t *testing.T) {
	var bad *BadDeltaError
	r := open(t, NewMemory(), 2)
	first, third := Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: noon}, Delta{Dot: crdt.Dot{Actor: 2, Seq: 3}, Time: noon + 1}
	if _, err := r.Merge(2, []Delta{first}); !errors.As(err, &bad) {
		t.Errorf("own actor: %v", err)
	}
	r = open(t, NewMemory(), 1)
	if _, err := r.Merge(2, []Delta{first, third}); !errors.As(err, &bad) || r.Vector().Len() != 0 {
		t.Errorf("hole: %v", err)
	}
}
