package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

const noon = hlc.Time(1 << 32)

func open(t testing.TB, kv KV, self crdt.Actor) *Replica {
	t.Helper()
	r, err := Open(kv, self)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// do executes one operation that is not refused.
func do(t testing.TB, r *Replica, op Op) (Outcome, []Delta) {
	t.Helper()
	outcomes, deltas, err := r.Execute(noon, []Op{op})
	if err != nil {
		t.Fatal(err)
	}
	return outcomes[0], deltas
}

func merge(t testing.TB, r *Replica, deltas ...Delta) {
	t.Helper()
	if _, err := r.Merge(deltas[0].Dot.Actor, deltas); err != nil {
		t.Fatal(err)
	}
}

func setOp(kind OpKind, elements ...string) Op {
	op := Op{Kind: kind, Key: "s"}
	for _, e := range elements {
		op.Elements = append(op.Elements, []byte(e))
	}
	return op
}

func members(t testing.TB, r *Replica) []string {
	t.Helper()
	m, _, err := r.SetMembers("", "s", nil, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return texts(m)
}

// TestRemoveOvertakesItsAdd delivers a remove before the adds of a third region that it observed, with
// a copy of the storage taken in between: the copy must know of the removal as well. The adds then
// arrive one by one: the first must not make the replica forget that the second was removed.
func TestRemoveOvertakesItsAdd(t *testing.T) {
	for _, c := range []struct {
		name   string
		remove Op
		want   []string
	}{
		{"remove", setOp(OpSetRemove, "x", "y"), nil},
		{"clear", setOp(OpSetClear), nil},
		{"add", setOp(OpSetAdd, "x", "y"), []string{"x", "y"}},
		{"delete", Op{Kind: OpDelete, Key: "s"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
			kv := NewMemory()
			target := open(t, kv, 3)
			_, x := do(t, a, setOp(OpSetAdd, "x"))
			_, y := do(t, a, setOp(OpSetAdd, "y"))
			merge(t, b, x[0], y[0])
			_, remove := do(t, b, c.remove)
			merge(t, target, remove...)
			if err := target.Flush(); err != nil {
				t.Fatal(err)
			}
			copied := open(t, kv.Clone(), 3)
			for _, r := range []*Replica{target, copied} {
				merge(t, r, x...)
				if got := members(t, r); !slices.Equal(got, c.want) {
					t.Errorf("members %q, want %q", got, c.want)
				}
				merge(t, r, y...)
				if got := members(t, r); !slices.Equal(got, c.want) {
					t.Errorf("members %q, want %q", got, c.want)
				}
				if r.meta.preremovals != 0 || r.meta.deferred != 0 {
					t.Errorf("residue: %+v", r.meta)
				}
			}
			if c.want != nil { // one surviving add each, not two
				e, err := target.Explain("", "s")
				if err != nil || len(e) != 1 || len(e[0].Elements[0].Dots) != 1 {
					t.Errorf("explain %+v, %v", e, err)
				}
			}
		})
	}
}

// TestResurrectionThroughAThird is the history of riak_dt issue 82 with deltas, in all orders of
// delivery to a fourth region that its authors' order allows.
func TestResurrectionThroughAThird(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	_, addA := do(t, a, setOp(OpSetAdd, "x"))
	_, addB := do(t, b, setOp(OpSetAdd, "x"))
	_, remA := do(t, a, setOp(OpSetRemove, "x"))
	merge(t, a, addB...)
	_, remB := do(t, b, setOp(OpSetRemove, "x"))
	for _, order := range [][]Delta{
		{addA[0], remA[0], addB[0], remB[0]}, {addA[0], addB[0], remA[0], remB[0]}, {addA[0], addB[0], remB[0], remA[0]},
		{addB[0], remB[0], addA[0], remA[0]}, {addB[0], addA[0], remB[0], remA[0]}, {addB[0], addA[0], remA[0], remB[0]},
	} {
		c := open(t, NewMemory(), 3)
		for _, d := range order {
			merge(t, c, d)
		}
		if got := members(t, c); len(got) > 0 {
			t.Errorf("members %q", got)
		}
	}
}

func TestOpenKeepsWhatIsThere(t *testing.T) {
	kv := NewMemory()
	r := open(t, kv, 7)
	do(t, r, Op{Kind: OpPut, Key: "k", Value: []byte("v")})
	if err := r.Flush(); err != nil {
		t.Fatal(err)
	}
	again := open(t, kv, 9)
	if again.Self() != 7 || again.Seq() != 1 || again.LastHLC() != noon || again.HLCOf(7) != noon || !again.Vector().Equal(r.Vector()) {
		t.Errorf("reopened as %+v", again.meta)
	}
	for name, damage := range map[string]func(kv *Memory) error{
		"meta is gone":      func(kv *Memory) error { return kv.Delete(metaKey()) },
		"meta is truncated": func(kv *Memory) error { return kv.Put(metaKey(), []byte{1, 7}) },
		"meta is newer":     func(kv *Memory) error { return kv.Put(metaKey(), []byte{9}) },
	} {
		c := kv.Clone()
		if err := damage(c); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(c, 7); !errors.Is(err, crdt.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTypesCreatedConcurrently: regions that create different types under one key keep both.
func TestTypesCreatedConcurrently(t *testing.T) {
	a, b := newNode(1), newNode(2)
	_, put := do(t, a.r, Op{Kind: OpPut, Key: "k", Value: []byte("v")})
	_, add := do(t, b.r, Op{Kind: OpCounterAdd, Key: "k", Delta: 5})
	merge(t, a.r, add...)
	merge(t, b.r, put...)
	for _, n := range []*node{a, b} {
		lookupTypes(t, n)
	}
	testTypesTogether(t, a.r)
}

func lookupTypes(t *testing.T, n *node) {
	t.Helper()
	o, ok, err := n.r.Lookup("", "k", noon)
	if err != nil || !ok || o.Type != crdt.TypeLWWRegister || string(o.Value) != "v" {
		t.Errorf("lookup %+v, %v, %v", o, ok, err)
	}
	c, ok, err := n.r.LookupType("", "k", crdt.TypeCounter, noon)
	if err != nil || !ok || c.Counter != 5 {
		t.Errorf("lookup of the counter %+v, %v, %v", c, ok, err)
	}
	var walked []Object
	err = n.r.Walk("", "", "", noon, func(o Object) (bool, error) {
		walked = append(walked, o)
		return true, nil
	})
	if err != nil || len(walked) != 1 || walked[0].Type != crdt.TypeLWWRegister {
		t.Errorf("walk %+v, %v", walked, err)
	}
	if e, err := n.r.Explain("", "k"); err != nil || len(e) != 2 || e[0].Type != crdt.TypeLWWRegister || e[1].Counter.Value() != 5 {
		t.Errorf("explain %+v, %v", e, err)
	}
}

// testTypesTogether takes a key that holds a register and a counter.
func testTypesTogether(t *testing.T, r *Replica) {
	t.Helper()
	// Both types go on working, a third is refused, and an untyped delete clears all.
	do(t, r, Op{Kind: OpCounterAdd, Key: "k", Delta: 1})
	do(t, r, Op{Kind: OpPut, Key: "k", Value: []byte("w")})
	var wrongType *WrongTypeError
	if _, _, err := r.Execute(noon, []Op{{Kind: OpSetClear, Key: "k"}}); !errors.As(err, &wrongType) || wrongType.Found != crdt.TypeLWWRegister {
		t.Errorf("%v", err)
	}
	outcome, deltas := do(t, r, Op{Kind: OpDelete, Key: "k"})
	if !outcome.Existed || len(deltas) != 1 || len(deltas[0].Effects) != 2 {
		t.Errorf("%+v, %+v", outcome, deltas)
	}
	if _, ok, _ := r.Lookup("", "k", noon); ok {
		t.Error("still there")
	}
}

func TestExpiry(t *testing.T) {
	n := newNode(1)
	op := Op{Kind: OpPut, Key: "k", Value: []byte("v"), Expires: noon + 10}
	first, _ := do(t, n.r, op)
	for now, want := range map[hlc.Time]bool{0: true, noon + 9: true, noon + 10: false} {
		if _, ok, err := n.r.Lookup("", "k", now); err != nil || ok != want {
			t.Errorf("at %v: %v, %v", now, ok, err)
		}
	}
	outcomes, deltas, err := n.r.Execute(noon+10, []Op{
		{Kind: OpDelete, Key: "k"}, // deletes nothing
		{Kind: OpPut, Key: "k", Condition: Condition{Kind: CondAbsent}},
	})
	if err != nil || len(deltas) != 1 || outcomes[0] != (Outcome{}) || outcomes[1].Existed || outcomes[1].Version == first.Version {
		t.Errorf("%+v, %+v, %v", outcomes, deltas, err)
	}
	// A reader whose clock is behind does not see what had expired for the events here.
	do(t, n.r, op)
	do(t, n.r, Op{Kind: OpPut, Key: "other"})
	if n.r.LastHLC() <= noon+10 {
		t.Fatalf("last instant %v", n.r.LastHLC())
	}
	if _, ok, _ := n.r.Lookup("", "k", 0); ok {
		t.Error("expired value came back")
	}
}

// TestWildClock: what a replica with a wild clock issues can still be merged, and its times still rise.
func TestWildClock(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	for _, now := range []hlc.Time{5, 0, maxTime - 9, 7, maxTime - 3} {
		_, deltas, err := a.Execute(now, []Op{{Kind: OpPut, Key: "k"}})
		if err != nil || deltas[0].Time < min(now, maxTime) {
			t.Fatalf("%v, %v", deltas, err)
		}
		if d, err := DecodeDelta(EncodeDelta(deltas[0])); err != nil {
			t.Fatal(err)
		} else {
			merge(t, b, d)
		}
	}
	_, deltas, err := open(t, NewMemory(), 3).Execute(^hlc.Time(0), []Op{{Kind: OpPut, Key: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	merge(t, b, deltas...)
}

func TestNamesWithZeroBytesSortAsTheyAre(t *testing.T) {
	n := newNode(1)
	keys := []string{"a", "a\x00", "a\x00\x00", "a\x00\x01", "a\x00\xff", "a\x01", "aa", "a\xff", "b"}
	for i, k := range keys {
		for _, namespace := range []string{"", "a", "a\x00"} {
			do(t, n.r, Op{Kind: OpPut, Namespace: namespace, Key: k, Value: fmt.Append(nil, namespace, i)})
		}
	}
	for _, namespace := range []string{"", "a", "a\x00"} {
		for i, start := range keys {
			for j, end := range append(slices.Clone(keys), "") {
				var got []string
				err := n.r.Walk(namespace, start, end, noon, func(o Object) (bool, error) {
					if want := fmt.Append(nil, namespace, slices.Index(keys, o.Key)); !bytes.Equal(o.Value, want) || o.Namespace != namespace {
						t.Errorf("%q holds %q, want %q", o.Key, o.Value, want)
					}
					got = append(got, o.Key)
					return true, nil
				})
				if want := keys[i:max(i, j)]; err != nil || !slices.Equal(got, want) {
					t.Errorf("walk of %q from %q to %q: %q, want %q, %v", namespace, start, end, got, want, err)
				}
			}
		}
	}
	stop := errors.New("enough")
	if err := n.r.Walk("", "", "", noon, func(Object) (bool, error) { return true, stop }); !errors.Is(err, stop) {
		t.Errorf("walk returns %v", err)
	}
}

func TestSetReads(t *testing.T) {
	n := newNode(1)
	do(t, n.r, setOp(OpSetAdd, "a", "a\x00", "b", "\xff\xff", "b"))
	page, more, err := n.r.SetMembers("", "s", nil, 2, 100)
	if err != nil || !more || !slices.Equal(texts(page), []string{"a", "a\x00"}) {
		t.Errorf("%q, %v, %v", page, more, err)
	}
	page, more, err = n.r.SetMembers("", "s", page[1], 2, 100)
	if err != nil || more || !slices.Equal(texts(page), []string{"b", "\xff\xff"}) {
		t.Errorf("%q, %v, %v", page, more, err)
	}
	page, more, err = n.r.SetMembers("", "s", nil, 9, 1)
	if err != nil || !more || !slices.Equal(texts(page), []string{"a"}) {
		t.Errorf("%q, %v, %v", page, more, err)
	}
	has, err := n.r.SetContains("", "s", [][]byte{[]byte("b"), nil, []byte("c")})
	if err != nil || !slices.Equal(has, []bool{true, false, false}) {
		t.Errorf("%v, %v", has, err)
	}
	if has, err := n.r.SetContains("", "none", [][]byte{[]byte("b")}); err != nil || has[0] {
		t.Errorf("%v, %v", has, err)
	}
}

// TestStorageFailures: an error of the storage comes through as it is, never as a refusal.
func TestStorageFailures(t *testing.T) {
	broken := errors.New("broken")
	for after := range 80 {
		n := newNode(1)
		do(t, n.r, setOp(OpSetAdd, "a", "b"))
		if err := n.r.Flush(); err != nil {
			t.Fatal(err)
		}
		kv := &failing{KV: n.kv, left: after, err: broken}
		r, err := Open(kv, 1)
		if err == nil {
			_, _, err = r.Execute(noon, []Op{setOp(OpSetAdd, "c"), setOp(OpSetRemove, "a"), setOp(OpSetClear), {Kind: OpCounterAdd, Key: "c"},
				zsetOp(OpZSetAdd, 1, "m"), zsetOp(OpZSetIncr, 1, "m"), zsetOp(OpZSetRemove, 0, "m"), {Kind: OpDelete, Key: "z"}})
		}
		if err == nil {
			_, err = r.Merge(2, []Delta{{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: noon + 9}})
		}
		if err == nil {
			err = r.Flush()
		}
		var refused *OpError
		if kv.left >= 0 && err == nil {
			if after < 10 {
				t.Fatalf("all is done after %d calls", after)
			}
			return
		}
		if !errors.Is(err, broken) || errors.As(err, &refused) {
			t.Errorf("call %d: %v", after, err)
		}
	}
	t.Error("the calls never end")
}

// failing is a KV that fails after some calls.
type failing struct {
	KV
	left int
	err  error
}

func (f *failing) step() error {
	if f.left--; f.left < 0 {
		return f.err
	}
	return nil
}

func (f *failing) Get(key []byte) ([]byte, bool, error) {
	if err := f.step(); err != nil {
		return nil, false, err
	}
	return f.KV.Get(key)
}

func (f *failing) Put(key, value []byte) error { return errors.Join(f.step(), f.KV.Put(key, value)) }
func (f *failing) Delete(key []byte) error     { return errors.Join(f.step(), f.KV.Delete(key)) }
func (f *failing) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	if err := f.step(); err != nil {
		return err
	}
	return f.KV.Scan(start, end, visit)
}
