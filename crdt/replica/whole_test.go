package replica

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

type namedOp struct {
	name string
	op   Op
}

// wholeSteps are one operation of each kind on a value that is kept whole.
func wholeSteps() []namedOp {
	return []namedOp{
		{"bounded inc", Op{Kind: OpBoundedInc, Key: "b", Delta: 300}},
		{"bounded dec", Op{Kind: OpBoundedDec, Key: "b", Delta: 7}},
		{"bounded transfer", Op{Kind: OpBoundedTransfer, Key: "b", Delta: 5, ToActor: 65}},
		{"max", Op{Kind: OpMax, Key: "max", Delta: -3}},
		{"max delete", Op{Kind: OpDelete, Key: "max"}},
		{"max after delete", Op{Kind: OpMax, Key: "max", Delta: -4}},
		{"min", Op{Kind: OpMin, Namespace: "n", Key: "min", Delta: 1 << 40}},
		{"min delete", Op{Kind: OpDelete, Namespace: "n", Key: "min"}},
	}
}

// wholeEvent is an event in the words of the specification.
type wholeEvent struct {
	dot     crdt.Dot
	time    hlc.Time
	kind    OpKind
	key     string
	n       int64
	to      crdt.Actor
	deletes bool
}

// later is the order of events.
func (e *wholeEvent) later(o *wholeEvent) bool {
	return o == nil || e.time > o.time || e.time == o.time && e.dot.Actor > o.dot.Actor
}

type wholeHistory []*wholeEvent

func (h wholeHistory) of(key string, vector crdt.VersionVector) (seen wholeHistory) {
	for _, e := range h {
		if e.key == key && vector.Covers(e.dot) {
			seen = append(seen, e)
		}
	}
	return seen
}

// extreme is the best of the writes after the last delete.
func (h wholeHistory) extreme(better func(a, b int64) bool) (best int64, ok bool) {
	var deleted *wholeEvent
	for _, e := range h {
		if e.deletes && e.later(deleted) {
			deleted = e
		}
	}
	for _, e := range h {
		if !e.deletes && e.later(deleted) && (!ok || better(e.n, best)) {
			best, ok = e.n, true
		}
	}
	return best, ok
}

// bounded is what was added less what was taken, and what of it an actor may take.
func (h wholeHistory) bounded(a crdt.Actor) (value, rights int64) {
	for _, e := range h {
		n := e.n
		if e.kind == OpBoundedDec {
			n = -n
		}
		switch {
		case e.kind != OpBoundedTransfer:
			value += n
			if e.dot.Actor == a {
				rights += n
			}
		case e.dot.Actor == a && e.to != a:
			rights -= n
		case e.dot.Actor != a && e.to == a:
			rights += n
		}
	}
	return value, rights
}

func greater(a, b int64) bool { return a > b }
func smaller(a, b int64) bool { return a < b }

// wholeWorld is a run of three replicas.
type wholeWorld struct {
	rng     *rand.Rand
	causal  bool
	nodes   []*node
	logs    [][][]byte
	seen    map[crdt.Dot]crdt.VersionVector // what an event's author had applied
	history wholeHistory
	digests map[string]Digest
	trace   []string
}

func TestWholeValuesMeetTheSpecification(t *testing.T) {
	for _, causal := range []bool{true, false} {
		t.Run(fmt.Sprintf("causal=%v", causal), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(*schedules * 4) {
				w := newWholeWorld(*firstSeed+seed, causal)
				if err := w.run(40 + int(seed%120)); err != nil {
					t.Fatalf("seed %d: %v\n%s", *firstSeed+seed, err, strings.Join(w.trace, "\n"))
				}
			}
		})
	}
}

func newWholeWorld(seed uint64, causal bool) *wholeWorld {
	w := &wholeWorld{
		rng: rand.New(rand.NewPCG(seed, 5)), causal: causal, logs: make([][][]byte, 3),
		digests: map[string]Digest{}, seen: map[crdt.Dot]crdt.VersionVector{},
	}
	for i := range 3 {
		n := newNode(crdt.Actor(i + 1))
		n.headers = NewHeaders(2)
		n.r.UseHeaders(n.headers)
		w.nodes = append(w.nodes, n)
	}
	return w
}

func (w *wholeWorld) run(steps int) error {
	for range steps {
		i := w.rng.IntN(3)
		var err error
		switch p := w.rng.IntN(100); {
		case p < 45:
			err = w.execute(i, w.randomOp(), hlc.At(1000+w.rng.Int64N(40), 0))
		case p < 85:
			err = w.deliver(i, w.rng.IntN(3), 1+w.rng.IntN(3))
		case p < 95:
			err = w.expire(i)
		default:
			err = w.nodes[i].reopen(crdt.Actor(i + 1))
		}
		if err == nil {
			err = w.check(i, w.causal)
		}
		if err != nil {
			return err
		}
	}
	return w.settle()
}

// settle delivers everything, with an event of each replica after all others, and collects.
func (w *wholeWorld) settle() error {
	if err := w.deliverAll(); err != nil {
		return err
	}
	for i := range w.nodes {
		if err := w.check(i, true); err != nil {
			return err
		}
		if err := w.execute(i, Op{Kind: OpPut, Key: "tick"}, 0); err != nil {
			return err
		}
	}
	if err := w.deliverAll(); err != nil {
		return err
	}
	for i, n := range w.nodes {
		if err := w.expire(i); err != nil {
			return err
		}
		if err := w.check(i, true); err != nil {
			return err
		}
		if err := nothingLeft(n.kv); err != nil {
			return fmt.Errorf("replica %d: %w", i+1, err)
		}
	}
	return nil
}

func (w *wholeWorld) deliverAll() error {
	for range 9 {
		for to := range w.nodes {
			for from := range w.nodes {
				if err := w.deliver(to, from, 1000); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// nothingLeft checks that a replica that has collected everything stores values only.
func nothingLeft(kv KV) error {
	return kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		if k[0] == tableSpent {
			return false, fmt.Errorf("left in table Y: %x", k)
		}
		if k[0] != tableObject {
			return true, nil
		}
		_, _, t, err := parseObjectKey(k)
		if err != nil {
			return false, err
		}
		o, err := kinds[t].decode(v)
		if err != nil || !o.live(0) {
			return false, fmt.Errorf("left of %q: %x, %w", k, v, err)
		}
		var e Explained
		err = kinds[t].explain(kv, o, &e)
		if (t == crdt.TypeMaxRegister || t == crdt.TypeMinRegister) && len(e.Parts) != 1 {
			return false, fmt.Errorf("left of %q: %+v", k, e.Parts)
		}
		return true, err
	})
}

func (w *wholeWorld) randomOp() Op {
	op := Op{Key: []string{"max", "min", "b", "b"}[w.rng.IntN(4)], Delta: 1 + w.rng.Int64N(9)}
	switch op.Key {
	case "b":
		op.Kind = []OpKind{OpBoundedInc, OpBoundedDec, OpBoundedTransfer}[w.rng.IntN(3)]
		op.ToActor = crdt.Actor(1 + w.rng.IntN(3))
	case "max":
		op.Kind = OpMax
	default:
		op.Kind = OpMin
	}
	if op.Key != "b" && w.rng.IntN(4) == 0 {
		op.Kind = OpDelete
		op.Type = []crdt.Type{0, map[string]crdt.Type{"max": crdt.TypeMaxRegister, "min": crdt.TypeMinRegister}[op.Key]}[w.rng.IntN(2)]
	}
	return op
}

// expect says whether an operation has an effect, what number it answers, and with how few rights it is
// refused.
func (h wholeHistory) expect(op *Op, self crdt.Actor) (effect bool, answer, have int64) {
	value, rights := h.bounded(self)
	best, present := h.extreme(greater)
	if op.Key == "min" {
		best, present = h.extreme(smaller)
	}
	switch op.Kind {
	case OpPut:
		return true, 0, -1
	case OpBoundedInc:
		return true, max(0, value+op.Delta), -1
	case OpBoundedDec, OpBoundedTransfer:
		if rights < op.Delta {
			return false, 0, rights
		}
		if op.Kind == OpBoundedDec {
			return true, max(0, value-op.Delta), -1
		}
		return op.ToActor != self, max(0, value), -1
	case OpMax:
		if present && best >= op.Delta {
			return false, best, -1
		}
		return true, op.Delta, -1
	case OpMin:
		if present && best <= op.Delta {
			return false, best, -1
		}
		return true, op.Delta, -1
	default:
		return present, 0, -1
	}
}

// judge compares what an operation did with the specification.
func (h wholeHistory) judge(op *Op, self crdt.Actor, outcomes []Outcome, deltas []Delta, err error) error {
	effect, answer, have := h.expect(op, self)
	if have >= 0 {
		var few *crdt.InsufficientRightsError
		if !errors.As(err, &few) || few.Have != have {
			return fmt.Errorf("%w with rights %d", err, have)
		}
		return nil
	}
	if err != nil || (len(deltas) == 1) != effect || outcomes[0].Counter != answer {
		return fmt.Errorf("%+v and %d deltas, want %v and %d, %w", outcomes, len(deltas), effect, answer, err)
	}
	return nil
}

func (w *wholeWorld) execute(i int, op Op, now hlc.Time) error {
	n, self := w.nodes[i], crdt.Actor(i+1)
	seen, before := n.r.Vector(), fingerprint(n)
	twin := newNode(self)
	twin.kv = n.kv.Clone()
	if err := twin.reopenAs(self); err != nil {
		return err
	}
	outcomes, deltas, err := n.r.Execute(now, []Op{op})
	again, _, err2 := twin.r.Execute(now, []Op{op})
	w.trace = append(w.trace, fmt.Sprintf("%d: %d %s %d to %d -> %d deltas, %v", self, op.Kind, op.Key, op.Delta, op.ToActor, len(deltas), err))
	if fmt.Sprint(outcomes, err) != fmt.Sprint(again, err2) || fingerprint(n) != fingerprint(twin) {
		return fmt.Errorf("a second replica answers %v %v, not %v %v", again, err2, outcomes, err)
	}
	var refused *OpError
	if err != nil && (!errors.As(err, &refused) || fingerprint(n) != before) {
		return fmt.Errorf("an error that is no refusal, or one that changed the replica: %w", err)
	}
	if w.causal {
		if wrong := w.history.of(op.Key, seen).judge(&op, self, outcomes, deltas, err); wrong != nil {
			return wrong
		}
	}
	for _, d := range deltas {
		w.logs[i] = append(w.logs[i], EncodeDelta(d))
		w.seen[d.Dot] = seen
		w.history = append(w.history, &wholeEvent{d.Dot, d.Time, op.Kind, op.Key, op.Delta, op.ToActor, op.Kind == OpDelete})
	}
	return nil
}

// reopenAs opens the replica that the node's storage holds.
func (n *node) reopenAs(self crdt.Actor) (err error) {
	n.r, err = Open(n.kv, self)
	return err
}

// deliver has a replica merge up to n deltas of another, some of them again.
func (w *wholeWorld) deliver(to, from, n int) error {
	if to == from {
		return nil
	}
	r, actor := w.nodes[to].r, crdt.Actor(from+1)
	have := int(r.Vector().Get(actor))
	first := max(0, have-w.rng.IntN(2))
	var deltas []Delta
	applied := r.Vector()
	for seq := first; seq < min(len(w.logs[from]), have+n); seq++ {
		d, err := DecodeDelta(slices.Clone(w.logs[from][seq]))
		if err != nil {
			return err
		}
		if w.causal && !applied.Descends(w.seen[d.Dot]) {
			break
		}
		applied.Set(actor, max(applied.Get(actor), d.Dot.Seq))
		deltas = append(deltas, d)
	}
	_, err := r.Merge(actor, deltas)
	w.trace = append(w.trace, fmt.Sprintf("%d: merges %d of %d from %d on, %v", to+1, len(deltas), actor, first+1, err))
	return err
}

// expire collects what every other replica has left behind.
func (w *wholeWorld) expire(i int) error {
	r := w.nodes[i].r
	cut := r.LastHLC()
	for a := range w.nodes {
		if a != i {
			cut = min(cut, r.HLCOf(crdt.Actor(a+1)))
		}
	}
	w.trace = append(w.trace, fmt.Sprintf("%d: collects up to %v", i+1, cut))
	before, err := r.Digest()
	if err != nil {
		return err
	}
	if _, err := r.Expire(Expiry{Now: cut, Cut: cut, Limit: 1000}); err != nil {
		return err
	}
	if after, err := r.Digest(); err != nil || after != before {
		return fmt.Errorf("collecting changed the digest, %w", err)
	}
	if due, err := r.Due(Expiry{Now: cut, Cut: cut}); due || err != nil {
		return fmt.Errorf("something is due yet, %w", err)
	}
	return nil
}

func (w *wholeWorld) check(i int, exact bool) error {
	n := w.nodes[i]
	if err := errors.Join(audit(n), auditSpent(n)); err != nil {
		return err
	}
	digest, err := n.r.Digest()
	if err != nil {
		return err
	}
	vector := n.r.Vector()
	if earlier, ok := w.digests[fmt.Sprint(vector)]; ok && earlier != digest {
		return fmt.Errorf("replica %d: digests differ at %v", i+1, vector)
	}
	w.digests[fmt.Sprint(vector)] = digest
	if !exact {
		return nil
	}
	high, hasMax := w.history.of("max", vector).extreme(greater)
	low, hasMin := w.history.of("min", vector).extreme(smaller)
	bounded := w.history.of("b", vector)
	value, _ := bounded.bounded(1)
	for _, want := range []struct {
		key   string
		n     int64
		found bool
	}{{"max", high, hasMax}, {"min", low, hasMin}, {"b", value, len(bounded) > 0}} {
		o, found, err := n.r.Lookup("", want.key, 0)
		if err != nil || found != want.found || o.Counter != want.n {
			return fmt.Errorf("replica %d: %s is %d, %v, want %+v, %w", i+1, want.key, o.Counter, found, want, err)
		}
		for a := crdt.Actor(1); a <= 3 && want.key == "b"; a++ {
			if _, rights := bounded.bounded(a); o.Bounded.Rights(a) != rights || rights < 0 {
				return fmt.Errorf("replica %d: rights of %d are %d, want %d", i+1, a, o.Bounded.Rights(a), rights)
			}
		}
	}
	return nil
}

// auditSpent checks that table Y has exactly the pairs that the objects say.
func auditSpent(n *node) error {
	want, got := map[string]bool{}, map[string]bool{}
	err := n.kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
		if k[0] == tableSpent {
			got[string(k)] = true
		}
		if k[0] != tableObject {
			return true, nil
		}
		_, _, t, err := parseObjectKey(k)
		if err != nil {
			return false, err
		}
		o, err := kinds[t].decode(v)
		var spent hlc.Time
		switch s := o.(type) {
		case *wholeState[crdt.MaxRegister, *crdt.MaxRegister, maxType]:
			spent = s.spent
		case *wholeState[crdt.MinRegister, *crdt.MinRegister, minType]:
			spent = s.spent
		}
		if spent != 0 {
			want[string(instantKey(tableSpent, spent, k))] = true
		}
		return true, err
	})
	if err == nil && !maps.Equal(want, got) {
		err = fmt.Errorf("table Y has %v, want %v", got, want)
	}
	return err
}
