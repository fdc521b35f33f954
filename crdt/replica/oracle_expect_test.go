package replica

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// randomOp draws from few keys and elements, so that regions collide. Key "x" holds any type.
func (w *world) randomOp(s *site) Op {
	key := []string{"r", "c", "s", "s", "x"}[w.rng.IntN(5)]
	group := key
	if key == "x" {
		group = []string{"r", "c", "s"}[w.rng.IntN(3)]
	}
	op := Op{Namespace: "n", Key: key}
	switch group {
	case "r":
		op.Kind = []OpKind{OpPut, OpPut, OpPut, OpDelete}[w.rng.IntN(4)]
		op.Value = fmt.Appendf(nil, "v%d", w.rng.IntN(4))
		if w.rng.IntN(4) == 0 {
			op.Expires = hlc.At(s.clock+w.rng.Int64N(60), 0)
		}
	case "c":
		op.Kind = []OpKind{OpCounterAdd, OpCounterAdd, OpCounterAdd, OpCounterSet, OpCounterReset, OpDelete}[w.rng.IntN(6)]
		op.Delta = w.rng.Int64N(21) - 10
	default:
		op.Kind = []OpKind{OpSetAdd, OpSetAdd, OpSetAdd, OpSetRemove, OpSetRemove, OpSetClear, OpDelete}[w.rng.IntN(7)]
		for range w.rng.IntN(4) {
			op.Elements = append(op.Elements, []byte{'a' + byte(w.rng.IntN(5))})
		}
	}
	if op.Kind == OpDelete {
		op.Type = map[string]crdt.Type{"r": 1, "c": 2, "s": 3}[group]
		if w.rng.IntN(2) == 0 {
			op.Type = 0
		}
	}
	if w.rng.IntN(4) == 0 {
		w.addCondition(s, &op, group)
	}
	return op
}

func (w *world) addCondition(s *site, op *Op, group string) {
	op.Condition.Kind = ConditionKind(1 + w.rng.IntN(2))
	if group != "r" || w.rng.IntN(2) == 0 {
		return
	}
	op.Condition.Kind = CondVersion + ConditionKind(w.rng.IntN(2))
	op.Condition.Value = fmt.Appendf(nil, "v%d", w.rng.IntN(4))
	if e := w.history.at(vectorMap(s.leader.r)).register(op.Key); e != nil {
		op.Condition.Version = registerVersion(e)
	}
}

func registerVersion(e *specEvent) string { return fmt.Sprintf("%016x%08x", e.time, e.actor) }

// expectation is what the specification says about one operation.
type expectation struct {
	refusal string // "", "type" or "condition"
	types   []crdt.Type
	outcome Outcome // but for the version
}

// specState is what the specification says about one key at one instant.
type specState struct {
	register *specEvent // nil unless live
	sum      int64
	present  bool
	elements []string
}

func (h history) state(key string, at uint64) specState {
	var s specState
	if e := h.register(key); e != nil && !e.deleted && (e.expires == 0 || e.expires > at) {
		s.register = e
	}
	s.sum, s.present = h.counter(key)
	s.elements = h.set(key)
	return s
}

func (s *specState) types() []crdt.Type {
	var types []crdt.Type
	if s.register != nil {
		types = append(types, crdt.TypeLWWRegister)
	}
	if s.present {
		types = append(types, crdt.TypeCounter)
	}
	if len(s.elements) > 0 {
		types = append(types, crdt.TypeAWSet)
	}
	return types
}

// subject returns the type that an operation is on; 0 means all.
func subject(op *Op) crdt.Type {
	switch op.Kind {
	case OpPut:
		return crdt.TypeLWWRegister
	case OpDelete:
		return op.Type
	case OpCounterAdd, OpCounterSet, OpCounterReset:
		return crdt.TypeCounter
	default:
		return crdt.TypeAWSet
	}
}

// expect returns what the specification says about an operation at an instant, given what its author
// has applied.
func (h history) expect(op *Op, at uint64) expectation {
	state := h.state(op.Key, at)
	live, on := state.types(), subject(op)
	if on != 0 && len(live) > 0 && !slices.Contains(live, on) {
		return expectation{refusal: "type"}
	}
	subjects := live
	if on != 0 {
		subjects = slices.DeleteFunc(slices.Clone(live), func(t crdt.Type) bool { return t != on })
	}
	want := expectation{outcome: Outcome{Existed: len(subjects) > 0}}
	if !state.meets(&op.Condition, len(subjects) > 0, len(live) > 0 && live[0] == crdt.TypeLWWRegister || on == crdt.TypeLWWRegister) {
		want.refusal = "condition"
		return want
	}
	switch op.Kind {
	case OpPut:
		want.types = []crdt.Type{on}
	case OpCounterAdd:
		want.types, want.outcome.Counter = []crdt.Type{on}, state.sum+op.Delta
	case OpCounterSet:
		want.types, want.outcome.Counter = []crdt.Type{on}, op.Delta
	case OpSetAdd, OpSetRemove:
		want.expectElements(op, state.elements)
	default:
		want.types = subjects
		if len(subjects) > 0 && subjects[0] == crdt.TypeAWSet {
			want.outcome.Changed = uint64(len(state.elements))
		}
	}
	return want
}

func (s *specState) meets(c *Condition, present, onRegister bool) bool {
	switch c.Kind {
	case CondNone:
		return true
	case CondAbsent:
		return !present
	case CondPresent:
		return present
	case CondVersion:
		return present && onRegister && s.register != nil && registerVersion(s.register) == c.Version
	default:
		return present && s.register != nil && s.register.value == string(c.Value)
	}
}

func (want *expectation) expectElements(op *Op, have []string) {
	after := slices.Clone(have)
	for _, e := range texts(op.Elements) {
		i, found := slices.BinarySearch(after, e)
		switch {
		case op.Kind == OpSetAdd && !found:
			after = slices.Insert(after, i, e)
			want.outcome.Changed++
		case op.Kind == OpSetRemove && found:
			after = slices.Delete(after, i, i+1)
			want.outcome.Changed++
		}
	}
	want.outcome.Size = uint64(len(after))
	if want.outcome.Changed > 0 || op.Kind == OpSetAdd && len(op.Elements) > 0 {
		want.types = []crdt.Type{crdt.TypeAWSet}
	}
}

// compareBatch holds the answers to a batch against the specification. It leaves the events that the
// batch should make in the history.
func (w *world) compareBatch(s *site, seen map[uint32]uint64, now hlc.Time, ops []Op, outcomes []Outcome, refused *OpError) error {
	seen = maps.Clone(seen)
	for i := range ops {
		visible := w.history.at(seen)
		at := uint64(now)
		for _, e := range visible {
			at = max(at, e.time+1)
		}
		want := visible.expect(&ops[i], at)
		if want.refusal != "" {
			if refused == nil || refused.Index != i || refusal(refused) != want.refusal {
				return fmt.Errorf("operation %d should be refused because of its %s, not %v", i, want.refusal, refused)
			}
			return nil
		}
		if refused != nil && refused.Index == i {
			return fmt.Errorf("operation should not be refused: %w", refused)
		}
		if refused == nil {
			got := outcomes[i]
			got.Version = ""
			if got != want.outcome {
				return fmt.Errorf("operation %d answers %+v, want %+v", i, got, want.outcome)
			}
		}
		if len(want.types) > 0 {
			e := newEvent(&ops[i], want.types, maps.Clone(seen))
			e.actor, e.time = uint32(s.actor), at
			e.seq = seen[e.actor] + 1
			seen[e.actor]++
			w.history = append(w.history, e)
		}
	}
	return nil
}

func refusal(e *OpError) string {
	var wrongType *WrongTypeError
	var condition *ConditionError
	switch {
	case errors.As(e, &wrongType):
		return "type"
	case errors.As(e, &condition):
		return "condition"
	default:
		return e.Error()
	}
}

// check holds a region against the rules that hold at every step, and its values against the
// specification if they are exact now.
func (w *world) check(s *site, exact bool) error {
	r := s.leader.r
	if fingerprint(s.leader) != fingerprint(s.follower) {
		return fmt.Errorf("region %d: leader and follower differ", s.actor)
	}
	if err := audit(s.leader); err != nil {
		return fmt.Errorf("region %d: %w", s.actor, err)
	}
	if !r.Resyncing() {
		digest, err := r.Digest()
		if err != nil {
			return err
		}
		vector := fmt.Sprint(r.Vector())
		if earlier, ok := w.digests[vector]; ok && earlier != digest {
			return fmt.Errorf("region %d: digests differ at vector %s", s.actor, vector)
		}
		w.digests[vector] = digest
	}
	if !exact {
		return nil
	}
	for _, key := range []string{"r", "c", "s", "x"} {
		seen, whole := s.seenAt(key)
		if !whole {
			continue
		}
		if err := compareKey(r, w.history.at(seen), key, uint64(max(r.LastHLC(), hlc.At(s.clock, 0)))); err != nil {
			return fmt.Errorf("region %d, key %q: %w", s.actor, key, err)
		}
	}
	return nil
}

// compareKey compares what a replica reads with the specification.
func compareKey(r *Replica, visible history, key string, now uint64) error {
	for _, e := range visible {
		now = max(now, e.time)
	}
	want := visible.state(key, now)
	objects := map[crdt.Type]Object{}
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		o, ok, err := r.LookupType("n", key, t, hlc.Time(now))
		if err != nil {
			return err
		}
		if ok {
			objects[t] = o
		}
	}
	if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, want.types()) {
		return fmt.Errorf("types %v, want %v", got, want.types())
	}
	if err := compareValues(objects, &want); err != nil {
		return err
	}
	members, _, err := r.SetMembers("n", key, nil, 1000, 1<<20)
	if err != nil || !slices.Equal(texts(members), want.elements) {
		return fmt.Errorf("set %q, want %q, %w", members, want.elements, err)
	}
	first, ok, err := r.Lookup("n", key, hlc.Time(now))
	if err != nil {
		return err
	}
	if types := want.types(); ok != (len(types) > 0) || ok && (first.Type != types[0] || !bytes.Equal(first.Value, objects[first.Type].Value)) {
		return fmt.Errorf("untyped lookup finds %v %+v among %v", ok, first, types)
	}
	return nil
}

func compareValues(objects map[crdt.Type]Object, want *specState) error {
	if o, ok := objects[crdt.TypeLWWRegister]; ok {
		if string(o.Value) != want.register.value || o.Version != registerVersion(want.register) || uint64(o.Expires) != want.register.expires {
			return fmt.Errorf("register %+v, want %+v", o, want.register)
		}
	}
	if o := objects[crdt.TypeCounter]; o.Counter != want.sum {
		return fmt.Errorf("counter %d, want %d", o.Counter, want.sum)
	}
	if o := objects[crdt.TypeAWSet]; o.Size != uint64(len(want.elements)) {
		return fmt.Errorf("set of %d, want %q", o.Size, want.elements)
	}
	return nil
}
