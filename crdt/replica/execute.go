package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Execute runs operations of clients in order, all or none, at the proposer's instant now, and
// returns an outcome per operation and a delta per operation that had an effect. Each such operation
// is one event: it takes the next sequence number, and an instant after all that were issued or
// merged here. An operation without effect, such as deleting what is absent, takes neither.
//
// An operation on a key that holds values of other types only is refused, save for an untyped
// OpDelete and operations with AnyType. A key can hold several types after concurrent creation in
// several regions; operations of any of these types work then.
//
// The result is a function of the replica's state and the arguments. Outcomes and deltas may share
// the memory of ops.
//
// Errors: *OpError means refused, and nothing was changed. Any other error means that the storage
// failed or is corrupt, and the replica must not be used any more.
func (r *Replica) Execute(now hlc.Time, ops []Op) ([]Outcome, []Delta, error) {
	done, err := r.executeAll(now, ops)
	return done.outcomes, done.deltas, err
}

func (r *Replica) executeAll(now hlc.Time, ops []Op) (executed, error) {
	done, err := r.execute(r.begin(len(ops) > 1), now, ops)
	if errors.Is(err, errStage) {
		return r.execute(r.begin(true), now, ops)
	}
	return done, err
}

// errStage means that a work has to be staged, and has changed nothing.
var errStage = errors.New("operation of two events")

func (r *Replica) execute(w *work, now hlc.Time, ops []Op) (executed, error) {
	done := executed{outcomes: make([]Outcome, 0, len(ops)), deltas: make([]Delta, 0, len(ops)), events: make([]int, 0, len(ops))}
	for i := range ops {
		outcome, made, effective, err := w.execute(now, &ops[i])
		if err != nil {
			var refused *OpError
			if errors.As(err, &refused) {
				refused.Index = i
				return executed{}, refused
			}
			return executed{}, fmt.Errorf("execute operation %d: %w", i, err)
		}
		done.outcomes = append(done.outcomes, outcome)
		done.deltas = append(done.deltas, made...)
		if !effective {
			done.events = append(done.events, -1)
			continue
		}
		done.events = append(done.events, len(done.deltas)-1)
	}
	if err := r.commit(w); err != nil {
		return executed{}, err
	}
	return done, nil
}

// event makes the next own event of effects.
func (w *work) event(at hlc.Time, effects []Effect) Delta {
	slices.SortFunc(effects, func(a, b Effect) int { return compareEffects(&a, &b) })
	d := Delta{Dot: w.nextDot(), Time: at, Seen: w.meta.riseOfOwn(), Effects: effects}
	w.meta.advance(d.Dot, d.Time)
	return d
}

// refuse makes the error of an operation that must leave nothing changed.
func refuse(err error) error { return &OpError{Err: err} }

// nextDot returns the name that the next own event gets, if the operation has an effect.
func (w *work) nextDot() crdt.Dot {
	return crdt.Dot{Actor: w.meta.self, Seq: w.meta.vector.Get(w.meta.self) + 1}
}

// instant returns the instant that the next own event gets.
func (w *work) instant(now hlc.Time) hlc.Time { return w.meta.instant(now) }

// operation is one operation under way.
type operation struct {
	*Op
	work *work
	// dot and at are the event's, should there be one.
	dot crdt.Dot
	at  hlc.Time
	// held is what the key held before, and existed whether there was a value of the operation's type.
	held    holdings
	existed bool
	// until is 0, but for a delete of what has expired: types that are decided by time lose what was
	// written up to then.
	until hlc.Time
}

// execute runs one operation, whose own delta, if it was effective, is the last. It returns an *OpError only
// before it has written anything, unless the work is staged.
func (w *work) execute(now hlc.Time, op *Op) (outcome Outcome, deltas []Delta, effective bool, err error) {
	t, err := op.check()
	if err != nil {
		return Outcome{}, nil, false, refuse(fmt.Errorf("%w: %w", ErrInvalidOperation, err))
	}
	needsValue := op.Condition.Kind == CondValue || op.Kind == OpExpire || op.Kind == OpPersist
	held, err := w.hold(op.Namespace, op.Key, needsValue)
	if err != nil {
		return Outcome{}, nil, false, err
	}
	if under := op.under(t); op.writesTo(under) && held.hidden(under, w.instant(now)) {
		if deltas, err = w.purge(op, under, w.instant(now)); err != nil {
			return Outcome{}, nil, false, err
		}
		if held, err = w.hold(op.Namespace, op.Key, needsValue); err != nil {
			return Outcome{}, nil, false, err
		}
	}
	o := &operation{Op: op, work: w, dot: w.nextDot(), at: w.instant(now), held: held}
	judge := o.judgeAndRun
	if !op.place().IsRoot() {
		judge = o.executeLeaf
	}
	outcome, effects, err := judge(t)
	if err != nil {
		return Outcome{}, nil, false, err
	}
	if effective = len(effects) > 0; effective {
		deltas = append(deltas, w.event(o.at, effects))
	}
	return outcome, deltas, effective, nil
}

// judgeAndRun runs an operation on a type, 0 for all, if what the key holds permits it.
func (o *operation) judgeAndRun(t crdt.Type) (Outcome, []Effect, error) {
	visible := o.held.visible(o.at)
	of := t
	switch {
	case t == 0:
		of = visible
	case visible != 0 && !o.AnyType && !o.held.live(t, o.at):
		return Outcome{}, nil, refuse(&WrongTypeError{Found: visible})
	}
	version := o.held.version(of, o.at)
	if !o.conditionHolds(version) {
		return Outcome{}, nil, refuse(&ConditionError{Kind: o.Condition.Kind, Version: version})
	}
	o.existed = version != ""
	outcome, effects, err := o.run(o.Type)
	if err == nil {
		effects, err = o.settle(t, effects)
	}
	outcome.Existed = o.existed
	if len(effects) == 0 || outcome.Version == "" { // nothing changed, or the deadline alone
		outcome.Version = version
	}
	return outcome, effects, err
}

// conditionHolds judges the condition, given the version of the value, "" if it is absent.
func (o *operation) conditionHolds(version string) bool {
	switch o.Condition.Kind {
	case CondNone:
		return true
	case CondAbsent:
		return version == ""
	case CondPresent:
		return version != ""
	case CondVersion:
		return version != "" && version == o.Condition.Version
	default:
		return o.held.register.Live(o.at) && bytes.Equal(o.held.register.Value, o.Condition.Value)
	}
}

// run does what the kind says, and fills all of the outcome but Existed and a version that stays.
func (o *operation) run(t crdt.Type) (Outcome, []Effect, error) {
	if o.Kind == OpDelete {
		return o.delete(t)
	}
	a, _ := actionOf(o.Op)
	return a.run(o)
}

// check returns the type that an operation is on, 0 for an untyped delete, or what is malformed.
func (o *Op) check() (crdt.Type, error) {
	if len(o.Namespace) > MaxNamespaceBytes || len(o.Key) == 0 || len(o.Key) > MaxKeyBytes {
		return 0, errors.New("namespace or key out of bounds")
	}
	t, err := o.subject()
	switch kind := o.Condition.Kind; {
	case err != nil:
		return 0, err
	case !o.place().IsRoot() && !o.fitsLeaf(t):
		return 0, fmt.Errorf("%w: kind %d on a %v", ErrNotInMap, o.Kind, t)
	case kind > CondValue:
		return 0, fmt.Errorf("unknown condition %d", kind)
	case kind == CondValue && t > crdt.TypeLWWRegister:
		return 0, fmt.Errorf("condition on the value of a %v", t)
	case o.Expires != 0 && t == crdt.TypeBoundedCounter && o.Kind != OpExpire:
		return 0, errors.New("a bounded counter cannot expire")
	default:
		return t, o.checkHome(t)
	}
}

func (o *Op) subject() (crdt.Type, error) {
	if o.Kind == OpDelete {
		return o.Type, checkType(o.Type)
	}
	a, ok := actionOf(o)
	on := a.on
	if on == 0 {
		on = o.Type
	}
	switch {
	case !ok:
		return 0, fmt.Errorf("unknown kind %d", o.Kind)
	case a.check == nil:
		return on, nil
	default:
		return on, a.check(o)
	}
}

// checkType checks what an operation names that can be on values of any type, and so on all if it is 0.
func checkType(t crdt.Type) error {
	if t != 0 && (!t.Valid() || kindOf(t) == nil) {
		return fmt.Errorf("unknown %v", t)
	}
	return nil
}

// under returns the type of what the key itself holds that an operation on a type is about: a map, if it is
// on a leaf of one.
func (o *Op) under(t crdt.Type) crdt.Type {
	if o.place().IsRoot() {
		return t
	}
	return crdt.TypeORMap
}

// place returns where the operation's object is in a map; the root if it is under the key itself.
func (o *Op) place() crdt.Path {
	if o.Kind == OpORMapRemove {
		return crdt.Path{}
	}
	return o.Path
}

// effects returns the effect of a change on the operation's key.
func (o *operation) effects(t crdt.Type, c Change) []Effect {
	return []Effect{{Namespace: o.Namespace, Key: o.Key, Path: o.place(), Type: t, Change: c}}
}

// key returns the key of the operation's object of a type.
func (o *operation) key(t crdt.Type) []byte { return objectAt(o.Namespace, o.Key, o.place(), t) }

// deleting returns what deletes the value of a type.
func deleting(t crdt.Type) func(*operation) (Outcome, []Effect, error) {
	return func(o *operation) (Outcome, []Effect, error) { return o.delete(t) }
}

// delete removes what there is of a type, or of every type if it is 0. The outcome is that of the
// first type that it removed. A bounded counter cannot go: it stays beside what does with AnyType, and
// is refused without.
func (o *operation) delete(only crdt.Type) (Outcome, []Effect, error) {
	if o.held.live(crdt.TypeBoundedCounter, o.at) && (only == crdt.TypeBoundedCounter || only == 0 && !o.AnyType) {
		return Outcome{}, nil, refuse(ErrUndeletable)
	}
	var first Outcome
	var effects []Effect
	if err := o.refuseDelete(only); err != nil {
		return Outcome{}, nil, err
	}
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		if (only != 0 && t != only) || !o.held.live(t, o.at) || t == crdt.TypeBoundedCounter {
			continue
		}
		outcome, e, err := kinds[t].delete(o)
		if err != nil {
			return Outcome{}, nil, err
		}
		if len(effects) == 0 {
			first = outcome
		}
		effects = append(effects, e...)
	}
	slices.SortFunc(effects, func(a, b Effect) int { return compareEffects(&a, &b) }) // leaves come last
	return first, effects, nil
}

// refuseDelete returns why what there is of a type, or of any type if it is 0, cannot be deleted.
func (o *operation) refuseDelete(only crdt.Type) error {
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		k, limited := kindOf(t).(deleteRefuser)
		if !limited || (only != 0 && t != only) || !o.held.live(t, o.at) {
			continue
		}
		if err := k.refuseDelete(o); err != nil {
			return err
		}
	}
	return nil
}
