package replica

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// hllWorld is three replicas of one HLL, whose deltas arrive in order per actor and else in any.
type hllWorld struct {
	t       *testing.T
	rng     *rand.Rand
	nodes   []*node
	logs    [][]Delta
	digests map[string]Digest
}

// TestHLLIsTheJoinOfItsChanges compares every replica, at every step, with the join of the changes of all
// events that it has applied, whatever it has collected.
func TestHLLIsTheJoinOfItsChanges(t *testing.T) {
	for seed := range uint64(150) {
		w := &hllWorld{t: t, rng: rand.New(rand.NewPCG(seed, 1)), logs: make([][]Delta, 3), digests: map[string]Digest{}}
		for i := range 3 {
			w.nodes = append(w.nodes, newNode(crdt.Actor(i+1)))
		}
		for range 60 {
			switch i := w.rng.IntN(3); w.rng.IntN(6) {
			case 0, 1:
				w.add(i)
			case 2:
				w.deliver(i, w.rng.IntN(3), 1+w.rng.IntN(3))
			case 3:
				w.deliver(i, w.rng.IntN(3), 100)
			case 4:
				w.collect(i)
			default:
				if w.rng.IntN(3) == 0 {
					w.execute(i, Op{Kind: OpDelete, Key: "h"})
				}
			}
		}
		w.settle()
	}
}

func (w *hllWorld) add(i int) {
	op := Op{Kind: OpHLLAdd, Key: "h"}
	for range 1 + w.rng.IntN(3) {
		op.Elements = append(op.Elements, fmt.Append(nil, w.rng.IntN(40)))
	}
	w.execute(i, op)
}

func (w *hllWorld) execute(i int, op Op) {
	w.t.Helper()
	at := hlc.At(1000+w.rng.Int64N(30), 0) // clocks are not in step
	outcomes, deltas, err := w.nodes[i].r.Execute(at, []Op{op})
	if err != nil {
		w.t.Fatal(err)
	}
	w.logs[i] = append(w.logs[i], deltas...)
	if want := w.expected(i); op.Kind == OpHLLAdd && outcomes[0].Size != want.Count() {
		w.t.Fatalf("an add answers %+v, want %d", outcomes[0], want.Count())
	}
	w.check(i)
}

func (w *hllWorld) deliver(to, from, n int) {
	w.t.Helper()
	have := int(w.nodes[to].r.Vector().Get(crdt.Actor(from + 1)))
	first := max(0, have-w.rng.IntN(2))
	if to == from || first >= len(w.logs[from]) {
		return
	}
	if _, err := w.nodes[to].r.Merge(crdt.Actor(from+1), w.logs[from][first:min(len(w.logs[from]), have+n)]); err != nil {
		w.t.Fatal(err)
	}
	w.check(to)
}

// collect is what a leader does behind the cut.
func (w *hllWorld) collect(i int) {
	w.t.Helper()
	r := w.nodes[i].r
	cut := r.LastHLC()
	for a := range w.nodes {
		if a != i {
			cut = min(cut, r.HLCOf(crdt.Actor(a+1)))
		}
	}
	if _, err := r.Expire(Expiry{Now: cut, Cut: cut, Limit: 1000}); err != nil {
		w.t.Fatal(err)
	}
	w.check(i)
}

// expected joins the changes of the events that a replica has applied.
func (w *hllWorld) expected(i int) crdt.HLL {
	var h crdt.HLL
	vector := w.nodes[i].r.Vector()
	for _, log := range w.logs {
		for _, d := range log {
			for _, e := range d.Effects {
				if change, ok := e.Change.(*wholeChange[crdt.HLL, *crdt.HLL, hllType]); ok && vector.Covers(d.Dot) {
					h.Join(change.value)
				}
			}
		}
	}
	return h
}

func (w *hllWorld) check(i int) {
	w.t.Helper()
	n := w.nodes[i]
	want := w.expected(i)
	o, found, err := n.r.LookupType("", "h", crdt.TypeHLL, 0)
	if err != nil || found == want.Empty() || o.Size != want.Count() {
		w.t.Fatalf("replica %d: %d, found %v, %v; want %d", i+1, o.Size, found, err, want.Count())
	}
	digest, err := n.r.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	key := fmt.Sprint(n.r.Vector())
	if earlier, ok := w.digests[key]; ok && earlier != digest {
		w.t.Fatalf("replica %d: digests differ at %s", i+1, key)
	}
	w.digests[key] = digest
	if err := audit(n); err != nil {
		w.t.Fatal(err)
	}
}

// settle delivers everything, lets each replica hear of a later instant of all others, and collects.
func (w *hllWorld) settle() {
	w.t.Helper()
	everywhere := func() {
		for to := range w.nodes {
			for from := range w.nodes {
				w.deliver(to, from, 1000)
			}
		}
	}
	everywhere()
	for i := range w.nodes {
		w.execute(i, Op{Kind: OpPut, Key: "tick"})
	}
	everywhere()
	for i, n := range w.nodes {
		w.collect(i)
		if err := nothingLeft(n.kv); err != nil {
			w.t.Fatalf("replica %d: %v", i+1, err)
		}
		data, found, err := n.kv.Get(objectKey("", "h", crdt.TypeHLL))
		if err != nil || found == w.expected(i).Empty() {
			w.t.Fatalf("replica %d: the pair is there: %v, %v", i+1, found, err)
		}
		if !found {
			continue
		}
		s, err := hllKind{}.decode(data)
		if err != nil {
			w.t.Fatal(err)
		}
		if h := s.(*wholeState[crdt.HLL, *crdt.HLL, hllType]).value; len(h.Instants()) != 1 || h.Deleted() != 0 {
			w.t.Fatalf("replica %d keeps %v, deleted at %v", i+1, h.Instants(), h.Deleted())
		}
	}
}

func TestHLLDeltasThatNobodyMakes(t *testing.T) {
	const at = noon + 1
	add := func(at hlc.Time, elements ...string) (h crdt.HLL) { h.Add(at, elements...); return h }
	both := add(at, "x")
	both.Join(add(at+1, "y", "z", "w"))
	deleted := crdt.HLL{}
	deleted.Delete(at - 1)
	beside := add(at, "x")
	beside.Join(deleted)
	for name, h := range map[string]crdt.HLL{
		"nothing": {}, "another instant": add(at-1, "x"), "two instants": both, "a delete of another event": deleted, "a delete beside registers": beside,
	} {
		d := Delta{Dot: crdt.Dot{Actor: 2, Seq: 1}, Time: at, Effects: []Effect{{
			Key: "h", Type: crdt.TypeHLL, Change: &wholeChange[crdt.HLL, *crdt.HLL, hllType]{h},
		}}}
		if d.fault() == "" {
			t.Errorf("%s is taken", name)
		}
	}
}

// goldenHLL are what one replica makes of every operation on an HLL.
func goldenHLL(t testing.TB) (names []string, deltas []Delta) {
	r := open(t, NewMemory(), 1)
	for _, step := range []namedOp{
		{"hll add", Op{Kind: OpHLLAdd, Key: "h", Elements: [][]byte{[]byte("a"), []byte("b")}}},
		{"hll delete", Op{Kind: OpDelete, Key: "h"}},
	} {
		_, d := do(t, r, step.op)
		names, deltas = append(names, step.name), append(deltas, d...)
	}
	return names, deltas
}
