package replica

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// deadlineBit in a type makes it that of the deadline of values of the type, which is an object of its
// own under the same user key. A register needs none: its write says when it expires.
const deadlineBit crdt.Type = 0x80

// deadlineOf returns the type of the deadlines of values of a type.
func deadlineOf(t crdt.Type) crdt.Type { return t | deadlineBit }

// hasDeadline reports whether values of a type have deadlines.
func hasDeadline(t crdt.Type) bool {
	return t != crdt.TypeLWWRegister && t != crdt.TypeBoundedCounter && int(t) < len(kinds) && kinds[t] != nil
}

// deadlineKind keeps when a value expires, of which the last write by (time, actor) holds. A write without
// an instant means that the value stays.
//
// From the instant on readers do not see the value. Then some region deletes it as an ordinary event,
// which also ends the deadline that it saw: a deadline that is ended is as if it had been written without
// an instant in the first place, and any later write of one still counts. So what brings a value back, in
// whatever region, is not stripped of the time to live that it brought along.
type deadlineKind struct{ of crdt.Type }

// deadline is a stored deadline. dot.Seq is 0 if there is none.
type deadline struct {
	at  hlc.Time
	dot crdt.Dot
	// expires is 0 if the value stays, or if the deadline was ended.
	expires hlc.Time
}

// DeadlineChange is a write of a deadline, whose time and dot are the delta's, or with an Ended.Seq that is
// not 0 the end of an earlier one.
type DeadlineChange struct {
	// Expires is 0 if the value is to stay.
	Expires hlc.Time
	// Ended is the event that wrote what is ended, and EndedAt its time.
	Ended   crdt.Dot
	EndedAt hlc.Time
}

// compare orders deadlines by (time, actor), and the end of one after itself.
func (d *deadline) compare(o *deadline) int {
	return cmp.Or(cmp.Compare(d.at, o.at), cmp.Compare(d.dot.Actor, o.dot.Actor), cmp.Compare(d.ended(), o.ended()))
}

func (d *deadline) ended() uint8 { return uint8(count(d.expires == 0)) }

// active reports whether the value is to expire.
func (d *deadline) active() bool { return d != nil && d.expires != 0 }

// passed reports whether the value has expired by an instant.
func (d *deadline) passed(now hlc.Time) bool { return d.active() && d.expires <= now }

// until returns the instant up to which a value is gone that has expired: all that whoever set the
// deadline had seen, and all up to the deadline, but nothing that was written later in a region which had
// not heard of it.
func (d *deadline) until(at hlc.Time) hlc.Time { return min(max(d.expires, d.at), at) }

// append appends the encoding: version 1 | time 8 | actor | seq | expires 8, unless it is 0.
func (d *deadline) append(b []byte) []byte {
	b = appendDot(binary.BigEndian.AppendUint64(append(b, storeVersion), uint64(d.at)), d.dot)
	if d.expires != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(d.expires))
	}
	return b
}

func (*deadline) live(hlc.Time) bool { return false }
func (d *deadline) version() string  { return d.dot.String() }
func (*deadline) show(*Object)       {}

func (deadlineKind) decode(data []byte) (stored, error) {
	r := codec.NewReader("stored deadline", data, storeVersion)
	d := &deadline{at: hlc.Time(r.Uint64()), dot: readDot(r)}
	if r.Len() > 0 {
		d.expires = hlc.Time(r.Uint64())
		if d.expires == 0 {
			r.Fail("deadline at no instant")
		}
	}
	if d.dot.Seq == 0 {
		r.Fail("deadline of no event")
	}
	return d, r.Done()
}

// deadline returns the deadline of values of a type under the key, nil if there is none.
func (h *holdings) deadline(t crdt.Type) *deadline {
	for i := range h.others {
		if h.others[i].t == deadlineOf(t) {
			d, _ := h.others[i].stored.(*deadline)
			return d
		}
	}
	return nil
}

// hidden reports whether the key has a value of a type that has expired, and was not deleted yet.
func (h *holdings) hidden(t crdt.Type, now hlc.Time) bool {
	s := h.get(t)
	return s != nil && s.live(now) && h.deadline(t).passed(now)
}

// putDeadline writes a deadline in place of old, nil if there is none, and what is to be done about it later.
func (w *work) putDeadline(object []byte, old, d *deadline) error {
	if err := w.forgetDeadline(object, old); err != nil {
		return err
	}
	w.wrote(object, nil)
	at := instantKey(tableExpiry, d.expires, object)
	if d.expires == 0 {
		at = instantKey(tableSpent, d.at, object)
	}
	if err := w.kv.Put(at, marker[:]); err != nil {
		return err
	}
	return w.kv.Put(object, d.append(nil))
}

// forgetDeadline deletes what other tables say of a deadline.
func (w *work) forgetDeadline(object []byte, d *deadline) error {
	switch {
	case d == nil:
		return nil
	case d.expires == 0:
		return w.kv.Delete(instantKey(tableSpent, d.at, object))
	}
	if err := w.kv.Delete(instantKey(tableExpiry, d.expires, object)); err != nil {
		return err
	}
	return w.kv.Delete(instantKey(tableOverdue, d.expires, object))
}

// setDeadline makes a value expire at an instant, or stay if that is 0.
func (o *operation) setDeadline(t crdt.Type, expires hlc.Time) (Effect, error) {
	d := &deadline{at: o.at, dot: o.dot, expires: expires}
	e := Effect{Namespace: o.Namespace, Key: o.Key, Type: deadlineOf(t), Change: &DeadlineChange{Expires: expires}}
	return e, o.work.putDeadline(objectKey(o.Namespace, o.Key, deadlineOf(t)), o.held.deadline(t), d)
}

// endDeadline ends the deadline that an operation sees.
func (o *operation) endDeadline(t crdt.Type) (Effect, error) {
	have := o.held.deadline(t)
	ended := &deadline{at: have.at, dot: have.dot}
	e := Effect{
		Namespace: o.Namespace, Key: o.Key, Type: deadlineOf(t), Change: &DeadlineChange{Ended: have.dot, EndedAt: have.at},
	}
	return e, o.work.putDeadline(objectKey(o.Namespace, o.Key, deadlineOf(t)), have, ended)
}

func (k deadlineKind) merge(w *work, d *Delta, e *Effect) error {
	object := objectKey(e.Namespace, e.Key, e.Type)
	data, ok, err := w.kv.Get(object)
	if err != nil {
		return err
	}
	change := e.Change.(*DeadlineChange)
	next := &deadline{at: d.Time, dot: d.Dot, expires: change.Expires}
	if change.Ended.Seq != 0 {
		next.at, next.dot = change.EndedAt, change.Ended
	}
	var have *deadline
	if ok {
		s, err := k.decode(data)
		if err != nil {
			return err
		}
		if have = s.(*deadline); have.compare(next) >= 0 {
			return nil
		}
	}
	return w.putDeadline(object, have, next)
}

// collect forgets a deadline that says nothing, once no earlier one can arrive.
func (k deadlineKind) collect(w *work, object []byte, cut hlc.Time, _ []byte) error {
	data, ok, err := w.kv.Get(object)
	if err != nil || !ok {
		return err
	}
	s, err := k.decode(data)
	if err != nil {
		return err
	}
	if d := s.(*deadline); d.expires != 0 || d.at > cut {
		return nil
	}
	w.wrote(object, nil)
	return w.kv.Delete(object)
}

// digest leaves out a deadline that says nothing: when it is forgotten is each replica's own affair.
func (deadlineKind) digest(sum *digestSum, key []byte, s stored, _ hlc.Time) uint64 {
	if d := s.(*deadline); d.expires != 0 {
		sum.item(key, nil, d.append(nil))
	}
	return 0
}

// explain is not called either: Explain has deadlines beside the values.
func (deadlineKind) explain(KV, stored, *Explained) error { return nil }

// delete is not called: no operation sees a deadline as a value.
func (deadlineKind) delete(*operation) (Outcome, []Effect, error) { return Outcome{}, nil, nil }

const (
	deadlineExpires = 1 << iota
	deadlineEnded
)

// append appends the encoding: flags 1 | expires 8, if flag 1 | time 8 | actor | seq of what is ended, if flag 2.
func (c *DeadlineChange) append(b []byte) []byte {
	switch {
	case c.Ended.Seq != 0:
		b = binary.BigEndian.AppendUint64(append(b, deadlineEnded), uint64(c.EndedAt))
		return appendDot(b, c.Ended)
	case c.Expires != 0:
		return binary.BigEndian.AppendUint64(append(b, deadlineExpires), uint64(c.Expires))
	default:
		return append(b, 0)
	}
}

func (deadlineKind) owns(c Change) bool { _, ok := c.(*DeadlineChange); return ok }

func (deadlineKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	c := &DeadlineChange{}
	switch flags := r.Byte(); flags {
	case 0:
	case deadlineExpires:
		if c.Expires = hlc.Time(r.Uint64()); c.Expires == 0 {
			r.Fail("deadline flagged but 0")
		}
	case deadlineEnded:
		c.EndedAt = hlc.Time(r.Uint64())
		if c.Ended = readDot(r); c.Ended.Seq == 0 {
			r.Fail("end of no event's deadline")
		}
	default:
		r.Fail("unknown deadline flags %#x", flags)
	}
	return c
}

func (c *DeadlineChange) names(a crdt.Actor) uint64 {
	if c.Ended.Actor == a {
		return c.Ended.Seq
	}
	return 0
}

func (c *DeadlineChange) fault(d *Delta) string {
	switch {
	case c.Ended.Seq == 0 && (c.EndedAt != 0 || c.Ended.Actor != 0):
		return "end of no event's deadline"
	case c.Ended.Seq == 0:
		return ""
	case c.Expires != 0:
		return "deadline that is ended and set"
	case c.EndedAt == 0 || c.EndedAt >= d.Time:
		return "end of a deadline from after it"
	case c.Ended.Actor == d.Dot.Actor && c.Ended.Seq >= d.Dot.Seq:
		return "end of a deadline still to come"
	default:
		return ""
	}
}

func checkExpiring(o *Op) error {
	if o.Kind == OpExpire && o.Expires == 0 {
		return errors.New("no instant to expire at")
	}
	return checkType(o.Type)
}

// runExpire changes when what there is of the operation's type expires, or of every type if that is 0. A
// bounded counter cannot expire: it stays beside what does with AnyType, and is refused without.
func runExpire(o *operation) (Outcome, []Effect, error) {
	expires := o.Expires
	if o.Kind == OpPersist {
		expires = 0
	}
	wanted := func(t crdt.Type) bool { return o.Type == t || o.Type == 0 }
	if o.held.live(crdt.TypeBoundedCounter, o.at) && wanted(crdt.TypeBoundedCounter) && expires != 0 && (o.Type != 0 || !o.AnyType) {
		return Outcome{}, nil, refuse(fmt.Errorf("%w, so it cannot expire", ErrUndeletable))
	}
	var first Outcome
	var effects []Effect
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		if !wanted(t) || !o.held.live(t, o.at) {
			continue
		}
		outcome, e, err := o.expire(t, expires)
		if err != nil {
			return Outcome{}, nil, err
		}
		if first.Version == "" {
			first = outcome
		}
		effects = append(effects, e...)
	}
	return first, effects, nil
}

// expire changes when the value of a type expires, which is live. The version of what is no register stays.
func (o *operation) expire(t crdt.Type, expires hlc.Time) (Outcome, []Effect, error) {
	if t == crdt.TypeLWWRegister {
		return o.expireRegister(expires)
	}
	outcome := Outcome{Version: o.held.version(t, o.at)}
	have := o.held.deadline(t)
	if !hasDeadline(t) || have == nil && expires == 0 || have != nil && have.expires == expires {
		return outcome, nil, nil
	}
	e, err := o.setDeadline(t, expires)
	return outcome, []Effect{e}, err
}

// settle adds to an operation's effects what it means for the deadline of the type that it is on, 0 for an
// untyped delete: it sets one, and ends that of a value which it deletes or begins anew.
func (o *operation) settle(t crdt.Type, effects []Effect) ([]Effect, error) {
	if o.Kind == OpExpire || o.Kind == OpPersist || len(effects) == 0 && !o.setsDeadline() {
		return effects, nil
	}
	if t != 0 {
		return o.settleType(t, effects)
	}
	last := crdt.Type(0)
	for _, e := range effects[:len(effects):len(effects)] {
		subject := e.Subject()
		if subject == last {
			continue // leaves of one map
		}
		last = subject
		var err error
		if effects, err = o.settleType(subject, effects); err != nil {
			return nil, err
		}
	}
	return effects, nil
}

// setsDeadline reports whether an operation that writes brings a time to live.
func (o *operation) setsDeadline() bool { return o.Expires != 0 && o.Kind != OpDelete }

func (o *operation) settleType(t crdt.Type, effects []Effect) ([]Effect, error) {
	active := o.held.deadline(t).active()
	if !hasDeadline(t) || !active && !o.setsDeadline() {
		return effects, nil
	}
	now, err := o.work.hold(o.Namespace, o.Key, false)
	if err != nil {
		return nil, err
	}
	s := now.get(t)
	live := s != nil && s.live(o.at)
	var e Effect
	switch {
	case live && o.setsDeadline():
		e, err = o.setDeadline(t, o.Expires)
	case active && (!live || !o.existed):
		e, err = o.endDeadline(t)
	default:
		return effects, nil
	}
	return append(effects, e), err
}
