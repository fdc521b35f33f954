package replica

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// everyType has an operation on a value of each type, which changes one that is there, too. n makes it another one.
func everyType(t testing.TB, key string, n int) map[crdt.Type]Op {
	t.Helper()
	path, err := crdt.NewPath("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	element := [][]byte{fmt.Append(nil, "e", n)}
	ops := map[crdt.Type]Op{
		crdt.TypeLWWRegister:    {Kind: OpPut, Value: []byte("v")},
		crdt.TypeCounter:        {Kind: OpCounterAdd, Delta: 1},
		crdt.TypeAWSet:          {Kind: OpSetAdd, Elements: element},
		crdt.TypeMVRegister:     {Kind: OpMVPut, Value: []byte("v")},
		crdt.TypeBoundedCounter: {Kind: OpBoundedInc, Delta: 1},
		crdt.TypeEWFlag:         {Kind: OpFlagEnable},
		crdt.TypeMaxRegister:    {Kind: OpMax, Delta: int64(n)},
		crdt.TypeMinRegister:    {Kind: OpMin, Delta: int64(-n)},
		crdt.TypeLWWMap:         {Kind: OpMapPut, Elements: element, Values: [][]byte{[]byte("v")}},
		crdt.TypeORMap:          {Kind: OpPut, Path: path, Value: []byte("v")},
		crdt.TypeZSet:           {Kind: OpZSetAdd, Type: crdt.TypeZSet, Elements: element, Score: 1},
		crdt.TypeCounterZSet:    {Kind: OpZSetAdd, Type: crdt.TypeCounterZSet, Elements: element, Score: 1},
		crdt.TypeHLL:            {Kind: OpHLLAdd, Elements: element},
		crdt.TypeTimeline:       {Kind: OpTimelineAdd, Value: []byte("v")},
	}
	for of, op := range ops {
		op.Namespace, op.Key = "n", fmt.Sprint(key, " ", of)
		ops[of] = op
	}
	return ops
}

func doAt(t testing.TB, r *Replica, at hlc.Time, op Op) []Delta {
	t.Helper()
	_, deltas, err := r.Execute(at, []Op{op})
	if err != nil {
		t.Fatalf("%v of a %v: %v", op.Kind, op.Type, err)
	}
	return deltas
}

// allFuture reads all pages of a query, and checks their bounds.
func allFuture(t testing.TB, r *Replica, q FutureQuery) (values []FutureValue, undated uint64) {
	t.Helper()
	inside := 0
	for pages := 0; ; pages++ {
		page, err := r.Future(q)
		if err != nil || pages > 10_000 {
			t.Fatalf("page %d: %v", pages, err)
		}
		if len(page.Values) > q.Values {
			t.Fatalf("a page of %d values, not %d", len(page.Values), q.Values)
		}
		values, undated = append(values, page.Values...), undated+page.Undated
		if page.Next.End {
			if q.Items == 1 && inside == 0 {
				t.Error("no page of one item ended inside a value")
			}
			return values, undated
		}
		inside += len(page.Next.Element)
		if page.Next.Compare(q.From) <= 0 {
			t.Fatalf("the next page begins at %v, this one began at %v", page.Next, q.From)
		}
		q.From = page.Next
	}
}

var everything = FutureQuery{Own: ^uint64(0), Values: 1 << 20, Items: 1 << 20, Bytes: 1 << 30}

func namesOf(values []FutureValue) []string {
	names := map[string]bool{}
	for _, v := range values {
		names[v.Key] = true
	}
	return sortedKeys(names)
}

func sortedKeys(m map[string]bool) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// withoutInstants are the types of which only the names of events are kept.
var withoutInstants = map[crdt.Type]bool{
	crdt.TypeCounter: true, crdt.TypeAWSet: true, crdt.TypeBoundedCounter: true, crdt.TypeCounterZSet: true,
}

// Of each type one value is from the past and another one from the future. The latter is found, with its instant and event,
// where it was made and elsewhere, but by nobody who asks for what is later.
func TestFutureFindsEveryType(t *testing.T) {
	for of := crdt.TypeLWWRegister; of.Valid(); of++ {
		wantUndated := uint64(0)
		if withoutInstants[of] {
			wantUndated = 1 // the one from the past
		}
		poisoned, other := open(t, NewMemory(), 2), open(t, NewMemory(), 3)
		merge(t, other, doAt(t, poisoned, noon, everyType(t, "past", 1)[of])...)
		d := doAt(t, poisoned, noon+5000, everyType(t, "future", 2)[of])
		merge(t, other, d...)
		for name, r := range map[string]*Replica{"its author": poisoned, "another": other} {
			q := everything
			q.After = d[0].Time - 1
			values, undated := allFuture(t, r, q)
			if len(values) != 1 || undated != wantUndated {
				t.Errorf("%v: %s finds %+v and %d undated", of, name, values, undated)
				continue
			}
			checkFound(t, name, &values[0], of, &d[0])
		}
		merge(t, other, doAt(t, poisoned, noon+9000, Op{Kind: OpPut, Key: "later"})...)
		q := everything
		q.After = d[0].Time
		if values, _ := allFuture(t, other, q); len(values) != 1 || values[0].Key != "later" {
			t.Errorf("%v: found %+v at the bound", of, values)
		}
		if of == crdt.TypeMaxRegister || of == crdt.TypeMinRegister || of == crdt.TypeHLL {
			continue // it is not kept which event it was
		}
		q.After, q.Own = noon+100, 1 // the events are elsewhere
		if values, undated := allFuture(t, poisoned, q); len(values) != 0 || undated != wantUndated {
			t.Errorf("%v: found %+v of events that were to be left out", of, values)
		}
	}
}

// checkFound checks what is found of a value of a type that an event has changed.
func checkFound(t *testing.T, who string, v *FutureValue, of crdt.Type, d *Delta) {
	t.Helper()
	if v.Name != (Name{Namespace: "n", Key: fmt.Sprint("future ", of), Type: of}) || v.At != d.Time || v.Dot != d.Dot {
		t.Errorf("%v: %s finds %+v of %v", of, who, v, d)
	}
	if (v.Register != nil) != (of == crdt.TypeLWWRegister) || !slices.Contains(v.Last, d.Dot) {
		t.Errorf("%v: %s finds %+v", of, who, v)
	}
}

// What leaves a trace when it is deleted, or told when to expire, is found by that.
func TestFutureFindsDeletes(t *testing.T) {
	traceless := map[crdt.Type]bool{crdt.TypeAWSet: true, crdt.TypeMVRegister: true, crdt.TypeEWFlag: true, crdt.TypeCounter: true, crdt.TypeCounterZSet: true}
	for of := crdt.TypeLWWRegister; of.Valid(); of++ {
		a := open(t, NewMemory(), 2)
		op := everyType(t, "k", 1)[of]
		doAt(t, a, noon, op)
		q := everything
		if hasDeadline(of) {
			q.After = doAt(t, a, noon+1000, Op{Kind: OpExpire, Namespace: "n", Key: op.Key, Expires: noon + 1<<40})[0].Time - 1
			if values, _ := allFuture(t, a, q); len(values) != 1 || values[0].Name.Type != of {
				t.Errorf("the deadline of a %v: %+v", of, values)
			}
		}
		if of == crdt.TypeBoundedCounter {
			continue
		}
		q.After = doAt(t, a, noon+2000, Op{Kind: OpDelete, Namespace: "n", Key: op.Key})[0].Time - 1
		values, _ := allFuture(t, a, q)
		if found := len(values) > 0; !found && !traceless[of] {
			t.Errorf("the delete of a %v is not found", of)
		}
		for _, v := range values {
			if v.Type != of || v.At <= q.After {
				t.Errorf("the delete of a %v: %+v", of, v)
			}
		}
	}
}

// An event of which no instant is kept is judged by its actor's others: with the clock right again, or the last one's.
func TestFutureOfEventsWithoutInstants(t *testing.T) {
	a, b := open(t, NewMemory(), 2), open(t, NewMemory(), 3)
	add := func(key string, at hlc.Time) {
		merge(t, b, doAt(t, a, at, Op{Kind: OpCounterAdd, Key: key, Delta: 1})...)
	}
	add("past", noon)
	add("first", noon+5000)
	add("last", noon+6000)
	doAt(t, b, noon+7000, Op{Kind: OpCounterAdd, Key: "past", Delta: 1}) // b is as far ahead by now
	q := everything
	q.After, q.Own = noon+100, 0
	values, undated := allFuture(t, b, q)
	if got := namesOf(values); !slices.Equal(got, []string{"last"}) || undated != 2 {
		t.Errorf("found %v, and %d that are not known", got, undated)
	}
}

// Pages of any size add up to what one page has, also in the middle of large collections; every value is found that was
// written from the future, and none else.
func TestFutureInPages(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a, b := open(t, NewMemory(), 2), open(t, NewMemory(), 3)
	want := map[string]bool{}
	dated := []crdt.Type{crdt.TypeLWWRegister, crdt.TypeLWWMap, crdt.TypeZSet, crdt.TypeTimeline, crdt.TypeORMap, crdt.TypeMVRegister}
	at := noon
	const events, future = 2000, 1500
	for i := range events {
		at += 10
		of := dated[rng.IntN(len(dated))]
		op := everyType(t, fmt.Sprint(rng.IntN(4)), i)[of]
		op.Key = fmt.Sprint(op.Key, rng.IntN(3))
		d := doAt(t, a, at, op)
		if merge(t, b, d...); i >= future {
			want[op.Key] = true
		}
	}
	q := everything
	q.After = noon + future*10
	for _, r := range []*Replica{a, b} {
		for _, size := range []struct{ values, items, bytes int }{
			{1 << 20, 1 << 20, 1 << 30}, {1, 1 << 20, 1 << 30}, {7, 1 << 20, 1 << 30}, {1000, 1, 1 << 30}, {1000, 37, 1 << 30}, {1000, 1 << 20, 100},
		} {
			q.Values, q.Items, q.Bytes = size.values, size.items, size.bytes
			values, undated := allFuture(t, r, q)
			if got := namesOf(values); !slices.Equal(got, sortedKeys(want)) || undated > 0 {
				t.Errorf("pages of %+v: %v, %d undated; want %v", size, got, undated, sortedKeys(want))
			}
		}
	}
}

// An actor has seen what it told of, and what it made; that it is gone tells nothing.
func TestSawIsWhatWasTold(t *testing.T) {
	a, b, c := open(t, NewMemory(), 1), open(t, NewMemory(), 2), open(t, NewMemory(), 3)
	_, first := do(t, a, Op{Kind: OpPut, Key: "k"})
	merge(t, b, first...)
	merge(t, c, first...)
	_, second := do(t, b, Op{Kind: OpPut, Key: "l"})
	_, third := do(t, a, Op{Kind: OpPut, Key: "m"})
	merge(t, c, second...)
	merge(t, c, third...)
	c.UseReleased(map[crdt.Actor]uint64{2: 1})
	for _, s := range []struct {
		by    crdt.Actor
		event crdt.Dot
		want  bool
	}{
		{2, first[0].Dot, true}, {2, second[0].Dot, true}, {2, third[0].Dot, false}, {1, second[0].Dot, false},
		{1, third[0].Dot, true}, {1, crdt.Dot{Actor: 1, Seq: 3}, false}, {9, first[0].Dot, false},
	} {
		if got := c.Saw(s.by, s.event); got != s.want {
			t.Errorf("%d saw %v: %v", s.by, s.event, got)
		}
	}
	if !c.Knows(2, third[0].Dot) {
		t.Error("the actor is not gone")
	}
}
