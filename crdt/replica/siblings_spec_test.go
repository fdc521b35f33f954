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

// siblingEvent is what one operation did to one multi-value register or flag, as the specification
// has it: events and who had seen what, no dots, states or joins.
type siblingEvent struct {
	actor     uint32
	seq, time uint64
	seen      map[uint32]uint64
	object    string // key and type
	puts      bool
	value     string
	// replaces are the puts that its author had, of which this one takes the place.
	replaces []*siblingEvent
}

type siblingHistory []*siblingEvent

// live returns the puts of an object, the latest first, that no applied event took the place of. A put
// takes the place of the earlier ones of its own actor, too.
func (h siblingHistory) live(object string, applied map[uint32]uint64) []*siblingEvent {
	return h.survivors(object, applied, func(e, p *siblingEvent) bool {
		return slices.Contains(e.replaces, p) || e.puts && e.actor == p.actor && e.seq > p.seq
	})
}

// unseen returns the puts that the author of no later event on the object had seen: what live must be
// once all is delivered.
func (h siblingHistory) unseen(object string, applied map[uint32]uint64) []*siblingEvent {
	return h.survivors(object, applied, func(e, p *siblingEvent) bool { return p.seq <= e.seen[p.actor] })
}

func (h siblingHistory) survivors(object string, applied map[uint32]uint64, over func(e, p *siblingEvent) bool) []*siblingEvent {
	var live []*siblingEvent
	for _, p := range h {
		gone := func(e *siblingEvent) bool {
			return e.object == object && e.seq <= applied[e.actor] && over(e, p)
		}
		if p.puts && p.object == object && p.seq <= applied[p.actor] && !slices.ContainsFunc(h, gone) {
			live = append(live, p)
		}
	}
	slices.SortFunc(live, func(a, b *siblingEvent) int {
		if a.time > b.time || a.time == b.time && a.actor > b.actor {
			return -1
		}
		return 1
	})
	return live
}

// siblingWorld is one random schedule of three regions.
type siblingWorld struct {
	rng     *rand.Rand
	nodes   []*node
	logs    [][][]byte // encoded deltas of each node
	history siblingHistory
	digests map[string]Digest
	trace   []string
}

var siblingTypes = []crdt.Type{crdt.TypeMVRegister, crdt.TypeEWFlag}

func objectName(key string, t crdt.Type) string { return key + "/" + t.String() }

func TestSiblingsMeetTheSpecification(t *testing.T) {
	for seed := range uint64(300) {
		w := &siblingWorld{rng: rand.New(rand.NewPCG(seed, 7)), logs: make([][][]byte, 3), digests: map[string]Digest{}}
		for i := range w.logs {
			n := newNode(crdt.Actor(i + 1))
			n.headers = NewHeaders(2)
			n.r.UseHeaders(n.headers)
			w.nodes = append(w.nodes, n)
		}
		if err := w.run(80); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
	}
}

func (w *siblingWorld) run(steps int) error {
	for range steps {
		i := w.rng.IntN(len(w.nodes))
		var err error
		switch p := w.rng.IntN(20); {
		case p < 9:
			err = w.execute(i, w.randomOp())
		case p < 18:
			from := w.rng.IntN(len(w.nodes))
			first := uint64(0)
			if have := w.nodes[i].r.Vector().Get(crdt.Actor(from + 1)); have > 0 && w.rng.IntN(3) == 0 {
				first = w.rng.Uint64N(have)
			} else {
				first = have
			}
			err = w.deliver(i, from, int(first), int(first)+1+w.rng.IntN(4))
		default:
			err = w.nodes[i].reopen(crdt.Actor(i + 1))
		}
		if err == nil {
			err = w.check(i, w.history.live)
		}
		if err != nil {
			return err
		}
	}
	if err := w.deliverAll(); err != nil {
		return err
	}
	return w.deleteAll()
}

func (w *siblingWorld) randomOp() Op {
	op := Op{Key: []string{"m", "f", "x"}[w.rng.IntN(3)], AnyType: w.rng.IntN(2) == 0}
	t := map[string]crdt.Type{"m": crdt.TypeMVRegister, "f": crdt.TypeEWFlag, "x": siblingTypes[w.rng.IntN(2)]}[op.Key]
	switch w.rng.IntN(5) {
	case 0:
		op.Kind, op.Type = OpDelete, t
	case 1:
		op.Kind = OpDelete
	default:
		op.Kind = OpMVPut
		if t == crdt.TypeEWFlag {
			op.Kind = []OpKind{OpFlagEnable, OpFlagEnable, OpFlagDisable}[w.rng.IntN(3)]
		} else {
			op.Value = fmt.Appendf(nil, "v%d", w.rng.IntN(3))
		}
	}
	return op
}

// execute runs an operation, on a copy of the node as well.
func (w *siblingWorld) execute(i int, op Op) error {
	n := w.nodes[i]
	seen := vectorMap(n.r)
	same, err := twin(n)
	if err != nil {
		return err
	}
	now := hlc.At(1000+w.rng.Int64N(100), 0)
	outcomes, deltas, err := n.r.Execute(now, []Op{op})
	again, _, err2 := same.r.Execute(now, []Op{op})
	w.trace = append(w.trace, fmt.Sprintf("%d: execute %d on %s/%v %q -> %v, %v", i+1, op.Kind, op.Key, op.Type, op.Value, deltas, err))
	if fmt.Sprint(outcomes, err) != fmt.Sprint(again, err2) || fingerprint(n) != fingerprint(same) {
		return errors.New("the same operation does not do the same")
	}
	on := map[OpKind]crdt.Type{OpMVPut: crdt.TypeMVRegister, OpFlagEnable: crdt.TypeEWFlag, OpFlagDisable: crdt.TypeEWFlag, OpDelete: op.Type}[op.Kind]
	wrong := false
	if on != 0 && !op.AnyType && len(w.history.live(objectName(op.Key, on), seen)) == 0 {
		for _, t := range siblingTypes {
			wrong = wrong || len(w.history.live(objectName(op.Key, t), seen)) > 0
		}
	}
	var wrongType *WrongTypeError
	if wrong != errors.As(err, &wrongType) {
		return fmt.Errorf("wrong type is %v, but the answer %w", wrong, err)
	}
	if wrong {
		return nil
	}
	if err != nil {
		return err
	}
	return w.record(i, &op, on, seen, deltas)
}

// twin returns a copy of a node over a copy of its storage.
func twin(n *node) (*node, error) {
	if err := n.r.Flush(); err != nil {
		return nil, err
	}
	kv := n.kv.Clone()
	r, err := Open(kv, 0)
	return &node{kv: kv, r: r}, err
}

// record adds the events of an operation to the history, and holds its delta against them.
func (w *siblingWorld) record(i int, op *Op, on crdt.Type, seen map[uint32]uint64, deltas []Delta) error {
	var events siblingHistory
	for _, t := range siblingTypes {
		e := &siblingEvent{actor: uint32(i + 1), seq: seen[uint32(i+1)] + 1, seen: seen, object: objectName(op.Key, t)}
		e.replaces = w.history.live(e.object, seen)
		e.puts, e.value = op.Kind == OpMVPut || op.Kind == OpFlagEnable, string(op.Value)
		if (on == 0 || on == t) && (e.puts || len(e.replaces) > 0) {
			events = append(events, e)
		}
	}
	if len(events) == 0 || len(deltas) == 0 {
		if len(events) != len(deltas) {
			return fmt.Errorf("%d events, %d deltas", len(events), len(deltas))
		}
		return nil
	}
	if len(deltas[0].Effects) != len(events) {
		return fmt.Errorf("%d events, but %+v", len(events), deltas[0])
	}
	for _, e := range events {
		e.time = uint64(deltas[0].Time)
	}
	w.history = append(w.history, events...)
	w.logs[i] = append(w.logs[i], EncodeDelta(deltas[0]))
	return nil
}

// deliver merges a stretch of a log, duplicates too.
func (w *siblingWorld) deliver(to, from, first, end int) error {
	end = min(end, len(w.logs[from]))
	if to == from || first >= end {
		return nil
	}
	var deltas []Delta
	for _, data := range w.logs[from][first:end] {
		d, err := DecodeDelta(slices.Clone(data))
		if err != nil {
			return err
		}
		deltas = append(deltas, d)
	}
	same, err := twin(w.nodes[to])
	if err != nil {
		return err
	}
	w.trace = append(w.trace, fmt.Sprintf("%d: merge %d/%d..%d", to+1, from+1, first+1, end))
	if _, err := w.nodes[to].r.Merge(crdt.Actor(from+1), deltas); err != nil {
		return err
	}
	if _, err := same.r.Merge(crdt.Actor(from+1), deltas); err != nil || fingerprint(same) != fingerprint(w.nodes[to]) {
		return fmt.Errorf("the same merge does not do the same, %w", err)
	}
	return nil
}

func (w *siblingWorld) deliverAll() error {
	for to := range w.nodes {
		for from := range w.nodes {
			if err := w.deliver(to, from, 0, len(w.logs[from])); err != nil {
				return err
			}
		}
	}
	for i, n := range w.nodes {
		if n.r.meta.preremovals != 0 {
			return fmt.Errorf("%d pre-removals are left", n.r.meta.preremovals)
		}
		if err := errors.Join(w.check(i, w.history.live), w.check(i, w.history.unseen)); err != nil {
			return err
		}
	}
	return nil
}

// deleteAll deletes everything in one region, and looks whether a trace is left in any.
func (w *siblingWorld) deleteAll() error {
	for _, key := range []string{"m", "f", "x"} {
		if err := w.execute(0, Op{Kind: OpDelete, Key: key}); err != nil {
			return err
		}
	}
	if err := w.deliverAll(); err != nil {
		return err
	}
	for i, n := range w.nodes {
		left := 0
		err := n.kv.Scan(nil, nil, func(k, _ []byte) (bool, error) {
			if k[0] != tableConflicts {
				left++
			}
			return true, nil
		})
		if err != nil || left != 1 {
			return fmt.Errorf("region %d is left with %d pairs, %w", i+1, left, err)
		}
	}
	return nil
}

// check holds what a node answers against what the specification says is live, and its digest against
// all others at the same vector.
func (w *siblingWorld) check(i int, live func(string, map[uint32]uint64) []*siblingEvent) error {
	r := w.nodes[i].r
	if err := audit(w.nodes[i]); err != nil {
		return err
	}
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	vector := fmt.Sprint(r.Vector())
	if earlier, ok := w.digests[vector]; ok && earlier != digest {
		return fmt.Errorf("digests differ at %s", vector)
	}
	w.digests[vector] = digest
	for _, key := range []string{"m", "f", "x"} {
		for _, t := range siblingTypes {
			o, found, err := r.LookupType("", key, t, 0)
			want := live(objectName(key, t), vectorMap(r))
			if err != nil || found != (len(want) > 0) || !sameSiblings(&o, want) {
				return fmt.Errorf("region %d, %s: %v %+v, want %d, %w", i+1, objectName(key, t), found, o, len(want), err)
			}
		}
	}
	return nil
}

func sameSiblings(o *Object, want []*siblingEvent) bool {
	if len(want) > 0 && string(o.Value) != want[0].value {
		return false
	}
	return slices.EqualFunc(o.Siblings, want, func(s crdt.Sibling, e *siblingEvent) bool {
		return uint32(s.Dot.Actor) == e.actor && s.Dot.Seq == e.seq && uint64(s.Time) == e.time && string(s.Value) == e.value
	})
}

// auditSiblings checks a stored multi-value register or flag.
func auditSiblings(m *meta, t crdt.Type, v []byte) error {
	o, err := siblingsKind{t}.decode(v)
	if err != nil {
		return err
	}
	actors := map[crdt.Actor]bool{}
	for _, s := range o.(*siblings).list {
		actors[s.Dot.Actor] = true
		if !somewhere(m, s.Dot) || s.Time > m.latest() {
			return fmt.Errorf("sibling %+v at vector %v", s, m.vector)
		}
	}
	if n := len(o.(*siblings).list); len(actors) != n {
		return fmt.Errorf("%d siblings of the actors %v", n, slices.Sorted(maps.Keys(actors)))
	}
	return nil
}
