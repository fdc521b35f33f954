package replica

import (
	"errors"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

func TestBoundedCounterIsNotDeleted(t *testing.T) {
	n := newNode(1)
	do(t, n.r, Op{Kind: OpBoundedInc, Key: "b", Delta: 9})
	do(t, n.r, Op{Kind: OpPut, Key: "b", Value: []byte("x"), AnyType: true})
	before := fingerprint(n)
	for _, typ := range []crdt.Type{0, crdt.TypeBoundedCounter} {
		for _, ops := range [][]Op{{{Kind: OpDelete, Key: "b", Type: typ}}, {{Kind: OpPut, Key: "k"}, {Kind: OpDelete, Key: "b", Type: typ}}} {
			_, _, err := n.r.Execute(noon, ops)
			var refused *OpError
			if !errors.Is(err, ErrUndeletable) || !errors.As(err, &refused) || refused.Index != len(ops)-1 || fingerprint(n) != before {
				t.Errorf("%+v: %v", ops, err)
			}
		}
	}
	if out, deltas := do(t, n.r, Op{Kind: OpDelete, Key: "absent", Type: crdt.TypeBoundedCounter}); out.Existed || len(deltas) != 0 {
		t.Errorf("an absent one: %+v, %v", out, deltas)
	}
}

// TestAcknowledgedDeleteTakesWhatCanGo: it cannot be refused any more.
func TestAcknowledgedDeleteTakesWhatCanGo(t *testing.T) {
	n := newNode(1)
	do(t, n.r, Op{Kind: OpBoundedInc, Key: "b", Delta: 9})
	do(t, n.r, Op{Kind: OpPut, Key: "b", Value: []byte("x"), AnyType: true})
	out, deltas := do(t, n.r, Op{Kind: OpDelete, Key: "b", AnyType: true})
	if len(deltas) != 1 || len(deltas[0].Effects) != 1 || !out.Existed {
		t.Errorf("%+v, %v", out, deltas)
	}
	o, found, err := n.r.Lookup("", "b", noon)
	if err != nil || !found || o.Type != crdt.TypeBoundedCounter || o.Counter != 9 {
		t.Errorf("%+v, %v, %v", o, found, err)
	}
	if out, deltas := do(t, n.r, Op{Kind: OpDelete, Key: "b", AnyType: true}); len(deltas) != 0 || out.Version == "" {
		t.Errorf("nothing to take: %+v, %v", out, deltas)
	}
}

func TestBoundedCounterRefuses(t *testing.T) {
	n := newNode(1)
	do(t, n.r, Op{Kind: OpBoundedInc, Key: "b", Delta: 9})
	before := fingerprint(n)
	var few *crdt.InsufficientRightsError
	for _, kind := range []OpKind{OpBoundedInc, OpBoundedDec, OpBoundedTransfer} {
		if _, _, err := n.r.Execute(noon, []Op{{Kind: kind, Key: "b", Delta: 0, ToActor: 2}}); !errors.Is(err, crdt.ErrAmount) {
			t.Errorf("kind %d of nothing: %v", kind, err)
		}
		if _, _, err := n.r.Execute(noon, []Op{{Kind: kind, Key: "b", Delta: 10, ToActor: 2}}); kind != OpBoundedInc && (!errors.As(err, &few) || few.Have != 9) {
			t.Errorf("kind %d of too much: %v", kind, err)
		}
		if kind == OpBoundedInc {
			do(t, n.r, Op{Kind: OpBoundedDec, Key: "b", Delta: 10})
			before = fingerprint(n)
		}
	}
	if _, _, err := n.r.Execute(noon, []Op{{Kind: OpBoundedTransfer, Key: "b", Delta: 1}}); !errors.Is(err, ErrInvalidOperation) {
		t.Errorf("to nobody: %v", err)
	}
	if _, _, err := n.r.Execute(noon, []Op{{Kind: OpBoundedInc, Key: "b", Delta: 1<<63 - 1}}); !errors.Is(err, crdt.ErrCounterOverflow) {
		t.Errorf("overflow: %v", err)
	}
	if _, _, err := n.r.Execute(noon, []Op{{Kind: OpBoundedDec, Key: "absent", Delta: 1}}); !errors.As(err, &few) || few.Have != 0 {
		t.Errorf("an absent one: %v", err)
	}
	if out, deltas := do(t, n.r, Op{Kind: OpBoundedTransfer, Key: "b", Delta: 1, ToActor: 1}); len(deltas) != 0 || out.Counter != 9 {
		t.Errorf("to itself: %+v, %v", out, deltas)
	}
	if fingerprint(n) != before {
		t.Error("a refused operation changed the replica")
	}
}

func TestExtremesKeepWhatADeleteDoesNotSee(t *testing.T) {
	a, b := newNode(1), newNode(2)
	_, high := do(t, a.r, Op{Kind: OpMax, Key: "m", Delta: 9})
	merge(t, b.r, high...)
	_, deleted := do(t, b.r, Op{Kind: OpDelete, Key: "m"})
	_, low := do(t, b.r, Op{Kind: OpMax, Key: "m", Delta: 2})
	merge(t, a.r, append(deleted, low...)...)
	for _, n := range []*node{a, b} {
		o, found, err := n.r.Lookup("", "m", noon)
		if err != nil || !found || o.Counter != 2 || o.Type != crdt.TypeMaxRegister || o.Version != "2.2" {
			t.Errorf("%+v, %v, %v", o, found, err)
		}
	}
	explained, err := a.r.Explain("", "m")
	if err != nil || len(explained) != 1 || explained[0].Size != 2 {
		t.Fatalf("%+v, %v", explained, err)
	}
	values := []string{explained[0].Parts[0].Value, explained[0].Parts[1].Value}
	if !slices.Equal(values, []string{"2", "deleted"}) || explained[0].Parts[0].Hidden || !explained[0].Parts[1].Hidden {
		t.Errorf("%+v", explained[0].Parts)
	}
}

func TestBoundedCounterExplains(t *testing.T) {
	n := newNode(1)
	do(t, n.r, Op{Kind: OpBoundedInc, Key: "b", Delta: 9})
	do(t, n.r, Op{Kind: OpBoundedTransfer, Key: "b", Delta: 4, ToActor: 3})
	do(t, n.r, Op{Kind: OpBoundedDec, Key: "b", Delta: 2})
	e, err := n.r.Explain("", "b")
	if err != nil || len(e) != 1 || len(e[0].Parts) != 2 {
		t.Fatalf("%+v, %v", e, err)
	}
	if p := e[0].Parts[0]; p.Value != "may take 3: added 9, took 2, gave 4, was given 0" || !slices.Equal(p.Dots, crdt.DotSet{{Actor: 1, Seq: 3}}) {
		t.Errorf("%+v", p)
	}
	if p := e[0].Parts[1]; p.Value != "may take 4: added 0, took 0, gave 0, was given 4" || !slices.Equal(p.Dots, crdt.DotSet{{Actor: 3}}) {
		t.Errorf("%+v", p)
	}
}

func badWhole(t crdt.Type, encoding ...byte) badDelta {
	return func(d *Delta) {
		e := Effect{Key: "k", Type: t}
		switch t {
		case crdt.TypeBoundedCounter:
			c, err := crdt.DecodeBoundedCounter(encoding)
			if err != nil {
				panic(err)
			}
			e.Change = &wholeChange[crdt.BoundedCounter, *crdt.BoundedCounter, boundedType]{c}
		default:
			r, err := crdt.DecodeMaxRegister(encoding)
			if err != nil {
				panic(err)
			}
			e.Change = &wholeChange[crdt.MaxRegister, *crdt.MaxRegister, maxType]{r}
		}
		d.Effects = []Effect{e}
	}
}

// TestWholeChangesAreRefused: the delta that changes are in is 2.2, its time right after noon.
func TestWholeChangesAreRefused(t *testing.T) {
	extreme := func(deleted, by uint64, writes ...uint64) badDelta { // writes are (time, actor) with value 1
		b := []byte{1, 0}
		if deleted != 0 || by != 0 {
			b = []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, byte(deleted), byte(by)}
			putTime(b[2:], deleted)
		}
		for i := 0; i < len(writes); i += 2 {
			w := []byte{0, 0, 0, 0, 0, 0, 0, 0, byte(writes[i+1]), byte(100 - 2*i)}
			putTime(w, writes[i])
			b = append(b, w...)
		}
		return badWhole(crdt.TypeMaxRegister, b...)
	}
	now := uint64(noon) + 1
	for name, c := range map[string]struct {
		change badDelta
		good   bool
	}{
		"a row":                  {badWhole(crdt.TypeBoundedCounter, 1, 2, 2, 5, 0, 0), true},
		"no row":                 {badWhole(crdt.TypeBoundedCounter, 1), false},
		"another's row":          {badWhole(crdt.TypeBoundedCounter, 1, 3, 2, 5, 0, 0), false},
		"another event's row":    {badWhole(crdt.TypeBoundedCounter, 1, 2, 1, 5, 0, 0), false},
		"rows":                   {badWhole(crdt.TypeBoundedCounter, 1, 2, 2, 5, 0, 0, 3, 2, 5, 0, 0), false},
		"a write":                {extreme(0, 0, now, 2), true},
		"a write after a delete": {extreme(now-5, 3, now, 2), true},
		"a delete":               {extreme(now, 2), true},
		"nothing":                {extreme(0, 0), false},
		"another's delete":       {extreme(now, 3), false},
		"an earlier delete":      {extreme(now-1, 2), false},
		"another's write":        {extreme(0, 0, now, 3), false},
		"a write of before":      {extreme(0, 0, now-1, 2), false},
		"two writes":             {extreme(0, 0, now-1, 2, now, 2), false},
		"deleted just before":    {extreme(now, 1, now, 2), false},
		"a delete at no time":    {extreme(0, 3, now, 2), false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(1)
			merge(t, n.r, Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: noon})
			d := Delta{Dot: crdt.Dot{Actor: 2, Seq: 2}, Time: noon + 1}
			c.change(&d)
			_, decodeErr := DecodeDelta(EncodeDelta(d))
			_, err := n.r.Merge(2, []Delta{d})
			var bad *BadDeltaError
			if errors.As(err, &bad) == c.good || errors.Is(decodeErr, crdt.ErrCorrupt) == c.good {
				t.Errorf("merge: %v, decode: %v", err, decodeErr)
			}
		})
	}
}

func putTime(b []byte, t uint64) {
	for i := range 8 {
		b[i] = byte(t >> (56 - 8*i))
	}
}

// TestBoundedCounterIsNeverShownBelowZero: a taking arrives before the gift that allowed it, and before
// what was given was added.
func TestBoundedCounterIsNeverShownBelowZero(t *testing.T) {
	a, b, c := newNode(1), newNode(2), newNode(3)
	_, added := do(t, a.r, Op{Kind: OpBoundedInc, Key: "b", Delta: 5})
	_, given := do(t, a.r, Op{Kind: OpBoundedTransfer, Key: "b", Delta: 5, ToActor: 2})
	merge(t, b.r, append(added, given...)...)
	_, taken := do(t, b.r, Op{Kind: OpBoundedDec, Key: "b", Delta: 4})
	merge(t, c.r, taken...)
	o, found, err := c.r.Lookup("", "b", noon)
	if err != nil || !found || o.Counter != 0 || o.Bounded.Value() != -4 {
		t.Errorf("%+v, %v, %v", o, found, err)
	}
	merge(t, c.r, append(added, given...)...)
	if o, _, err := c.r.Lookup("", "b", noon); err != nil || o.Counter != 1 || o.Bounded.Rights(2) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
}
