package crdt

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/hlc"
)

// A small-scope check: every schedule of three replicas and a few operations is run, and after every
// step the value is compared with a specification that knows the history only. Most faults of a join
// show in a history this small; random runs may find them, this shows that there are none.
//
// An operation changes its replica and sends one message to each of the others: the state after it, or
// the change alone. Messages from one replica to another arrive in order, and those of different
// replicas in any order, before or after any operation of the receiver.
//
// A schedule is a row of turns. In a turn one replica receives some messages and then does an
// operation. After the last turn each replica receives all that is left, in every order. Schedules
// that differ only in the order of turns that do not depend on each other are one: see redundant. Orders of
// receiving with the same state in the end go on together: see receipt. With the flag, of many schedules
// of a type that cannot tell replicas apart one is run for all that differ in that: see weight. All are counted,
// and the number is compared with one that was found otherwise.

var exhaustive = flag.Bool("exhaustive", false, "run every schedule of up to 5 operations, which takes a quarter of an hour; see them counted with -v")

const (
	scopeReplicas = 3
	scopeDepth    = 5 // operations at most
	// As many operations are run as make this many schedules at most per type, without the flag and with.
	scopeBudget           = 50_000
	scopeBudgetExhaustive = 50_000_000
)

// schedulesOf is how many schedules there are of n operations of one kind. Of two operations there are
// 21: 3 in which one replica does both, because nobody else's order can differ, and 6 for each of 3
// pairs of replicas. In those, each of the three has its two steps in either order, 8 ways, but for 2
// in which both of the pair receive before they send. The others were counted by another program.
var schedulesOf = [scopeDepth + 1]int{1, 3, 21, 209, 2517, 34473}

// scopeState is a state of a type to check.
type scopeState[S any] interface {
	encoder
	Equal(S) bool
}

// scope is a type to check: add one to scopes.
type scope[S scopeState[S]] struct {
	name string
	// ops are the operations; the first one inserts something and the last one removes it again.
	ops []scopeOp
	// apply does an operation on a state, without changing it in place, and returns the state after it
	// and what to send: that state, or the change alone.
	apply func(s S, e scopeEvent) (after, message S)
	// changes says that messages are changes alone. They may then arrive before what their sender had
	// seen.
	changes bool
	// symmetric says that no replica is before another: no tie is broken by actors, and operations do not
	// name them. Then of schedules in which only the replicas are exchanged one stands for all.
	symmetric bool
	// keeps says that nothing removes what another replica inserted.
	keeps bool
	// join does not change its arguments in place.
	join func(a, b S) S
	// value shows what a user sees of a state.
	value func(S) string
	// decode reads what S.Append wrote.
	decode func([]byte) (S, error)
	// spec returns the value of a replica that has seen these events. It does not keep them.
	spec func(seen []scopeEvent) string
	// scratch has room for what spec gets.
	scratch [scopeDepth]scopeEvent
}

// scopeOp is a kind of operation. Its replica's clock jumps ahead by skew first.
type scopeOp struct {
	name string
	skew hlc.Time
}

// scopeEvent is an operation that was done, the id-th of the run: its time is after those of all events
// in before, which are what its replica had seen.
type scopeEvent struct {
	op     string
	id     int
	dot    Dot
	at     hlc.Time
	before scopeSet
}

// had reports whether the event's replica had seen o.
func (e scopeEvent) had(o scopeEvent) bool { return e.before.has(o.id) }

// scopeSet is a set of events, by their ids.
type scopeSet uint16

func (s scopeSet) has(id int) bool { return s>>id&1 == 1 }

// scopeStep is a step of a schedule: replica at does an operation, its n-th, or receives the n-th
// message of replica from.
type scopeStep struct {
	at, from, n int
	op          scopeOp
	// gap is how many sequence numbers the operation leaves out, and unknown the fields of a newer program
	// that it comes with. The exhaustive check has neither.
	gap     uint64
	unknown Fields
}

func (s scopeStep) String() string {
	if s.at == s.from {
		return fmt.Sprintf("%c %s", 'A'+s.at, s.op.name)
	}
	return fmt.Sprintf("%c<%c%d", 'A'+s.at, 'A'+s.from, s.n+1)
}

// scopeSteps are the steps of a run, the last one first. Runs that go on from one have its steps in common.
type scopeSteps struct {
	before *scopeSteps
	scopeStep
}

// String shows the steps from the first on.
func (s *scopeSteps) String() string {
	var texts []string
	for ; s != nil; s = s.before {
		texts = append(texts, s.scopeStep.String())
	}
	slices.Reverse(texts)
	return fmt.Sprint(texts)
}

// scopeMessage is what replicas send after event id: a state or change, and the events in it.
type scopeMessage[S any] struct {
	id     int
	state  S
	events scopeSet
}

// scopeRun is a run of replicas up to some step. A step returns the run after it and leaves the run
// before it as it is, so that the search can go back.
type scopeRun[S scopeState[S]] struct {
	*scope[S]
	states  [scopeReplicas]S
	seen    [scopeReplicas]scopeSet
	history []scopeEvent
	// start is an instant before all events, and seqs are the last sequence numbers of the replicas.
	start hlc.Time
	seqs  [scopeReplicas]uint64
	sent  [scopeReplicas][]scopeMessage[S]
	// received counts the messages that a replica has of another.
	received [scopeReplicas][scopeReplicas]int
	// turn has the events whose messages were received in the turn that is not over yet.
	turn  scopeSet
	steps *scopeSteps
	// folded leaves out schedules that stand for each other, but counts them.
	folded bool
}

// take does a step, and checks the replica that did it.
func (r scopeRun[S]) take(s scopeStep) (scopeRun[S], error) {
	if s.at == s.from {
		e := r.event(s)
		after, message := r.apply(r.states[s.at], e)
		if s.unknown != "" {
			addFields(&after, s.unknown)
			addFields(&message, s.unknown)
		}
		r.states[s.at] = after
		r.seqs[s.at] = e.dot.Seq
		r.seen[s.at] |= 1 << e.id
		events := r.seen[s.at]
		if r.changes {
			events = 1 << e.id
		}
		r.history = append(r.history, e)
		r.sent[s.at] = append(r.sent[s.at], scopeMessage[S]{e.id, message, events})
		r.turn = 0
	} else {
		m := r.sent[s.from][s.n]
		r = r.receive(s.at, m)
		r.received[s.at][s.from]++
		r.turn |= 1 << m.id
	}
	r.steps = &scopeSteps{r.steps, s}
	return r, r.check(s.at)
}

func (r scopeRun[S]) event(s scopeStep) scopeEvent {
	e := scopeEvent{op: s.op.name, id: len(r.history), at: r.start, before: r.seen[s.at]}
	e.dot = Dot{Actor(s.at + 1), r.seqs[s.at] + s.gap + 1}
	for _, o := range r.history {
		if e.had(o) {
			e.at = max(e.at, o.at)
		}
	}
	e.at += 1 + s.op.skew
	return e
}

func (r scopeRun[S]) receive(at int, m scopeMessage[S]) scopeRun[S] {
	r.states[at] = r.join(r.states[at], m.state)
	r.seen[at] |= m.events
	return r
}

// check compares a replica's value with the specification, unless it has an event without one that the
// event's replica had seen: types need not make sense of that before the rest arrives.
func (r scopeRun[S]) check(at int) error {
	seen := r.scratch[:0]
	for _, e := range r.history {
		if !r.seen[at].has(e.id) {
			continue
		}
		if e.before&^r.seen[at] != 0 {
			return nil
		}
		seen = append(seen, e)
	}
	if got, want := r.value(r.states[at]), r.spec(seen); got != want {
		return fmt.Errorf("%v: replica %c has %q, want %q", r.steps, 'A'+at, got, want)
	}
	return nil
}

// operates returns the step in which a replica does an operation.
func (r *scopeRun[S]) operates(at int, op scopeOp) scopeStep {
	return scopeStep{at: at, from: at, n: len(r.sent[at]), op: op}
}

// waiting returns the steps in which a replica receives what it can receive next.
func (r scopeRun[S]) waiting(at int) []scopeStep {
	var steps []scopeStep
	for from := range scopeReplicas {
		if n := r.received[at][from]; at != from && n < len(r.sent[from]) {
			steps = append(steps, scopeStep{at: at, from: from, n: n})
		}
	}
	return steps
}

// explore runs all that can follow a turn, up to depth turns, and returns how many schedules it was.
func (r scopeRun[S]) explore(depth int) (schedules int, err error) {
	if len(r.history) == depth {
		weight := r.weight()
		if weight > 0 {
			schedules, err = r.finish()
		}
		return weight * schedules, err
	}
	if r.folded && r.disordered(depth) {
		return 0, nil
	}
	for at := range scopeReplicas {
		n, err := r.exploreTurn(at, depth)
		schedules += n
		if err != nil {
			return schedules, err
		}
	}
	return schedules, nil
}

// exploreTurn runs all that can follow if replica at has the next turn: it receives nothing, one message,
// two and so on, and then does an operation.
func (r scopeRun[S]) exploreTurn(at, depth int) (schedules int, err error) {
	received := []receipt[S]{{r, 1}}
	for len(received) > 0 {
		for _, begun := range received {
			n, err := begun.run.exploreOps(at, depth)
			schedules += begun.orders * n
			if err != nil {
				return schedules, err
			}
		}
		if received, err = receiveOne(received, at); err != nil {
			return schedules, err
		}
	}
	return schedules, nil
}

// exploreOps goes on with the operation that ends a turn.
func (r scopeRun[S]) exploreOps(at, depth int) (schedules int, err error) {
	if r.redundant(at) {
		return 0, nil
	}
	for _, op := range r.ops {
		after, err := r.take(r.operates(at, op))
		if err != nil {
			return schedules, err
		}
		n, err := after.explore(depth)
		schedules += n
		if err != nil {
			return schedules, err
		}
	}
	return schedules, nil
}

// receipt is a run in which a replica has received some messages, and in how many orders that can be with
// the same state in the end. What follows is the same for all of them, so it is run once.
type receipt[S scopeState[S]] struct {
	run    scopeRun[S]
	orders int
}

// receiveOne has replica at receive one message more, each that can be next.
func receiveOne[S scopeState[S]](before []receipt[S], at int) (after []receipt[S], err error) {
	for _, b := range before {
		for _, s := range b.run.waiting(at) {
			run, err := b.run.take(s)
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(after, func(o receipt[S]) bool {
				return o.run.received[at] == run.received[at] && o.run.states[at].Equal(run.states[at])
			})
			if i < 0 {
				after = append(after, receipt[S]{run, b.orders})
			} else {
				after[i].orders += b.orders
			}
		}
	}
	return after, nil
}

// redundant reports whether the schedule that has this turn of a replica next is also run in another
// order, with the turn moved to before one of a later replica. A turn cannot move to before one of the
// same replica, or one whose message it receives.
//
// Ref: Anisimov, Knuth, "Inhomogeneous sorting", 1979: of all such orders of one schedule exactly one
// has nothing to move.
func (r scopeRun[S]) redundant(at int) bool {
	for _, e := range slices.Backward(r.history) {
		replica := int(e.dot.Actor) - 1
		if replica == at || r.turn.has(e.id) {
			return false
		}
		if at < replica {
			return true
		}
	}
	return false
}

// weight returns for how many schedules this one stands: those with its replicas exchanged, if what A
// did is not before what B did, nor that before what C did, in some order. Otherwise another stands for it.
func (r scopeRun[S]) weight() int {
	if !r.folded {
		return 1
	}
	var did [scopeReplicas]int
	for _, e := range r.history {
		op := slices.IndexFunc(r.ops, func(o scopeOp) bool { return o.name == e.op })
		at := e.dot.Actor - 1
		did[at] = did[at]*(len(r.ops)+1) + op + 1 // the more operations, the larger
	}
	switch a, b, c := did[0], did[1], did[2]; {
	case a < b || b < c:
		return 0
	case a == c:
		return 1
	case a == b || b == c:
		return 3
	default:
		return 6
	}
}

// disordered reports whether whatever follows has weight 0, because a replica will have done more
// operations than one before it.
func (r scopeRun[S]) disordered(depth int) bool {
	b := max(len(r.sent[1]), len(r.sent[2]))
	missing := b - len(r.sent[1]) + max(0, b-len(r.sent[0]))
	return missing > depth-len(r.history)
}

// finish lets every replica receive all that is left, in every order. The replicas do not influence
// each other any more, so each is run alone, and the number of schedules is the product.
func (r scopeRun[S]) finish() (schedules int, err error) {
	end := r
	for from := range scopeReplicas {
		for _, m := range r.sent[from] {
			end = end.receive(0, m)
		}
	}
	want := end.states[0].Append(nil)
	schedules = 1
	for at := range scopeReplicas {
		orders, err := r.finishOne(at, want)
		if err != nil {
			return 0, err
		}
		schedules *= orders
	}
	return schedules, nil
}

// finishOne checks that a replica that has received everything is the same to the byte as replica A is
// when it receives every message, those that it already has too, in another order.
func (r scopeRun[S]) finishOne(at int, want []byte) (orders int, err error) {
	last, more := []receipt[S](nil), []receipt[S]{{r, 1}}
	for len(more) > 0 {
		last = more
		if more, err = receiveOne(last, at); err != nil {
			return 0, err
		}
	}
	for _, end := range last {
		var buffer [128]byte
		if got := end.run.states[at].Append(buffer[:0]); !bytes.Equal(got, want) {
			return 0, fmt.Errorf("%v: replica %c is %x in the end, want %x", end.run.steps, 'A'+at, got, want)
		}
		orders += end.orders
	}
	return orders, nil
}

// play runs steps from a text: "A put" is an operation, where + is the first and - the last of the
// type's; "B<A1" means that B receives A's first message, and "B<A" that B receives A's present state.
func (s *scope[S]) play(text string) (value string, err error) {
	r := scopeRun[S]{scope: s}
	for word := range strings.SplitSeq(text, "; ") {
		at := int(word[0] - 'A')
		switch {
		case word[1] == ' ':
			r, err = r.take(r.operates(at, s.op(word[2:])))
		case len(word) == 3:
			from := word[2] - 'A'
			r = r.receive(at, scopeMessage[S]{state: r.states[from], events: r.seen[from]})
			err = r.check(at)
		default:
			r, err = r.take(scopeStep{at: at, from: int(word[2] - 'A'), n: int(word[3] - '1')})
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", word, err)
		}
		value = r.value(r.states[at])
	}
	return value, nil
}

func (s *scope[S]) op(name string) scopeOp {
	switch name {
	case "+":
		return s.ops[0]
	case "-":
		return s.ops[len(s.ops)-1]
	}
	return s.ops[slices.IndexFunc(s.ops, func(o scopeOp) bool { return o.name == name })]
}

func (s *scope[S]) explore(depth int, folded bool) (int, error) {
	return scopeRun[S]{scope: s, folded: folded}.explore(depth)
}

// folds reports whether its schedules can be folded.
func (s *scope[S]) folds() bool { return s.symmetric }

func (s *scope[S]) String() string { return s.name }

func (s *scope[S]) kinds() int { return len(s.ops) }

func (s *scope[S]) removes() bool { return !s.keeps }

// anyScope is a scope of any type.
type anyScope interface {
	fmt.Stringer
	kinds() int
	removes() bool
	explore(depth int, folded bool) (int, error)
	folds() bool
	play(text string) (string, error)
	law(choose func(n int) int, count *lawCounts) error
}

// schedulesOfKinds is how many schedules there are of n operations, each of one of some kinds.
func schedulesOfKinds(n, kinds int) int {
	schedules := schedulesOf[n]
	for range n {
		schedules *= kinds
	}
	return schedules
}

// TestExhaustive runs with -v to see the numbers.
func TestExhaustive(t *testing.T) {
	budget := scopeBudget
	if *exhaustive {
		budget = scopeBudgetExhaustive
	}
	for _, s := range scopes() {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			depth, folded := scopeDepth, false
			for schedulesOfKinds(depth, s.kinds()) > budget {
				if folded = *exhaustive && s.folds(); folded {
					break
				}
				depth--
			}
			start := time.Now()
			schedules, err := s.explore(depth, folded)
			if err != nil {
				t.Fatal(err)
			}
			if want := schedulesOfKinds(depth, s.kinds()); schedules != want {
				t.Errorf("%d schedules, want %d", schedules, want)
			}
			how := ""
			if folded {
				how = ", one for each that differ in their replicas alone"
			}
			t.Logf("%d schedules of %d operations in %v%s", schedules, depth, time.Since(start).Round(time.Millisecond), how)
		})
	}
}

// TestExhaustiveFolded: folding leaves no schedule out, and the faults of joins are still found.
func TestExhaustiveFolded(t *testing.T) {
	for _, s := range append(scopes(), brokenScopes()...) {
		if !s.folds() {
			continue
		}
		_, wrong := s.explore(3, false)
		schedules, err := s.explore(3, true)
		if (err == nil) != (wrong == nil) {
			t.Errorf("%s: %v, folded %v", s, wrong, err)
		}
		if want := schedulesOfKinds(3, s.kinds()); err == nil && schedules != want {
			t.Errorf("%s: %d schedules, want %d", s, schedules, want)
		}
	}
}

// TestExhaustiveCatches: the check finds joins that are wrong.
func TestExhaustiveCatches(t *testing.T) {
	for _, s := range brokenScopes() {
		if schedules, err := s.explore(3, false); err == nil {
			t.Errorf("%s: not caught in %d schedules", s, schedules)
		} else {
			t.Logf("%s: caught after %d schedules: %v", s, schedules, err)
		}
	}
}

// resurrections are histories in which all that was inserted was removed again, and other systems
// showed it nevertheless.
var resurrections = map[string]string{
	"riak_dt 82, present but removed": "A +; B +; C<A; A -; A<B; B -; A<C; B<A",
	"riak_dt 82, no dots left":        "A +; B +; C<A; A -; A<B; B -; B<C; A<B; A<C",
	"remove before insert":            "A +; B<A1; B -; C<B1; C<A1",
	"remove before insert, twice":     "A +; A +; B<A1; B<A2; B -; C<B1; C<A1; C<A2",
}

func TestResurrections(t *testing.T) {
	for _, s := range scopes() {
		for name, text := range resurrections {
			if value, err := s.play(text); err != nil || value != "" && s.removes() {
				t.Errorf("%s, %s: %q, %v", s, name, value, err)
			}
		}
	}
}

// TestResurrectionsCatch: the set as riak_dt had it before change 82 fails its first history.
func TestResurrectionsCatch(t *testing.T) {
	s := setScope("union of dots", joinAWSetsBefore82)
	if value, err := s.play(resurrections["riak_dt 82, present but removed"]); err == nil {
		t.Errorf("not caught, value %q", value)
	}
	// Riak_dt 78: to skip the join when one side's context includes the other's loses a remove.
	if value, err := s.play("A add x; B add y; C<A; C<B; A remove x; A<C"); err != nil || value != "y" {
		t.Errorf("value %q, %v", value, err)
	}
}
