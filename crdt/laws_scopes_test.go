package crdt

import (
	"bytes"
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLaws holds every type to the same laws, over random runs of its scope that are longer than those
// of TestExhaustive: joins are commutative, associative, idempotent and monotone; to join a change is to
// do the operation; the changes that a replica has are its state, in any order; and what is decoded is
// what was encoded, with its causal context. The tests of the types do so with more operations, but not
// all of them check all of it.
func TestLaws(t *testing.T) {
	for _, s := range scopes() {
		t.Run(s.String(), func(t *testing.T) { rapid.Check(t, s.laws) })
	}
}

// lawEvents bounds the operations of a run: specifications sort the ids of events by their first digit.
const lawEvents = 10

func (s *scope[S]) laws(t *rapid.T) {
	r := scopeRun[S]{scope: s}
	var zero S
	states := []S{zero}
	for range between(1, 20).Draw(t, "steps") {
		at := between(0, scopeReplicas-1).Draw(t, "replica")
		old := r.states[at]
		from := between(-5, scopeReplicas-1).Draw(t, "from")
		waiting := r.waiting(at)
		var err error
		switch {
		case from < -2 && len(r.history) < lawEvents:
			op := r.ops[between(0, len(r.ops)-1).Draw(t, "op")]
			r, err = r.take(scopeStep{at, at, len(r.sent[at]), op})
			last := r.sent[at][len(r.sent[at])-1]
			r.changeIsOperation(t, old, r.states[at], last.state)
			states = append(states, last.state)
		case from < 0 && len(waiting) > 0:
			r, err = r.take(rapid.SampledFrom(waiting).Draw(t, "message"))
		case from >= 0:
			r = r.receive(at, scopeMessage[S]{state: r.states[from], events: r.seen[from]})
			err = r.check(at)
		}
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, r.states[at])
	}
	checkLaws(t, states, s.join, S.Equal)
	for at := range scopeReplicas {
		r.changesAreState(t, at)
	}
	for _, v := range states {
		if v.Equal(zero) {
			continue // The golden vectors have it, but for a register's: one that was never written has no encoding.
		}
		s.encodes(t, v, rapid.SampledFrom(states).Draw(t, "other"))
	}
}

// changeIsOperation checks that to join a change to the state before an operation is to do it, that to
// join it again changes nothing, and that an operation only adds to a state.
func (r scopeRun[S]) changeIsOperation(t *rapid.T, old, after, change S) {
	for name, got := range map[string]S{
		"change":       r.join(old, change),
		"change first": r.join(change, old),
		"change again": r.join(after, change),
		"old state":    r.join(after, old),
	} {
		if !got.Equal(after) {
			t.Fatalf("%v: joined with the %s: %+v, not %+v", r.steps, name, got, after)
		}
	}
}

// changesAreState checks that all that was sent by the operations that a replica has seen, joined in
// the order in which it was done and in another, is the replica's state.
func (r scopeRun[S]) changesAreState(t *rapid.T, at int) {
	var sent []scopeMessage[S]
	for _, m := range slices.Concat(r.sent[:]...) {
		if r.seen[at].has(m.id) {
			sent = append(sent, m)
		}
	}
	slices.SortFunc(sent, func(a, b scopeMessage[S]) int { return cmp.Compare(a.id, b.id) })
	for _, order := range [][]scopeMessage[S]{sent, rapid.Permutation(sent).Draw(t, "order")} {
		var joined S
		for _, m := range order {
			joined = r.join(joined, m.state)
		}
		if !joined.Equal(r.states[at]) {
			t.Fatalf("%v: all that replica %c has seen makes %+v, not %+v", r.steps, 'A'+at, joined, r.states[at])
		}
	}
}

// encodes checks that a state comes back from its encoding, that it has no other one, and that it then
// joins with another state as before: that depends on its context.
func (s *scope[S]) encodes(t *rapid.T, v, other S) {
	data := v.Append(nil)
	got, err := s.decode(data)
	if err != nil || !got.Equal(v) || !bytes.Equal(got.Append(nil), data) {
		t.Fatalf("%+v comes back as %+v, %v", v, got, err)
	}
	if joined := s.join(v, other); !s.join(got, other).Equal(joined) || !s.join(other, got).Equal(joined) {
		t.Fatalf("%+v comes back as %+v, which joins with %+v in another way", v, got, other)
	}
}
