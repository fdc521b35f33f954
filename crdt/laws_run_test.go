package crdt

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/hlc"
	"github.com/zeebo/xxh3"
)

// law is one of the laws that every type is held to.
type law uint8

// The laws. What a case of each is about is what two cases have to differ in to be two.
const (
	lawCommutative   law = iota // two states
	lawAssociative              // three states
	lawIdempotent               // a state
	lawNeutral                  // a state
	lawMonotone                 // three states
	lawChange                   // the state before an operation, and its change
	lawOrders                   // the changes of a replica, in an order
	lawEncoding                 // a state, and one to join it with
	lawSpecification            // a state, and the history that its replica has seen
	lawsOfAll
)

var lawNames = [lawsOfAll]string{
	"commutative", "associative", "idempotent", "neutral zero", "monotone", "change is operation", "changes in any order",
	"encoding", "specification",
}

// lawCounts counts the cases of each law. It counts those only that differ from all before, if it is not nil.
type lawCounts struct {
	cases [lawsOfAll]int
	seen  [lawsOfAll]hashSet
	// goal is of how many cases of a law no more are wanted.
	goal int
}

// wants reports whether a case is to be checked. The hashes say what it is about.
func (c *lawCounts) wants(l law, about ...uint64) bool {
	if c == nil {
		return true
	}
	if c.cases[l] >= c.goal {
		return false
	}
	h := uint64(len(about))
	for _, a := range about {
		// Not commutative, and a bijection of either argument.
		h = (h^a)*0x9e3779b97f4a7c15 + 0x632be59bd9b4e019
		h ^= h >> 29
	}
	if !c.seen[l].add(h, c.goal) {
		return false
	}
	c.cases[l]++
	return true
}

func (c *lawCounts) done() bool {
	return !slices.ContainsFunc(c.cases[:], func(n int) bool { return n < c.goal })
}

// hashSet is a set of hashes, of which 0 is none.
type hashSet []uint64

// add adds a hash to a set that will have n at most, and reports whether it is new.
func (s *hashSet) add(h uint64, n int) bool {
	if *s == nil {
		size := 8
		for size < 2*n {
			size *= 2
		}
		*s = make(hashSet, size)
	}
	h = max(h, 1)
	for i := h; ; i++ {
		switch at := &(*s)[i%uint64(len(*s))]; *at {
		case h:
			return false
		case 0:
			*at = h
			return true
		}
	}
}

// lawRun is a random run of replicas of a scope, and what it has reached.
type lawRun[S scopeState[S]] struct {
	scopeRun[S]
	choose func(n int) int
	count  *lawCounts
	// states are all that differ, as hashes says, of those that replicas had and sent.
	states []S
	hashes []uint64
	// fields says that operations come with fields of a newer program.
	fields bool
	buffer []byte
}

// lawEvents bounds the operations of a run: specifications sort the ids of events by their first digit.
const lawEvents = 10

// law draws a run of the scope, and checks the laws on what it has reached.
func (s *scope[S]) law(choose func(n int) int, count *lawCounts) error {
	r := &lawRun[S]{scopeRun: scopeRun[S]{scope: s}, choose: choose, count: count}
	var zero S
	r.note(zero)
	r.start = hlc.Time(choose(1 << 16))
	for at := range r.seqs {
		r.seqs[at] = uint64(choose(1 << 12))
	}
	_, extends := any(&zero).(hasFields)
	r.fields = extends && choose(3) == 0
	for range 1 + choose(20) {
		if err := r.step(); err != nil {
			return err
		}
	}
	return r.check()
}

// step does an operation, receives a message, or receives another replica's present state.
func (r *lawRun[S]) step() (err error) {
	at := r.choose(scopeReplicas)
	from := r.choose(scopeReplicas+5) - 5
	waiting := r.waiting(at)
	switch {
	case from < -2 && len(r.history) < lawEvents:
		return r.operate(at)
	case from < 0 && len(waiting) > 0:
		r.scopeRun, err = r.take(waiting[r.choose(len(waiting))])
	case from >= 0:
		r.scopeRun = r.receive(at, scopeMessage[S]{state: r.scopeRun.states[from], events: r.seen[from]})
		err = r.scopeRun.check(at)
	}
	if err == nil {
		r.specified(at)
	}
	return err
}

// operate does an operation, and checks that its change is the operation.
func (r *lawRun[S]) operate(at int) (err error) {
	s := r.operates(at, r.ops[r.choose(len(r.ops))])
	s.op.skew += hlc.Time(r.choose(3))
	s.gap = uint64(r.choose(3))
	if r.fields && r.choose(2) == 0 {
		s.unknown = Fields([]byte{byte(1 + r.choose(3)), 1, byte('a' + r.choose(3))})
	}
	old := r.scopeRun.states[at]
	if r.scopeRun, err = r.take(s); err != nil {
		return err
	}
	change := r.sent[at][len(r.sent[at])-1].state
	about := r.note(change)
	r.specified(at)
	if !r.count.wants(lawChange, r.hash(old), about) {
		return nil
	}
	return r.changeIsOperation(old, r.scopeRun.states[at], change)
}

// specified notes the state that a replica reached, which was compared with the specification.
func (r *lawRun[S]) specified(at int) {
	about := r.note(r.scopeRun.states[at])
	if r.count == nil {
		return
	}
	b := r.buffer[:0]
	for _, e := range r.history {
		if r.seen[at].has(e.id) {
			b = append(b, e.op...)
			b = append(b, byte(e.dot.Actor), byte(e.before), byte(e.before>>8), byte(e.at), byte(e.dot.Seq))
		}
	}
	r.buffer = b
	r.count.wants(lawSpecification, about, xxh3.Hash(b))
}

// note keeps a state if there is none like it, and returns its hash.
func (r *lawRun[S]) note(state S) uint64 {
	h := r.hash(state)
	if !slices.Contains(r.hashes, h) {
		r.states, r.hashes = append(r.states, state), append(r.hashes, h)
	}
	return h
}

func (r *lawRun[S]) hash(state S) uint64 {
	r.buffer = state.Append(r.buffer[:0])
	return xxh3.Hash(r.buffer)
}

// check holds the states to the laws.
func (r *lawRun[S]) check() error {
	n := len(r.states)
	for a := range r.states {
		if err := r.checkOne(a, r.choose(n)); err != nil {
			return err
		}
		for range 3 {
			if err := r.checkMany(a, r.choose(n), r.choose(n)); err != nil {
				return err
			}
		}
	}
	for at := range scopeReplicas {
		if err := r.changesAreState(at); err != nil {
			return err
		}
	}
	return nil
}

// checkOne checks the laws of one state, which is not joined with more than one other.
func (r *lawRun[S]) checkOne(i, j int) error {
	a, about := r.states[i], r.hashes[i]
	var zero S
	if r.count.wants(lawIdempotent, about) && !r.join(a, a).Equal(a) {
		return r.broken(lawIdempotent, a)
	}
	if r.count.wants(lawNeutral, about) && (!r.join(a, zero).Equal(a) || !r.join(zero, a).Equal(a)) {
		return r.broken(lawNeutral, a)
	}
	// The golden vectors have the zero state, but for a register's: one that was never written has no encoding.
	if a.Equal(zero) || !r.count.wants(lawEncoding, about, r.hashes[j]) {
		return nil
	}
	// A state has no other encoding, and joins afterwards as before: that depends on its context.
	other := r.states[j]
	data := a.Append(nil)
	got, err := r.decode(data)
	if err != nil || !got.Equal(a) || !bytes.Equal(got.Append(nil), data) {
		return fmt.Errorf("%w comes back as %+v, %w", r.broken(lawEncoding, a), got, err)
	}
	if joined := r.join(a, other); !r.join(got, other).Equal(joined) || !r.join(other, got).Equal(joined) {
		return r.broken(lawEncoding, a, other)
	}
	return nil
}

// checkMany checks the laws of two and three states.
func (r *lawRun[S]) checkMany(i, j, k int) error {
	a, b, c := r.states[i], r.states[j], r.states[k]
	x, y, z := r.hashes[i], r.hashes[j], r.hashes[k]
	ab := r.join(a, b)
	if r.count.wants(lawCommutative, x, y) && !ab.Equal(r.join(b, a)) {
		return r.broken(lawCommutative, a, b)
	}
	if r.count.wants(lawAssociative, x, y, z) && !r.join(ab, c).Equal(r.join(a, r.join(b, c))) {
		return r.broken(lawAssociative, a, b, c)
	}
	if r.count.wants(lawMonotone, x, y, z) && (!r.join(ab, a).Equal(ab) || !r.join(ab, r.join(a, c)).Equal(r.join(ab, c))) {
		return r.broken(lawMonotone, a, b, c)
	}
	return nil
}

// broken says which law does not hold, and of what.
func (r *lawRun[S]) broken(l law, states ...S) error {
	return fmt.Errorf("%v: not %s: %+v", r.steps, lawNames[l], states)
}

// changeIsOperation checks that to join a change to the state before an operation is to do it, that to
// join it again changes nothing, and that an operation only adds to a state.
func (r *lawRun[S]) changeIsOperation(old, after, change S) error {
	for _, with := range []struct {
		what string
		got  S
	}{
		{"change", r.join(old, change)},
		{"change first", r.join(change, old)},
		{"change again", r.join(after, change)},
		{"old state", r.join(after, old)},
	} {
		if !with.got.Equal(after) {
			return fmt.Errorf("%v: joined with the %s: %+v, not %+v", r.steps, with.what, with.got, after)
		}
	}
	return nil
}

// changesAreState checks that all that was sent by the operations that a replica has seen, joined in
// the order in which it was done and in others, is the replica's state.
func (r *lawRun[S]) changesAreState(at int) error {
	var sent []scopeMessage[S]
	for _, e := range r.history {
		if !r.seen[at].has(e.id) {
			continue
		}
		for _, m := range r.sent[e.dot.Actor-1] {
			if m.id == e.id {
				sent = append(sent, m)
			}
		}
	}
	for range 4 {
		about := r.buffer[:0]
		var joined S
		for _, m := range sent {
			joined = r.join(joined, m.state)
			about = m.state.Append(about)
		}
		r.buffer = about
		if r.count.wants(lawOrders, xxh3.Hash(about)) && !joined.Equal(r.scopeRun.states[at]) {
			return fmt.Errorf("%v: all that replica %c has seen makes %+v, not %+v", r.steps, 'A'+at, joined, r.scopeRun.states[at])
		}
		for i := range sent {
			j := i + r.choose(len(sent)-i)
			sent[i], sent[j] = sent[j], sent[i]
		}
	}
	return nil
}
