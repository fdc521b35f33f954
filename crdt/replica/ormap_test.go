package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// leafOp makes an operation one of the leaf at a path of the map "m".
func leafOp(op Op, names ...string) Op {
	op.Key, op.Path = "m", leafPath(names...)
	return op
}

func leafAdd(n int64, names ...string) Op { return leafOp(Op{Kind: OpCounterAdd, Delta: n}, names...) }

func removeBelow(names ...string) Op {
	op := Op{Kind: OpORMapRemove, Key: "m"}
	if len(names) > 0 {
		op.Path = leafPath(names...)
	}
	return op
}

// leafValues returns the leaves at a path, written as the specification does.
func leafValues(t testing.TB, r *Replica, key string, names ...string) []string {
	t.Helper()
	p := leafPath(names...)
	leaves, err := r.ORMapLeaves("", key, p, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for i := range leaves {
		values = append(values, fmt.Sprint(leaves[i].Type, " ", leaves[i].Counter, " ", string(leaves[i].Value)))
	}
	return values
}

// goldenORMap are what a replica makes of operations on leaves.
func goldenORMap(t testing.TB) ([]string, []Delta) {
	t.Helper()
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 65)
	var names []string
	var deltas []Delta
	for _, step := range []struct {
		name string
		op   Op
	}{
		{"leaf put", leafOp(Op{Kind: OpPut, Value: []byte("value")}, "user", "name")},
		{"leaf counter add", leafAdd(10, "user", "visits")},
		{"leaf set add", leafOp(setOp(OpSetAdd, "x"), "user", strings.Repeat("n", 200), "c", "d")},
		{"leaf delete", leafOp(Op{Kind: OpDelete}, "user", "name")},
	} {
		_, d := do(t, a, step.op)
		names, deltas = append(names, step.name), append(deltas, d...)
	}
	merge(t, b, deltas...)
	_, d := do(t, b, removeBelow("user"))
	return append(names, "remove below"), append(deltas, d...)
}

func TestRemoveOfASubtree(t *testing.T) {
	x, y := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	for _, op := range []Op{
		leafAdd(10, "user", "visits"), leafOp(setOp(OpSetAdd, "new"), "user", "tags"), leafAdd(1, "user"), leafAdd(7, "userx"),
		leafOp(Op{Kind: OpPut, Value: []byte("early")}, "user", "name"),
	} {
		_, d := do(t, x, op)
		merge(t, y, d...)
	}
	_, added := do(t, y, leafAdd(2, "user", "visits"))
	_, renamed := do(t, y, leafOp(Op{Kind: OpPut, Value: []byte("late")}, "user", "name"))
	out, removed := do(t, x, removeBelow("user"))
	if out.Changed != 4 || out.Size != 1 || !out.Existed || len(removed) != 1 || len(removed[0].Effects) != 4 {
		t.Fatalf("%+v, %d effects", out, len(removed[0].Effects))
	}
	merge(t, y, removed...)
	merge(t, x, added...)
	merge(t, x, renamed...)
	for _, r := range []*Replica{x, y} {
		if got := leafValues(t, r, "m", "user", "visits"); !slices.Equal(got, []string{"counter 2 "}) {
			t.Errorf("visits %q: what the remove had not seen must stay, and only that", got)
		}
		if got := leafValues(t, r, "m", "user", "name"); !slices.Equal(got, []string{"register 0 late"}) {
			t.Errorf("name %q", got)
		}
		if tags, user, other := leafValues(t, r, "m", "user", "tags"), leafValues(t, r, "m", "user"), leafValues(t, r, "m", "userx"); len(tags)+len(user) > 0 || len(other) != 1 {
			t.Errorf("tags %q, user %q, userx %q", tags, user, other)
		}
	}
	if out, deltas := do(t, x, removeBelow("nothing")); len(deltas) != 0 || out.Size != 3 || out.Version == "" {
		t.Errorf("remove of nothing: %+v, %d deltas", out, len(deltas))
	}
}

func TestLeafRefusals(t *testing.T) {
	r := open(t, NewMemory(), 1)
	do(t, r, leafAdd(1, "a"))
	do(t, r, Op{Kind: OpPut, Key: "r", Value: []byte("v")})
	version := func() string {
		o, _, err := r.Below(leafPath("a")).LookupType("", "m", crdt.TypeCounter, 0)
		if err != nil {
			t.Fatal(err)
		}
		return o.Version
	}()
	conditional := func(op Op, c Condition) Op { op.Condition = c; return op }
	for _, c := range []struct {
		name string
		op   Op
		want error
	}{
		{"bounded", leafOp(Op{Kind: OpBoundedInc, Delta: 1}, "b"), ErrNotInMap},
		{"expire", leafOp(Op{Kind: OpExpire, Expires: noon + 9}, "a"), ErrNotInMap},
		{"persist", leafOp(Op{Kind: OpPersist}, "a"), ErrNotInMap},
		{"map in a map", leafOp(Op{Kind: OpDelete, Type: crdt.TypeORMap}, "a"), ErrNotInMap},
		{"another key's type", Op{Kind: OpCounterAdd, Key: "r", Path: leafPath("a")}, &WrongTypeError{crdt.TypeLWWRegister}},
		{"another leaf's type", leafOp(Op{Kind: OpMax, Delta: 1}, "a"), &WrongTypeError{crdt.TypeCounter}},
		{"another type's remove", Op{Kind: OpORMapRemove, Key: "r"}, &WrongTypeError{crdt.TypeLWWRegister}},
		{"a plain write", Op{Kind: OpPut, Key: "m"}, &WrongTypeError{crdt.TypeORMap}},
		{"absent leaf", conditional(leafAdd(1, "b"), Condition{Kind: CondPresent}), &ConditionError{Kind: CondPresent}},
		{"present leaf", conditional(leafAdd(1, "a"), Condition{Kind: CondAbsent}), &ConditionError{CondAbsent, version}},
		{"value of a counter", conditional(leafAdd(1, "a"), Condition{Kind: CondValue}), ErrInvalidOperation},
	} {
		before := digestOf(t, r)
		_, _, err := r.Execute(noon, []Op{c.op})
		var wrong *WrongTypeError
		var condition *ConditionError
		switch {
		case errors.As(err, &wrong) && *wrong == deref[WrongTypeError](c.want):
		case errors.As(err, &condition) && *condition == deref[ConditionError](c.want):
		case errors.Is(err, c.want):
		default:
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if digestOf(t, r) != before {
			t.Errorf("%s changed the replica", c.name)
		}
	}
	for _, op := range []Op{
		conditional(leafAdd(1, "a"), Condition{Kind: CondVersion, Version: version}),
		conditional(leafOp(Op{Kind: OpPut, Value: []byte("x")}, "c"), Condition{Kind: CondAbsent}),
		conditional(leafOp(Op{Kind: OpPut, Value: []byte("y")}, "c"), Condition{Kind: CondValue, Value: []byte("x")}),
		{Kind: OpMax, Key: "m", Path: leafPath("a"), AnyType: true},
		{Kind: OpCounterAdd, Key: "r", Path: leafPath("a"), AnyType: true},
	} {
		if _, _, err := r.Execute(noon, []Op{op}); err != nil {
			t.Errorf("%+v: %v", op, err)
		}
	}
}

// deref returns what err points to if it is a *E.
func deref[E any](err error) (e E) {
	if p, ok := any(err).(*E); ok {
		return *p
	}
	return e
}

func digestOf(t testing.TB, r *Replica) Digest {
	t.Helper()
	d, err := r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestUntypedDeleteTakesTheMapToo deletes a key that holds values of types before and behind the map's, by
// one delta that others accept.
func TestUntypedDeleteTakesTheMapToo(t *testing.T) {
	a, b := open(t, NewMemory(), 1), open(t, NewMemory(), 2)
	for _, op := range []Op{
		leafAdd(1, "b"), leafAdd(1, "a", "b"), {Kind: OpTimelineAdd, Key: "m", AnyType: true}, {Kind: OpPut, Key: "m", AnyType: true},
	} {
		_, d := do(t, a, op)
		merge(t, b, d...)
	}
	out, d := do(t, a, Op{Kind: OpDelete, Key: "m"})
	if !out.Existed || len(d) != 1 || len(d[0].Effects) != 4 {
		t.Fatalf("%+v, %+v", out, d)
	}
	back, err := DecodeDelta(EncodeDelta(d[0]))
	if err != nil {
		t.Fatal(err)
	}
	merge(t, b, back)
	for _, r := range []*Replica{a, b} {
		if o, found, err := r.Lookup("", "m", 0); found || err != nil {
			t.Errorf("found %+v, %v", o, err)
		}
	}
}

func TestDigestHasLeaves(t *testing.T) {
	digest := func(ops ...Op) Digest {
		r := open(t, NewMemory(), 1)
		for _, op := range ops {
			do(t, r, op)
		}
		return digestOf(t, r)
	}
	one, other, top := digest(leafAdd(1, "a")), digest(leafAdd(1, "b")), digest(Op{Kind: OpCounterAdd, Key: "m", Delta: 1})
	if one.Items != 1 || one == other || one == top {
		t.Errorf("%+v, %+v, %+v", one, other, top)
	}
	if both := digest(leafOp(setOp(OpSetAdd, "x", "y"), "a"), leafAdd(1, "b")); both.Items != 3 {
		t.Errorf("%d items", both.Items)
	}
}

// TestRemovalIsBounded fills a map with one leaf more than one event can remove, and with leaves whose
// removal would be too long.
func TestRemovalIsBounded(t *testing.T) {
	r := open(t, NewMemory(), 1)
	var ops []Op
	for i := range MaxOperationElements + 1 {
		ops = append(ops, leafAdd(1, "all", fmt.Sprint("n", i%2), fmt.Sprint(i)))
	}
	if _, _, err := r.Execute(noon, ops); err != nil {
		t.Fatal(err)
	}
	before := digestOf(t, r)
	for _, op := range []Op{removeBelow(), removeBelow("all"), {Kind: OpDelete, Key: "m"}, {Kind: OpDelete, Key: "m", Type: crdt.TypeORMap}} {
		if _, _, err := r.Execute(noon, []Op{op}); !errors.Is(err, ErrChangeTooLarge) {
			t.Errorf("%+v: %v", op, err)
		}
	}
	if digestOf(t, r) != before {
		t.Error("a refused removal changed the replica")
	}
	if out, _ := do(t, r, removeBelow("all", "n1")); out.Changed != MaxOperationElements/2 {
		t.Errorf("%+v", out)
	}
	if out, _ := do(t, r, removeBelow()); out.Changed != MaxOperationElements/2+1 || out.Size != 0 {
		t.Errorf("%+v", out)
	}
	large := bytes.Repeat([]byte("e"), crdt.MaxElementBytes-2)
	for i := range 7 {
		ops = nil
		for j := range 1000 {
			ops = append(ops, Op{
				Kind: OpZSetIncr, Type: crdt.TypeCounterZSet, Key: "z", Path: leafPath(fmt.Sprint(i)), Score: 1,
				Elements: [][]byte{fmt.Appendf(large, "%03d", j)[len(large)+3-crdt.MaxElementBytes:]},
			})
		}
		if _, _, err := r.Execute(noon, ops); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := r.Execute(noon, []Op{{Kind: OpORMapRemove, Key: "z"}}); !errors.Is(err, ErrChangeTooLarge) {
		t.Errorf("removal of 7 MB: %v", err)
	}
	_, d := do(t, r, Op{Kind: OpORMapRemove, Key: "z", Path: leafPath("1")})
	if size := len(EncodeDelta(d[0])); size > maxChangeBytes {
		t.Errorf("delta of %d bytes", size)
	}
}

// TestRemovalBytes holds the bound of what a removal puts into a delta against deltas.
func TestRemovalBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	w := newLeafWorld(1, 4, false)
	for range 2000 {
		s := w.sites[rng.IntN(4)]
		op, _ := w.op(s)
		if op.Kind != OpORMapRemove && op.Kind != OpDelete {
			op.AnyType = true
			_, deltas, err := s.leader.r.Execute(noon, []Op{op})
			_, _, err2 := s.follower.r.Execute(noon, []Op{op})
			if err != nil || err2 != nil {
				continue
			}
			for _, d := range deltas {
				s.log = append(s.log, EncodeDelta(d))
			}
		}
		if err := w.deliver(s, w.sites[rng.IntN(4)], 5); err != nil {
			t.Fatal(err)
		}
	}
	r := w.sites[0].leader.r
	op := Op{Kind: OpORMapRemove, Namespace: "n", Key: "m"}
	o := &operation{Op: &op, work: r.begin(false), dot: crdt.Dot{Actor: 1, Seq: 1 << 40}, at: r.LastHLC().Next()}
	leaves, err := o.liveLeaves(crdt.Path{}, 1000)
	if err != nil || len(leaves) < 20 {
		t.Fatalf("%d leaves, %v", len(leaves), err)
	}
	bound := 64
	for _, leaf := range leaves {
		part, err := o.removal(leaf)
		if err != nil {
			t.Fatal(err)
		}
		bound += len(leaf) + part.removalBytes()
	}
	_, deltas, err := r.Execute(noon, []Op{op})
	if err != nil {
		t.Fatal(err)
	}
	if size := len(EncodeDelta(deltas[0])); size > bound || size < bound/8 {
		t.Errorf("delta of %d bytes, bound %d", size, bound)
	}
}

func TestExplainLeaves(t *testing.T) {
	r := open(t, NewMemory(), 1)
	for _, op := range []Op{
		leafAdd(3, "user", "visits"), leafOp(setOp(OpSetAdd, "x"), "user", "tags"), leafOp(Op{Kind: OpPut, Value: []byte("v")}, "user", "name"),
		leafOp(Op{Kind: OpMapPut, Elements: [][]byte{[]byte("f")}, Values: [][]byte{[]byte("w")}}, "user", "fields"),
	} {
		do(t, r, op)
	}
	do(t, r, leafOp(Op{Kind: OpDelete}, "user", "name"))
	objects, err := r.Explain("", "m")
	if err != nil || len(objects) != 1 || objects[0].Type != crdt.TypeORMap || objects[0].Size != 4 || objects[0].Version != "1.5" {
		t.Fatalf("%+v, %v", objects, err)
	}
	var said []string
	for _, p := range objects[0].Parts {
		said = append(said, fmt.Sprintf("%s: %s %v %v", p.Name, p.Value, p.Dots, p.Hidden))
	}
	want := []string{
		`user/fields map f: "w" [1.4] false`, `user/name register: removed [1.5] true`,
		`user/tags set x: added [1.2] false`, `user/visits counter: 3 [1.1] false`,
	}
	if !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
}

// TestLeafKeysSortLikePaths holds the order of keys in table N against that of paths, with names that need
// escaping, and what comes below a path against prefixes.
func TestLeafKeysSortLikePaths(t *testing.T) {
	names := []string{"a", "a\x00", "a\x00\x01", "\x00", "\x00\x00", "ab", "\xff", "b", strings.Repeat("l", 200)}
	rng := rand.New(rand.NewPCG(1, 1))
	draw := func() crdt.Path {
		var n []string
		for range 1 + rng.IntN(4) {
			n = append(n, names[rng.IntN(len(names))])
		}
		return leafPath(n...)
	}
	for range 20_000 {
		p, q := draw(), draw()
		kp, kq := objectAt("n", "k", p, crdt.TypeCounter), objectAt("n", "k", q, crdt.TypeCounter)
		if got, want := bytes.Compare(kp, kq), p.Compare(q); got != want {
			t.Fatalf("keys of %q and %q compare as %d, paths as %d", p.Names(), q.Names(), got, want)
		}
		under := len(q.Names()) <= len(p.Names()) && slices.Equal(q.Names(), p.Names()[:len(q.Names())])
		if bytes.HasPrefix(kp, leafPrefix("n", "k", q)) != under {
			t.Fatalf("%q is below %q: %v", p.Names(), q.Names(), under)
		}
		if back, ty, err := parseLeafKey(kp); err != nil || back != p || ty != crdt.TypeCounter {
			t.Fatalf("%q comes back as %q, %v, %v", p.Names(), back.Names(), ty, err)
		}
	}
}

// TestLeafKeysRefuse reads keys that no leaf has.
func TestLeafKeysRefuse(t *testing.T) {
	good := objectAt("n", "k", leafPath("a", "b"), crdt.TypeCounter)
	for cut := range len(good) {
		if _, _, err := parseLeafKey(good[:cut]); !errors.Is(err, crdt.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", cut, err)
		}
	}
	for name, key := range map[string][]byte{
		"no path":        append(leafPrefix("n", "k", crdt.Path{}), 0, 0, 2),
		"bounded":        objectAt("n", "k", leafPath("a"), crdt.TypeBoundedCounter),
		"map":            objectAt("n", "k", leafPath("a"), crdt.TypeORMap),
		"five names":     append(appendName(leafPrefix("n", "k", leafPath("a", "b", "c", "d")), "e"), 0, 0, 2),
		"bytes too many": append(slices.Clone(good), 0),
	} {
		if _, _, err := parseLeafKey(key); !errors.Is(err, crdt.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestORMapHeaderIsStored(t *testing.T) {
	n := newNode(1)
	do(t, n.r, leafAdd(1, "a"))
	do(t, n.r, leafOp(Op{Kind: OpPut}, "b"))
	do(t, n.r, leafOp(Op{Kind: OpDelete}, "b"))
	data, ok, err := n.kv.Get(objectKey("", "m", crdt.TypeORMap))
	if want := []byte{1, 1, 3, 1, 1}; !ok || err != nil || !bytes.Equal(data, want) { // last dot 1.3, a leaf, a trace
		t.Fatalf("%x, want %x, %v", data, want, err)
	}
	for _, bad := range [][]byte{{1, 1, 3, 0, 0}, {2, 1, 3, 1, 1}, {1, 1, 3, 1}, {1, 1, 3, 1, 1, 0}} {
		if _, err := decodeORMapHeader(bad); !errors.Is(err, crdt.ErrCorrupt) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if _, err := n.r.Expire(Expiry{Cut: n.r.LastHLC(), Limit: 10}); err != nil { // the tombstone goes, and the header knows
		t.Fatal(err)
	}
	if err := audit(n); err != nil {
		t.Fatal(err)
	}
	do(t, n.r, removeBelow())
	if n.kv.Len() != 1 && n.r.Flush() != nil || audit(n) != nil {
		t.Fatal("not sound after removal")
	}
	left := 0
	if err := n.kv.Scan([]byte{tableObject}, []byte{tableLeaf + 1}, func(k, _ []byte) (bool, error) {
		if k[0] == tableObject || k[0] == tableLeaf {
			left++
		}
		return true, nil
	}); err != nil || left > 0 {
		t.Fatalf("%d pairs left over, %v", left, err)
	}
}

// expiringMap is a map, of which the leaf a/b is a counter.
type expiringMap struct {
	t      *testing.T
	n      *node
	deltas []Delta
}

func (x *expiringMap) run(now hlc.Time, op Op) {
	x.t.Helper()
	_, deltas, err := x.n.r.Execute(now, []Op{op})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, d := range deltas {
		if _, err := DecodeDelta(EncodeDelta(d)); err != nil {
			x.t.Fatalf("%+v: %v", d, err)
		}
	}
	x.deltas = append(x.deltas, deltas...)
}

// want checks when the map expires, and how many leaves it has, at an instant; 0 for no map.
func (x *expiringMap) want(now, expires hlc.Time, leaves uint64) {
	x.t.Helper()
	m, found, err := x.n.r.LookupType("", "m", crdt.TypeORMap, now)
	if err != nil || found != (leaves > 0) || m.Size != leaves || m.Expires != expires {
		x.t.Errorf("at %v: %+v, %v, %v", now, m, found, err)
	}
	_, leaf, err := x.n.r.Below(leafPath("a", "b")).LookupType("", "m", crdt.TypeCounter, now)
	if err != nil || leaf != found {
		x.t.Errorf("at %v: the leaf is there: %v, %v", now, leaf, err)
	}
	page, _, err := x.n.r.ORMapBranches("", "m", crdt.Path{}, BranchPage{Limit: 9, MaxBytes: 99, Now: now})
	if err != nil || len(page) > 0 != found {
		x.t.Errorf("at %v: names %+v, %v", now, page, err)
	}
}

// TestMapExpires: an update's time to live is the map's; leaves are hidden with it, and an untyped delete of
// the map ends it once.
func TestMapExpires(t *testing.T) {
	x := &expiringMap{t: t, n: newNode(1)}
	x.run(noon, leafOp(Op{Kind: OpPut, Value: []byte("v"), Expires: noon + 9}, "a"))
	x.run(noon+1, leafAdd(2, "a", "b"))
	x.want(noon+8, noon+9, 2)
	x.want(noon+9, 0, 0)
	x.run(noon+20, leafAdd(5, "a", "b")) // a new map, that stays
	x.want(noon+30, 0, 1)
	x.run(noon+40, leafOp(Op{Kind: OpSetAdd, Elements: [][]byte{{1}}, Expires: noon + 99}, "c"))
	x.run(noon+41, Op{Kind: OpDelete, Key: "m"})
	other := newNode(2)
	merge(t, other.r, x.deltas...)
	for _, n := range []*node{x.n, other} {
		if d, err := n.r.Digest(); err != nil || d.Items != 0 {
			t.Errorf("region %d: %+v, %v", n.r.Self(), d, err)
		}
	}
}
