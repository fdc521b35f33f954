package replica

import (
	"bytes"
	"errors"
	"fmt"

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
	w := r.begin(len(ops) > 1)
	outcomes := make([]Outcome, 0, len(ops))
	deltas := make([]Delta, 0, len(ops))
	for i := range ops {
		outcome, effects, err := w.execute(now, &ops[i])
		if err != nil {
			var refused *OpError
			if errors.As(err, &refused) {
				refused.Index = i
				return nil, nil, refused
			}
			return nil, nil, fmt.Errorf("execute operation %d: %w", i, err)
		}
		outcomes = append(outcomes, outcome)
		if len(effects) > 0 {
			d := Delta{Dot: w.nextDot(), Time: w.instant(now), Effects: effects}
			w.meta.advance(d.Dot, d.Time)
			deltas = append(deltas, d)
		}
	}
	if err := r.commit(w); err != nil {
		return nil, nil, err
	}
	return outcomes, deltas, nil
}

// refuse makes the error of an operation that must leave nothing changed.
func refuse(err error) error { return &OpError{Err: err} }

// nextDot returns the name that the next own event gets, if the operation has an effect.
func (w *work) nextDot() crdt.Dot {
	return crdt.Dot{Actor: w.meta.self, Seq: w.meta.vector.Get(w.meta.self) + 1}
}

// instant returns the instant that the next own event gets: after all that this replica has seen, and
// not past what other replicas accept, however wrong the proposer's clock is.
func (w *work) instant(now hlc.Time) hlc.Time { return max(min(now, maxTime), w.meta.last.Next()) }

// operation is one operation under way.
type operation struct {
	*Op
	work *work
	// dot and at are the event's, should there be one.
	dot crdt.Dot
	at  hlc.Time
	// held is what the key held before.
	held holdings
}

// execute runs one operation. It returns an *OpError only before it has written anything.
func (w *work) execute(now hlc.Time, op *Op) (Outcome, []Effect, error) {
	t, err := op.check()
	if err != nil {
		return Outcome{}, nil, refuse(fmt.Errorf("%w: %w", ErrInvalidOperation, err))
	}
	needsValue := op.Condition.Kind == CondValue || op.Kind == OpExpire || op.Kind == OpPersist
	held, err := w.hold(op.Namespace, op.Key, needsValue)
	if err != nil {
		return Outcome{}, nil, err
	}
	o := &operation{Op: op, work: w, dot: w.nextDot(), at: w.instant(now), held: held}
	visible := held.visible(o.at)
	switch {
	case t == 0:
		t = visible
	case visible != 0 && !op.AnyType && !held.live(t, o.at):
		return Outcome{}, nil, refuse(&WrongTypeError{Found: visible})
	}
	version := held.version(t, o.at)
	if !o.conditionHolds(version) {
		return Outcome{}, nil, refuse(&ConditionError{Kind: op.Condition.Kind, Version: version})
	}
	outcome, effects, err := o.run(op.Type)
	outcome.Existed = version != ""
	if len(effects) == 0 {
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
	case kind > CondValue:
		return 0, fmt.Errorf("unknown condition %d", kind)
	case kind == CondValue && t > crdt.TypeLWWRegister:
		return 0, fmt.Errorf("condition on the value of a %v", t)
	default:
		return t, nil
	}
}

func (o *Op) subject() (crdt.Type, error) {
	if o.Kind == OpDelete {
		if o.Type != 0 && kindOf(o.Type) == nil {
			return 0, fmt.Errorf("unknown %v", o.Type)
		}
		return o.Type, nil
	}
	a, ok := actionOf(o)
	switch {
	case !ok:
		return 0, fmt.Errorf("unknown kind %d", o.Kind)
	case a.check == nil:
		return a.on, nil
	default:
		return a.on, a.check(o)
	}
}

// effects returns the effect of a change on the operation's key.
func (o *operation) effects(t crdt.Type, c Change) []Effect {
	return []Effect{{Namespace: o.Namespace, Key: o.Key, Type: t, Change: c}}
}

// key returns the key in table K of the operation's object of a type.
func (o *operation) key(t crdt.Type) []byte { return objectKey(o.Namespace, o.Key, t) }

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
