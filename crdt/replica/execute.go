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
	outcome, effects, err := o.run()
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
func (o *operation) run() (Outcome, []Effect, error) {
	switch o.Kind {
	case OpPut:
		return o.put(crdt.LWWRegister{Expires: o.Expires, Value: o.Value})
	case OpDelete:
		return o.delete(o.Type)
	case OpCounterAdd, OpCounterSet:
		return o.changeCounter()
	case OpCounterReset:
		return o.delete(crdt.TypeCounter)
	case OpSetAdd:
		return o.addElements()
	case OpSetRemove:
		return o.removeElements()
	case OpExpire:
		return o.expire(o.Expires)
	case OpPersist:
		return o.expire(0)
	default: // OpSetClear, since check let the kind pass
		return o.delete(crdt.TypeAWSet)
	}
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
	switch o.Kind {
	case OpPut:
		if len(o.Value) > crdt.MaxValueBytes {
			return 0, fmt.Errorf("value of %d bytes", len(o.Value))
		}
		return crdt.TypeLWWRegister, nil
	case OpDelete:
		if o.Type != 0 && !o.Type.Valid() {
			return 0, fmt.Errorf("unknown %v", o.Type)
		}
		return o.Type, nil
	case OpCounterAdd, OpCounterSet, OpCounterReset:
		return crdt.TypeCounter, nil
	case OpSetAdd, OpSetRemove:
		if len(o.Elements) > MaxOperationElements {
			return 0, fmt.Errorf("%d elements", len(o.Elements))
		}
		bad := func(e []byte) bool { return len(e) == 0 || len(e) > crdt.MaxElementBytes }
		if i := slices.IndexFunc(o.Elements, bad); i >= 0 {
			return 0, fmt.Errorf("element of %d bytes", len(o.Elements[i]))
		}
		return crdt.TypeAWSet, nil
	case OpSetClear:
		return crdt.TypeAWSet, nil
	case OpExpire:
		if o.Expires == 0 {
			return 0, errors.New("no expiry")
		}
		return crdt.TypeLWWRegister, nil
	case OpPersist:
		return crdt.TypeLWWRegister, nil
	default:
		return 0, fmt.Errorf("unknown kind %d", o.Kind)
	}
}

// effect returns an effect on the operation's key, for the caller to fill in.
func (o *operation) effect(t crdt.Type) Effect {
	return Effect{Namespace: o.Namespace, Key: o.Key, Type: t}
}

// put writes a register, whose event it fills in.
func (o *operation) put(reg crdt.LWWRegister) (Outcome, []Effect, error) {
	reg.Time, reg.Actor, reg.Seq = o.at, o.dot.Actor, o.dot.Seq
	e := o.effect(crdt.TypeLWWRegister)
	e.Register = &reg
	if err := o.work.putRegister(o.Namespace, o.Key, &o.held.register, &reg); err != nil {
		return Outcome{}, nil, err
	}
	return Outcome{Version: reg.Version()}, []Effect{e}, nil
}

// delete removes what there is of a type, or of every type if it is 0. The outcome is that of the
// type that was visible.
func (o *operation) delete(only crdt.Type) (Outcome, []Effect, error) {
	var first Outcome
	var effects []Effect
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		if (only != 0 && t != only) || !o.held.live(t, o.at) {
			continue
		}
		outcome, e, err := o.deleteOne(t)
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

func (o *operation) deleteOne(t crdt.Type) (Outcome, []Effect, error) {
	switch t {
	case crdt.TypeLWWRegister:
		return o.put(crdt.LWWRegister{Deleted: true})
	case crdt.TypeCounter:
		return o.storeCounter(o.held.counter.rows.Reset(o.dot))
	default:
		return o.clearSet()
	}
}

// changeCounter adds to a counter or sets it.
func (o *operation) changeCounter() (Outcome, []Effect, error) {
	rows := &o.held.counter.rows
	if o.Kind == OpCounterSet {
		return o.storeCounter(rows.Set(o.dot, o.Delta))
	}
	delta, err := rows.Add(o.dot, o.Delta)
	if err != nil {
		return Outcome{}, nil, refuse(err)
	}
	return o.storeCounter(delta)
}

// storeCounter writes the counter, in which delta was just made.
func (o *operation) storeCounter(delta crdt.Counter) (Outcome, []Effect, error) {
	c := &o.held.counter
	c.last = o.dot
	outcome := Outcome{Version: o.dot.String(), Counter: c.rows.Value()}
	c.rows.Compact(o.dot.Actor, o.work.meta.vector)
	e := o.effect(crdt.TypeCounter)
	e.Counter = &delta
	return outcome, []Effect{e}, o.work.putCounter(objectKey(o.Namespace, o.Key, e.Type), *c)
}
