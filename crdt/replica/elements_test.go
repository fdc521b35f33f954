package replica

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/atolldb/atoll/crdt"
)

// mixed means that regions differ in which collections they keep inside headers.
var mixed bool

// TestMain runs everything twice: with the limits of elements inside headers as they are, and with regions
// that differ in them: most have all elements outside, region 2 has very few inside.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	once := flag.Lookup("test.bench").Value.String() != "" || flag.Lookup("test.fuzz").Value.String() != "" ||
		flag.Lookup("test.list").Value.String() != ""
	if code == 0 && !once {
		fmt.Println("with elements outside")
		mixed, defaultInside = true, insideLimits{}
		code = m.Run()
	}
	os.Exit(code)
}

// limitsOf returns what a region keeps inside headers.
func limitsOf(self crdt.Actor) insideLimits {
	switch {
	case mixed && self == 2:
		return insideLimits{elements: 3, bytes: 100}
	case mixed && self == 3:
		return insideLimits{elements: 64, bytes: 2 << 10}
	default:
		return defaultInside
	}
}

// openRegion opens a replica with its region's limits.
func openRegion(kv KV, self crdt.Actor) (*Replica, error) {
	r, err := Open(kv, self)
	if err == nil {
		r.inside = limitsOf(self)
	}
	return r, err
}

// spread returns a copy of what a node stores in which all elements are outside of headers, so that checks
// of the tables see them, and its meta, in which the kids they got are of the past.
func spread(n *node) (*Memory, *meta, error) {
	out := n.kv.Clone()
	w := &work{kv: out, meta: n.r.meta.clone()}
	err := n.kv.Scan([]byte{tableObject}, []byte{tableLeaf + 1}, func(k, v []byte) (bool, error) {
		if k[0] != tableObject && k[0] != tableLeaf {
			return true, nil
		}
		_, t, _, err := cutObjectKey(k)
		if err != nil {
			return false, err
		}
		s, err := kindOf(t).decode(v)
		if c, ok := s.(collection); err != nil || !ok || len(c.within()) == 0 {
			return err == nil, err
		}
		e, order := elementsOf(s, t)
		if err := e.moveOut(w, order); err != nil {
			return false, err
		}
		return true, out.Put(k, s.append(nil))
	})
	return out, w.meta, err
}

func elementsOf(s stored, t crdt.Type) (*elements, ordering) {
	switch h := s.(type) {
	case *setHeader:
		return &h.elements, nil
	case *timelineHeader:
		return &h.elements, nil
	case *counterZSetHeader:
		return &h.elements, countedOrder
	default:
		return &s.(*fieldsHeader).elements, fieldsKind{t}.ordering()
	}
}

// small are collections with one element each, and how to add a further one.
var small = []struct {
	t   crdt.Type
	add func(i int) Op
}{
	{crdt.TypeAWSet, func(i int) Op { return setOp(OpSetAdd, element(i)) }},
	{crdt.TypeLWWMap, func(i int) Op { return mapPut("s", element(i), "v") }},
	{crdt.TypeZSet, func(i int) Op {
		return Op{Kind: OpZSetAdd, Key: "s", Type: crdt.TypeZSet, Score: float64(-i), Elements: [][]byte{[]byte(element(i))}}
	}},
	{crdt.TypeCounterZSet, func(i int) Op {
		return Op{Kind: OpZSetAdd, Key: "s", Type: crdt.TypeCounterZSet, Score: float64(-i), Elements: [][]byte{[]byte(element(i))}}
	}},
	{crdt.TypeTimeline, func(i int) Op { return Op{Kind: OpTimelineAdd, Key: "s", Value: []byte(element(i))} }},
}

func element(i int) string { return fmt.Sprintf("%05d", i) }

// pairsOf returns how many pairs a node has in tables K, E and Z.
func pairsOf(n *node) (objects, elements, scores int) {
	_ = n.kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
		switch k[0] {
		case tableObject:
			objects++
		case tableElement:
			elements++
		case tableScore:
			scores++
		}
		return true, nil
	})
	return objects, elements, scores
}

// TestCollectionsMoveOutOnce: a collection is one pair until it has too many elements, and does not come
// back while it has any. Other regions tell no difference.
func TestCollectionsMoveOutOnce(t *testing.T) {
	for _, c := range small {
		t.Run(c.t.String(), func(t *testing.T) {
			n, other := newNode(1), newNode(4)
			n.r.inside, other.r.inside = insideLimits{elements: 64, bytes: 2 << 10}, insideLimits{}
			for i := range 64 {
				_, deltas := do(t, n.r, c.add(i))
				merge(t, other.r, deltas...)
				same(t, n, other)
			}
			if k, e, z := pairsOf(n); k != 1 || e != 0 || z != 0 {
				t.Errorf("64 elements are in %d, %d and %d pairs", k, e, z)
			}
			_, deltas := do(t, n.r, c.add(64))
			merge(t, other.r, deltas...)
			same(t, n, other)
			scored := 0
			if c.t == crdt.TypeZSet || c.t == crdt.TypeCounterZSet {
				scored = 65
			}
			if k, e, z := pairsOf(n); k != 1 || e != 65 || z != scored {
				t.Errorf("65 elements are in %d, %d and %d pairs", k, e, z)
			}
			stays(t, n, c.t)
			do(t, n.r, Op{Kind: OpDelete, Key: "s"})
			do(t, n.r, c.add(1))
			if _, e, z := pairsOf(n); e != 0 || z != 0 {
				t.Errorf("a new collection is in %d and %d pairs", e, z)
			}
		})
	}
}

// stays removes all elements but some from a collection of 65, which stays outside.
func stays(t *testing.T, n *node, of crdt.Type) {
	t.Helper()
	op := Op{Kind: OpSetRemove, Key: "s", Type: of}
	switch of {
	case crdt.TypeLWWMap:
		op.Kind = OpMapRemove
	case crdt.TypeZSet, crdt.TypeCounterZSet:
		op.Kind = OpZSetRemove
	case crdt.TypeTimeline:
		page, _, err := n.r.Timeline("", "s", TimelineRange{Limit: 5, MaxBytes: 1 << 20})
		if err != nil || len(page) != 5 {
			t.Fatalf("%d entries, %v", len(page), err)
		}
		op.Kind, op.At = OpTimelineTrim, page[4].Time
	}
	for i := range 60 {
		op.Elements = append(op.Elements, []byte(element(i)))
	}
	if outcome, _ := do(t, n.r, op); outcome.Size != 5 {
		t.Errorf("%d elements are left", outcome.Size)
	}
	if _, e, _ := pairsOf(n); e < 5 {
		t.Errorf("%d of 5 elements are outside", e)
	}
	if err := audit(n); err != nil {
		t.Error(err)
	}
}

// same compares digests and audits.
func same(t *testing.T, a, b *node) {
	t.Helper()
	one, err := a.r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := b.r.Digest(); err != nil || other != one {
		t.Fatalf("digests %+v and %+v, %v", one, other, err)
	}
	if err := audit(a); err != nil {
		t.Fatal(err)
	}
}

// TestLargeElementsAreOutside: bytes count, too.
func TestLargeElementsAreOutside(t *testing.T) {
	n := newNode(1)
	n.r.inside = insideLimits{elements: 64, bytes: 2 << 10}
	do(t, n.r, Op{Kind: OpTimelineAdd, Key: "s", Value: make([]byte, 2000)})
	if _, e, _ := pairsOf(n); e != 0 {
		t.Errorf("%d entries are outside", e)
	}
	do(t, n.r, Op{Kind: OpTimelineAdd, Key: "s", Value: make([]byte, 10)})
	if _, e, _ := pairsOf(n); e != 2 {
		t.Errorf("%d entries are outside", e)
	}
	do(t, n.r, Op{Kind: OpMapPut, Key: "m", Elements: [][]byte{{1}}, Values: [][]byte{make([]byte, crdt.MaxValueBytes)}})
	if _, e, _ := pairsOf(n); e != 3 {
		t.Errorf("%d fields and entries are outside", e)
	}
}

// TestElementsOfOldHeadersStay: what another program has outside is read and written there.
func TestElementsOfOldHeadersStay(t *testing.T) {
	for _, c := range small {
		n := newNode(1)
		n.r.inside = insideLimits{}
		do(t, n.r, c.add(1))
		if err := n.r.Flush(); err != nil {
			t.Fatal(err)
		}
		n.r = open(t, n.kv, 1)
		n.r.inside = insideLimits{elements: 64, bytes: 2 << 10}
		if outcome, _ := do(t, n.r, c.add(2)); outcome.Size != 2 {
			t.Errorf("%v: %+v", c.t, outcome)
		}
		if _, e, _ := pairsOf(n); e != 2 {
			t.Errorf("%v: %d of 2 elements are outside", c.t, e)
		}
		if err := audit(n); err != nil {
			t.Errorf("%v: %v", c.t, err)
		}
	}
}

// TestSmallCollectionsCostOnePair: an operation on a small collection reads its header and writes it.
func TestSmallCollectionsCostOnePair(t *testing.T) {
	for _, c := range small {
		n := newNode(1)
		kv := &counting{KV: n.kv}
		n.r = open(t, kv, 1)
		n.r.inside = insideLimits{elements: 64, bytes: 2 << 10}
		do(t, n.r, c.add(1))
		*kv = counting{KV: n.kv}
		do(t, n.r, c.add(2))
		if kv.gets > 0 || kv.visits > 1 || kv.writes > 1 {
			t.Errorf("%v: %+v", c.t, kv)
		}
	}
}
