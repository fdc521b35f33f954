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

// expiringTypes are those whose values have deadlines. write returns an operation whose effect differs by n.
var expiringTypes = []struct {
	of    crdt.Type
	write func(n int) Op
}{
	{crdt.TypeCounter, func(n int) Op { return Op{Kind: OpCounterAdd, Delta: int64(n)} }},
	{crdt.TypeAWSet, func(n int) Op { return Op{Kind: OpSetAdd, Elements: [][]byte{fmt.Appendf(nil, "e%d", n)}} }},
	{crdt.TypeMVRegister, func(n int) Op { return Op{Kind: OpMVPut, Value: fmt.Appendf(nil, "v%d", n)} }},
	{crdt.TypeEWFlag, func(int) Op { return Op{Kind: OpFlagEnable} }},
	{crdt.TypeMaxRegister, func(n int) Op { return Op{Kind: OpMax, Delta: int64(n)} }},
	{crdt.TypeMinRegister, func(n int) Op { return Op{Kind: OpMin, Delta: -int64(n)} }},
	{crdt.TypeLWWMap, func(n int) Op {
		return Op{Kind: OpMapPut, Elements: [][]byte{fmt.Appendf(nil, "f%d", n)}, Values: [][]byte{{byte(n)}}}
	}},
	{crdt.TypeZSet, func(n int) Op {
		return Op{Kind: OpZSetAdd, Type: crdt.TypeZSet, Elements: [][]byte{fmt.Appendf(nil, "m%d", n)}, Score: float64(n)}
	}},
	{crdt.TypeCounterZSet, func(n int) Op {
		return Op{Kind: OpZSetIncr, Type: crdt.TypeCounterZSet, Elements: [][]byte{fmt.Appendf(nil, "m%d", n)}, Score: float64(n)}
	}},
	{crdt.TypeHLL, func(n int) Op { return Op{Kind: OpHLLAdd, Elements: [][]byte{fmt.Appendf(nil, "e%d", n)}} }},
	{crdt.TypeORMap, func(n int) Op {
		return Op{Kind: OpMVPut, Path: leafPath("a"), Value: fmt.Appendf(nil, "v%d", n)}
	}},
	{crdt.TypeTimeline, func(n int) Op { return Op{Kind: OpTimelineAdd, Value: fmt.Appendf(nil, "t%d", n)} }},
}

// TestEveryTypeIsThere: a type that is added to the package has to expire, or to be named here.
func TestEveryTypeIsThere(t *testing.T) {
	for of := crdt.TypeLWWRegister; of.Valid(); of++ {
		listed := slices.ContainsFunc(expiringTypes, func(e struct {
			of    crdt.Type
			write func(n int) Op
		}) bool {
			return e.of == of
		})
		if hasDeadline(of) != listed {
			t.Errorf("%v: has a deadline: %v, is tested: %v", of, hasDeadline(of), listed)
		}
	}
}

// pairOf is two regions, and the deltas that the first has made and the second has not got.
type pairOf struct {
	t    *testing.T
	of   crdt.Type
	a, b *node
}

func newPair(t *testing.T, of crdt.Type) *pairOf {
	t.Helper()
	return &pairOf{t, of, newNode(1), newNode(2)}
}

func (p *pairOf) run(n *node, ms int64, op Op) (Outcome, []Delta) {
	p.t.Helper()
	op.Key = "k"
	outcomes, deltas, err := n.r.Execute(at(ms), []Op{op})
	if err != nil {
		p.t.Fatalf("%v: %+v: %v", p.of, op, err)
	}
	return outcomes[0], deltas
}

// both runs an operation in the first region, and has the second merge it.
func (p *pairOf) both(ms int64, op Op) Outcome {
	p.t.Helper()
	out, deltas := p.run(p.a, ms, op)
	if len(deltas) > 0 {
		merge(p.t, p.b.r, deltas...)
	}
	return out
}

func (p *pairOf) expire(n *node, x Expiry) Expired {
	p.t.Helper()
	x.Limit = 100
	found, err := n.r.Expire(x)
	if err != nil {
		p.t.Fatalf("%v: %v", p.of, err)
	}
	return found
}

// sees returns when the value expires, and whether it is there.
func (p *pairOf) sees(n *node, ms int64) (hlc.Time, bool) {
	p.t.Helper()
	o, found, err := n.r.LookupType("", "k", p.of, at(ms))
	if err != nil {
		p.t.Fatal(err)
	}
	return o.Expires, found
}

func (p *pairOf) want(ms int64, expires hlc.Time, found bool) {
	p.t.Helper()
	for _, n := range []*node{p.a, p.b} {
		if e, f := p.sees(n, ms); e != expires || f != found {
			p.t.Errorf("%v: at %d region %d sees %v, %v; want %v, %v", p.of, ms, n.r.Self(), e, f, expires, found)
		}
	}
}

// converged checks that both regions hold the same, and returns its digest.
func (p *pairOf) converged() Digest {
	p.t.Helper()
	x, err := p.a.r.Digest()
	y, err2 := p.b.r.Digest()
	if x != y || err != nil || err2 != nil {
		p.t.Errorf("%v: digests %x and %x, %v %v", p.of, x, y, err, err2)
	}
	return x
}

func forEveryType(t *testing.T, test func(t *testing.T, p *pairOf, write func(n int) Op)) {
	t.Helper()
	for _, e := range expiringTypes {
		t.Run(e.of.String(), func(t *testing.T) { test(t, newPair(t, e.of), e.write) })
	}
}

func until(op Op, ms int64) Op {
	op.Expires = at(ms)
	return op
}

// TestValuesOfEveryTypeExpire: the value is hidden from its deadline on, its region deletes it, and behind the
// cut nothing is left of it in any region.
func TestValuesOfEveryTypeExpire(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, until(write(1), 2000))
		p.both(1100, write(2)) // leaves the deadline as it is
		p.want(1999, at(2000), true)
		p.want(2000, 0, false)
		if found := p.expire(p.b, Expiry{Now: at(2000)}); len(found.Names) != 1 || found.Names[0] != (Name{"", "k", p.of}) || len(found.Deltas) != 0 {
			t.Errorf("the other region found %+v", found)
		}
		if due, err := p.b.r.Due(Expiry{Now: at(9000)}); due || err != nil {
			t.Errorf("the other region is to tell of it twice: %v", err)
		}
		found := p.expire(p.a, Expiry{Now: at(2000)})
		if len(found.Names) != 1 || len(found.Deltas) != 1 || found.Deltas[0].Time != at(2000) {
			t.Fatalf("its region found %+v", found)
		}
		merge(t, p.b.r, found.Deltas...)
		p.want(1000, 0, false)
		if d := p.converged(); d.Items != 0 {
			t.Errorf("%d items in the digest", d.Items)
		}
		for _, n := range []*node{p.a, p.b} {
			p.expire(n, Expiry{Now: at(5000), Cut: at(5000), Others: at(5000)})
			p.noResidue(n)
		}
	})
}

// noResidue checks that nothing is stored but what resets of counters leave in other regions.
func (p *pairOf) noResidue(n *node) {
	p.t.Helper()
	for n.r.meta.garbage > 0 {
		if _, _, err := n.r.Execute(0, nil); err != nil {
			p.t.Fatal(err)
		}
	}
	counts := p.of == crdt.TypeCounter || p.of == crdt.TypeCounterZSet
	_ = n.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		isDeadline := k[0] == tableObject && crdt.Type(k[len(k)-1])&deadlineBit != 0
		if k[0] != tableMeta && (!counts || isDeadline || k[0] != tableObject && k[0] != tableElement && k[0] != tableUnsettled) {
			p.t.Errorf("%v: region %d is left with %x: %x", p.of, n.r.Self(), k, v)
		}
		return true, nil
	})
}

// TestWritesAfterTheDeadline: what another region writes after the deadline, before it heard of the delete,
// is a new value without a time to live, and the delete does not take it.
func TestWritesAfterTheDeadline(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, until(write(9), 2000))
		out, fromB := p.run(p.b, 2500, write(3))
		if out.Existed || len(fromB) != 2 {
			t.Errorf("outcome %+v, %d deltas", out, len(fromB))
		}
		found := p.expire(p.a, Expiry{Now: at(3000)})
		merge(t, p.b.r, found.Deltas...)
		merge(t, p.a.r, fromB...)
		p.want(9000, 0, true)
		p.converged()
		fresh := newPair(t, p.of)
		fresh.both(2500, write(3))
		if got, want := p.parts(p.a), fresh.parts(fresh.a); got != want || p.parts(p.b) != want {
			t.Errorf("the old value is not gone: %s and %s, want %s", got, p.parts(p.b), want)
		}
	})
}

// TestWritesBetweenDeadlineAndDelete: where the delete is later than the deadline, because its region has written
// something else meanwhile, what another region wrote in between stays all the same, but for the three types whose
// deletes are of all that is earlier than they are.
func TestWritesBetweenDeadlineAndDelete(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, until(write(9), 2000))
		_, fromB := p.run(p.b, 2500, until(write(3), 8000))
		if _, deltas, err := p.a.r.Execute(at(2900), []Op{{Kind: OpPut, Key: "other"}}); err != nil {
			t.Fatal(err)
		} else {
			merge(t, p.b.r, deltas...)
		}
		found := p.expire(p.a, Expiry{Now: at(3000)})
		if len(found.Deltas) != 1 || found.Deltas[0].Time <= fromB[len(fromB)-1].Time {
			t.Fatalf("the delete is not the later one: %+v", found)
		}
		merge(t, p.b.r, found.Deltas...)
		merge(t, p.a.r, fromB...)
		p.converged()
		switch p.of {
		case crdt.TypeMaxRegister, crdt.TypeMinRegister, crdt.TypeHLL:
			p.want(3000, 0, false)
		default:
			p.want(3000, at(8000), true)
		}
	})
}

// parts says what the value is.
func (p *pairOf) parts(n *node) string {
	p.t.Helper()
	o, _, err := n.r.LookupType("", "k", p.of, at(9000))
	if err != nil {
		p.t.Fatal(err)
	}
	text := fmt.Sprintf("%d of %d", o.Counter, o.Size)
	for _, s := range o.Siblings {
		text += fmt.Sprintf(" %q", s.Value)
	}
	members, _, err := n.r.SetMembers("", "k", nil, 100, 1000)
	fields, _, err2 := n.r.MapFields("", "k", nil, 100, 1000)
	return fmt.Sprintf("%s %q %q %v %v", text, members, fields, err, err2)
}

// TestValuesAreBegunAnew: a value that was emptied or deleted, and is then written again, has no time to
// live, and the new one's own if it has one.
func TestValuesAreBegunAnew(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, until(write(1), 5000))
		p.both(1100, Op{Kind: OpDelete, Type: p.of})
		p.want(1100, 0, false)
		p.both(1200, write(2))
		p.want(9000, 0, true)
		p.both(1300, until(write(3), 6000))
		p.want(1300, at(6000), true)
		p.both(1400, Op{Kind: OpDelete})
		p.both(1500, until(write(4), 7000))
		p.want(1500, at(7000), true)
		p.converged()
	})
}

func TestExpireAndPersistEveryType(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		if out := p.both(900, until(Op{Kind: OpExpire}, 2000)); out.Existed || out.Version != "" {
			t.Errorf("an absent value got a deadline: %+v", out)
		}
		wrote := p.both(1000, write(1))
		out := p.both(1001, until(Op{Kind: OpExpire}, 2000))
		if !out.Existed || out.Version != wrote.Version {
			t.Errorf("outcome %+v, want version %s", out, wrote.Version)
		}
		p.want(1999, at(2000), true)
		before := p.a.r.Seq()
		p.both(1002, until(Op{Kind: OpExpire}, 2000))
		if p.a.r.Seq() != before {
			t.Error("the same deadline again is an event")
		}
		p.both(1003, Op{Kind: OpPersist})
		p.both(1004, Op{Kind: OpPersist, Type: p.of})
		p.want(9000, 0, true)
		if p.a.r.Seq() != before+1 {
			t.Error("persisting what stays is an event")
		}
		p.both(1005, until(Op{Kind: OpExpire, Type: p.of}, 3000))
		if out := p.both(3000, Op{Kind: OpPersist}); out.Existed {
			t.Errorf("persisted what had expired: %+v", out)
		}
		p.want(3000, 0, false)
	})
}

// TestOthersDeleteAfterAWhile: where the region whose deadline it is does nothing, another one deletes, and
// it does no harm if both do.
func TestOthersDeleteAfterAWhile(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, until(write(1), 2000))
		early := p.expire(p.b, Expiry{Now: at(3000), Others: at(1999)})
		if due, err := p.b.r.Due(Expiry{Now: at(3000), Others: at(1999)}); due || err != nil || len(early.Deltas) != 0 {
			t.Errorf("it does not wait: %v %+v", due, early)
		}
		if due, err := p.b.r.Due(Expiry{Others: at(2000)}); !due || err != nil {
			t.Errorf("it waits for ever: %v", err)
		}
		late := p.expire(p.b, Expiry{Others: at(2000)})
		if len(late.Names) != 0 || len(late.Deltas) != 1 {
			t.Fatalf("found %+v", late)
		}
		own := p.expire(p.a, Expiry{Now: at(4000)})
		merge(t, p.a.r, late.Deltas...)
		merge(t, p.b.r, own.Deltas...)
		p.want(1000, 0, false)
		p.converged()
		for _, n := range []*node{p.a, p.b} {
			p.expire(n, Expiry{Now: at(9000), Cut: at(9000), Others: at(9000)})
			p.noResidue(n)
		}
	})
}

// TestDeadlinesOfWhatIsGone: a deadline that is set while another region deletes the value says nothing
// about what is written next, and goes in the end.
func TestDeadlinesOfWhatIsGone(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, write(1))
		_, fromA := p.run(p.a, 1200, until(Op{Kind: OpExpire}, 5000))
		_, fromB := p.run(p.b, 1300, Op{Kind: OpDelete})
		merge(t, p.b.r, fromA...)
		merge(t, p.a.r, fromB...)
		p.want(1300, 0, false)
		p.both(1400, write(2))
		p.want(9000, 0, true)
		p.converged()
	})
}

// TestOrphanedDeadlinesGo: the same, but nothing is written any more.
func TestOrphanedDeadlinesGo(t *testing.T) {
	forEveryType(t, func(t *testing.T, p *pairOf, write func(n int) Op) {
		p.both(1000, write(1))
		_, fromA := p.run(p.a, 1200, until(Op{Kind: OpExpire}, 5000))
		_, fromB := p.run(p.b, 1300, Op{Kind: OpDelete})
		merge(t, p.b.r, fromA...)
		merge(t, p.a.r, fromB...)
		found := p.expire(p.a, Expiry{Now: at(5000)})
		if len(found.Names) != 0 || len(found.Deltas) != 1 {
			t.Errorf("found %+v", found)
		}
		merge(t, p.b.r, found.Deltas...)
		for _, n := range []*node{p.a, p.b} {
			p.expire(n, Expiry{Now: at(9000), Cut: at(9000), Others: at(9000)})
			p.noResidue(n)
		}
	})
}

func TestBoundedCountersDoNotExpire(t *testing.T) {
	r := open(t, NewMemory(), 1)
	do(t, r, Op{Kind: OpBoundedInc, Key: "k", Delta: 1})
	for _, op := range []Op{
		until(Op{Kind: OpExpire}, 9000), until(Op{Kind: OpExpire, Type: crdt.TypeBoundedCounter, AnyType: true}, 9000),
	} {
		op.Key = "k"
		if _, _, err := r.Execute(at(1000), []Op{op}); !errors.Is(err, ErrUndeletable) {
			t.Errorf("%+v: %v", op, err)
		}
	}
	if _, _, err := r.Execute(at(1000), []Op{until(Op{Kind: OpBoundedInc, Key: "k", Delta: 1}, 9000)}); !errors.Is(err, ErrInvalidOperation) {
		t.Errorf("an add with a time to live: %v", err)
	}
	if out, deltas := do(t, r, Op{Kind: OpPersist, Key: "k"}); !out.Existed || len(deltas) != 0 {
		t.Errorf("outcome %+v", out)
	}
	// With AnyType, as what another region did, it stays beside what expires.
	do(t, r, Op{Kind: OpSetAdd, Key: "k", Elements: [][]byte{[]byte("e")}, AnyType: true})
	op := until(Op{Kind: OpExpire, Key: "k", AnyType: true}, 9000)
	if _, _, err := r.Execute(at(2000), []Op{op}); err != nil {
		t.Fatal(err)
	}
	if _, found, err := r.LookupType("", "k", crdt.TypeAWSet, at(9000)); found || err != nil {
		t.Errorf("the set stays: %v", err)
	}
	if _, found, err := r.LookupType("", "k", crdt.TypeBoundedCounter, at(9000)); !found || err != nil {
		t.Errorf("the counter is gone: %v", err)
	}
}

// TestRefusedWritesAfterTheDeadline: an operation that deletes what has expired first, and is refused then, has
// changed nothing.
func TestRefusedWritesAfterTheDeadline(t *testing.T) {
	n := newNode(1)
	do := func(ms int64, op Op) ([]Outcome, []Delta, error) { return n.r.Execute(at(ms), []Op{op}) }
	if _, _, err := do(1000, until(Op{Kind: OpTimelineAdd, Key: "k"}, 2000)); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(n)
	if _, _, err := do(3000, Op{Kind: OpTimelineTrim, Key: "k", At: at(9000)}); !errors.Is(err, ErrTrimInFuture) || fingerprint(n) != before {
		t.Errorf("%v, changed: %v", err, fingerprint(n) != before)
	}
	out, deltas, err := do(3000, Op{Kind: OpTimelineAdd, Key: "k", Condition: Condition{Kind: CondAbsent}})
	if err != nil || out[0].Existed || out[0].Size != 1 || len(deltas) != 2 {
		t.Errorf("%+v, %d deltas, %v", out, len(deltas), err)
	}
}

// TestWalkKnowsDeadlines: a walk shows of a key what has not expired.
func TestWalkKnowsDeadlines(t *testing.T) {
	n := newNode(1)
	for i, op := range []Op{
		until(Op{Kind: OpCounterAdd, Key: "a", Delta: 1}, 2000),
		{Kind: OpSetAdd, Key: "a", Elements: [][]byte{[]byte("e")}, AnyType: true},
		until(Op{Kind: OpFlagEnable, Key: "b"}, 2000),
		{Kind: OpPut, Key: "c", Value: []byte("v")},
		until(Op{Kind: OpSetAdd, Key: "d", Elements: [][]byte{[]byte("e")}}, 3000),
	} {
		if _, _, err := n.r.Execute(at(int64(1000+i)), []Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	for ms, want := range map[int64]string{
		1500: "a counter 2000, b flag 2000, c register 0, d set 3000, ",
		2000: "a set 0, c register 0, d set 3000, ",
		3000: "a set 0, c register 0, ",
	} {
		var got bytes.Buffer
		err := n.r.Walk("", "", "", at(ms), func(o Object) (bool, error) {
			fmt.Fprintf(&got, "%s %v %d, ", o.Key, o.Type, uint64(o.Expires)>>16)
			return true, nil
		})
		if err != nil || got.String() != want {
			t.Errorf("at %d: %s, want %s, %v", ms, got.String(), want, err)
		}
	}
	if _, found, err := n.r.Lookup("", "b", at(2000)); found || err != nil {
		t.Errorf("an expired flag: %v", err)
	}
}

func TestExplainShowsDeadlines(t *testing.T) {
	n := newNode(1)
	do(t, n.r, until(Op{Kind: OpFlagEnable, Key: "k"}, 1<<40))
	objects, err := n.r.Explain("", "k")
	if err != nil || len(objects) != 1 || objects[0].Deadline == nil || objects[0].Deadline.Expires != at(1<<40) || objects[0].Deadline.Dot != (crdt.Dot{Actor: 1, Seq: 1}) {
		t.Fatalf("%+v, %v", objects, err)
	}
	do(t, n.r, Op{Kind: OpFlagDisable, Key: "k"})
	objects, err = n.r.Explain("", "k")
	if err != nil || len(objects) != 1 || objects[0].Deadline == nil || objects[0].Deadline.Expires != 0 || objects[0].Version != "" {
		t.Fatalf("a trace: %+v, %v", objects, err)
	}
}

// TestLargeValuesExpireInParts: a sorted set that is too large to be deleted at once is deleted in parts, and
// stays hidden meanwhile.
func TestLargeValuesExpireInParts(t *testing.T) {
	p := newPair(t, crdt.TypeCounterZSet)
	const size = 2*MaxOperationElements + 5
	var ops []Op
	for i := range size {
		ops = append(ops, Op{Kind: OpZSetIncr, Type: crdt.TypeCounterZSet, Key: "k", Elements: [][]byte{fmt.Appendf(nil, "m%d", i)}, Score: 1})
	}
	if _, _, err := p.a.r.Execute(at(1000), ops); err != nil {
		t.Fatal(err)
	}
	p.run(p.a, 1100, until(Op{Kind: OpExpire}, 2000))
	if _, _, err := p.a.r.Execute(at(2500), ops[:1]); !errors.Is(err, ErrChangeTooLarge) {
		t.Errorf("a write to what is to be deleted in parts: %v", err)
	}
	told, parts := 0, 0
	for {
		due, err := p.a.r.Due(Expiry{Now: at(3000)})
		if err != nil {
			t.Fatal(err)
		}
		if !due {
			break
		}
		found := p.expire(p.a, Expiry{Now: at(3000)})
		told, parts = told+len(found.Names), parts+len(found.Deltas)
		if _, visible := p.sees(p.a, 3000); visible || parts > 3 {
			t.Fatalf("visible after %d parts: %v", parts, visible)
		}
	}
	if told != 1 || parts != 3 {
		t.Errorf("told %d times, %d parts", told, parts)
	}
	p.expire(p.a, Expiry{Now: at(9000), Cut: at(9000)})
	p.noResidue(p.a)
}
