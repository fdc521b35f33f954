package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// maxExpiryBytes bounds what one Expire puts into deltas, roughly.
const maxExpiryBytes = maxChangeBytes

// told is the value of a pair in table X of a deadline whose value is too large to be deleted at once: watchers
// were told, and some of it is gone.
var told = [1]byte{2}

// writesTo reports whether an operation writes to a value of a type that can have a deadline.
func (o *Op) writesTo(t crdt.Type) bool {
	inside := !o.place().IsRoot() // of a map: a leaf's delete writes to it
	return hasDeadline(t) && (inside || o.Kind != OpDelete) && o.Kind != OpExpire && o.Kind != OpPersist
}

// purge deletes, as an event of its own, what an operation is about to write to and has expired.
func (w *work) purge(op *Op, t crdt.Type, at hlc.Time) ([]Delta, error) {
	if w.over == nil {
		return nil, errStage
	}
	d, done, err := w.deleteExpired(op.Namespace, op.Key, t, at)
	if err == nil && !done {
		err = refuse(fmt.Errorf("%w: what has expired is still being deleted", ErrChangeTooLarge))
	}
	return []Delta{d}, err
}

// deleteExpired deletes a value whose deadline has passed, as an own event that also ends the deadline. Of one
// that is too much for an event it deletes a part, and reports that it is not done.
func (w *work) deleteExpired(namespace, key string, t crdt.Type, now hlc.Time) (Delta, bool, error) {
	held, err := w.hold(namespace, key, true)
	if err != nil {
		return Delta{}, false, err
	}
	o := &operation{
		Op: &Op{Kind: OpDelete, Namespace: namespace, Key: key, Type: t}, work: w, dot: w.nextDot(), at: w.instant(now), held: held,
	}
	o.until = held.deadline(t).until(o.at)
	var effects []Effect
	done := true
	if s := held.get(t); s != nil && s.live(o.at) {
		if _, effects, done, err = o.deleteSome(t); err != nil {
			return Delta{}, false, err
		}
	}
	if done {
		end, err := o.endDeadline(t)
		if err != nil {
			return Delta{}, false, err
		}
		effects = append(effects, end)
	}
	return w.event(o.at, effects), done, nil
}

// deleteSome deletes a value, or as much of it as an event can hold.
func (o *operation) deleteSome(t crdt.Type) (Outcome, []Effect, bool, error) {
	if k, limited := kinds[t].(deleteRefuser); limited {
		err := k.refuseDelete(o)
		if errors.Is(err, ErrChangeTooLarge) {
			outcome, effects, err := k.deletePart(o)
			return outcome, effects, false, err
		}
		if err != nil {
			return Outcome{}, nil, false, err
		}
	}
	outcome, effects, err := kinds[t].delete(o)
	return outcome, effects, true, err
}

// expireDeadline does what there is to do about a deadline that has passed, of which watchers were told or not.
func (e *expiry) expireDeadline(i *instant, object []byte, tell bool) error {
	namespace, key, of, err := parseObjectKey(object)
	if err != nil {
		return err
	}
	t := of &^ deadlineBit
	held, err := e.w.hold(namespace, key, false)
	if err != nil {
		return err
	}
	d := held.deadline(t)
	if d == nil || d.expires != i.at {
		return fmt.Errorf("deadline of a %v is not that of its index: %w", t, crdt.ErrCorrupt)
	}
	s := held.get(t)
	if live := s != nil && s.live(max(e.Now, e.w.meta.last)); tell && live {
		e.found.Names = append(e.found.Names, Name{Namespace: namespace, Key: key, Type: t})
	}
	if d.dot.Actor != e.w.meta.self && d.expires > e.Others {
		if err := e.w.kv.Delete(i.key); err != nil {
			return err
		}
		return e.w.kv.Put(instantKey(tableOverdue, i.at, object), marker[:])
	}
	delta, done, err := e.w.deleteExpired(namespace, key, t, d.expires)
	if err != nil {
		return err
	}
	e.found.Deltas = append(e.found.Deltas, delta)
	if _, large := kinds[t].(deleteRefuser); large {
		for _, effect := range delta.Effects {
			e.bytes += len(effect.Change.append(nil))
		}
	}
	if !done {
		e.bytes = maxExpiryBytes
		return e.w.kv.Put(i.key, told[:])
	}
	return nil
}

// expiry is an Expire under way.
type expiry struct {
	Expiry
	w     *work
	found Expired
	bytes int
}

// Expiry is what Expire goes by.
type Expiry struct {
	// Now is the instant by which what expires has expired.
	Now hlc.Time
	// Cut is an instant from before which no event is still to come.
	Cut hlc.Time
	// Others is the instant up to which this region deletes also what another region's deadline made expire,
	// and that region did not delete; 0 means that it leaves all of that to the others.
	Others hlc.Time
	// Limit bounds how many of each kind of thing one Expire does.
	Limit int
}

// Expired is what an Expire did.
type Expired struct {
	// Names are the values that have expired, of which nobody was told yet.
	Names []Name
	// Deltas are the own events that deleted values, for the other regions. Their values are in Names, now or
	// earlier.
	Deltas []Delta
}
