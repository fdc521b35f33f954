package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Addition is what one event of this replica's own added where additions sum up, so that a duplicate shows: to a
// counter, a score that is one, a bounded counter or a timeline. All other operations may be done twice: of two
// writes of the same one is left.
type Addition struct {
	// Kind is the kind of the operation.
	Kind           OpKind
	Namespace, Key string
	Path           crdt.Path
	Member         []byte
	Amount         int64
	// Seq and Time are the event's.
	Seq  uint64
	Time hlc.Time
}

// additionOf returns what an operation has added by its event.
func additionOf(op *Op, d *Delta) (Addition, bool) {
	a := Addition{
		Kind: op.Kind, Namespace: op.Namespace, Key: op.Key, Path: op.place(), Amount: op.Delta, Seq: d.Dot.Seq, Time: d.Time,
	}
	switch op.Kind {
	case OpCounterAdd, OpCounterSet, OpBoundedInc, OpBoundedDec:
		return a, true
	case OpZSetAdd, OpZSetIncr:
		if op.Type != crdt.TypeCounterZSet {
			return a, false
		}
		a.Member, a.Amount = op.Elements[0], int64(op.Score)
		return a, true
	case OpTimelineAdd:
		a.Amount = 0
		return a, true
	default:
		return a, false
	}
}

// of returns the type that the addition is on.
func (a *Addition) of() crdt.Type {
	switch a.Kind {
	case OpCounterAdd, OpCounterSet:
		return crdt.TypeCounter
	case OpZSetAdd, OpZSetIncr:
		return crdt.TypeCounterZSet
	case OpBoundedInc, OpBoundedDec:
		return crdt.TypeBoundedCounter
	case OpTimelineAdd:
		return crdt.TypeTimeline
	default:
		return 0
	}
}

// Undo takes back an addition of this replica's own, as an event of its own, because another region has done the
// same. What is reset already stays as it is, and so does everything else: a reset anywhere that has observed the
// addition, but not that it was taken back, covers both. It returns the event's delta, nil if there was nothing to
// take back, and what of the amount is left to be taken back later: of what was added to a bounded counter, as
// much as this region has used of it, and has no rights left for.
//
// The caller sees to it that nothing is taken back twice. An error means that the storage failed or is corrupt.
func (r *Replica) Undo(now hlc.Time, a Addition) (delta *Delta, left int64, err error) {
	t := a.of()
	switch {
	case t == 0, t == crdt.TypeBoundedCounter && (a.Amount <= 0 || !a.Path.IsRoot()): // none was made by this program
		return nil, 0, nil
	case t != crdt.TypeTimeline && a.Amount == 0:
		return nil, 0, nil
	}
	w := r.begin(false)
	u := undoing{work: w, Addition: &a, object: objectAt(a.Namespace, a.Key, a.Path, t), dot: w.nextDot()}
	var change Change
	switch t {
	case crdt.TypeCounter:
		change, err = u.counter()
	case crdt.TypeCounterZSet:
		change, err = u.member()
	case crdt.TypeBoundedCounter:
		change, left, err = u.bounded()
	default:
		change, err = u.entry()
	}
	if err != nil || change == nil {
		return nil, left, err
	}
	d := w.event(w.instant(now), []Effect{{Namespace: a.Namespace, Key: a.Key, Path: a.Path, Type: t, Change: change}})
	merge := kindOf(t).merge
	if !a.Path.IsRoot() {
		merge = mergeLeaf
	}
	// The change joins into this replica as it does into others.
	if err := merge(w, &d, &d.Effects[0]); err != nil {
		return nil, 0, fmt.Errorf("take back event %d: %w", a.Seq, err)
	}
	return &d, left, r.commit(w)
}

// undoing is an Undo under way. Its methods return what takes the addition back, nil if there is nothing to do,
// and change nothing.
type undoing struct {
	*work
	*Addition
	object []byte
	dot    crdt.Dot
}

func (u *undoing) counter() (Change, error) {
	data, ok, err := u.kv.Get(u.object)
	if err != nil || !ok {
		return nil, err
	}
	s, err := counterKind{}.decode(data)
	if err != nil {
		return nil, err
	}
	if change := u.rows(s.(*counterState).rows); change.Len() > 0 {
		return &CounterChange{change}, nil
	}
	return nil, nil
}

func (u *undoing) member() (Change, error) {
	data, ok, err := u.kv.Get(u.object)
	if err != nil || !ok {
		return nil, err
	}
	h, err := decodeCounterZSetHeader(data)
	if err != nil {
		return nil, err
	}
	rows, _, err := h.counted(u.kv, u.Member)
	if change := u.rows(rows); err == nil && change.Len() > 0 {
		return &CounterZSetChange{[]MemberChange{{Member: u.Member, Rows: change}}}, nil
	}
	return nil, err
}

// rows takes the addition back from a counter, which it may change. Where a void cannot say it, an addition of the
// opposite sign does, which is as good as long as nobody resets the counter at the same time.
func (u *undoing) rows(c crdt.Counter) crdt.Counter {
	change, ok := c.Void(u.dot, u.Seq, u.Amount)
	if ok {
		return change
	}
	change, err := c.Add(u.dot, -u.Amount)
	if err != nil {
		return crdt.Counter{}
	}
	return change
}

// bounded adds what was taken, or takes what was added as far as there are rights.
func (u *undoing) bounded() (_ Change, left int64, err error) {
	var k boundedKind
	s, err := k.load(u.work, u.object)
	if err != nil || s.value.Len() == 0 {
		return nil, 0, err
	}
	var change crdt.BoundedCounter
	if u.Kind == OpBoundedDec {
		change, err = s.value.Inc(u.dot, u.Amount)
	} else {
		have := min(u.Amount, max(0, s.value.Rights(u.dot.Actor)))
		left = u.Amount - have
		if have == 0 {
			return nil, left, nil
		}
		change, err = s.value.Dec(u.dot, have)
	}
	if errors.Is(err, crdt.ErrCounterOverflow) {
		return nil, 0, nil
	}
	return &wholeChange[crdt.BoundedCounter, *crdt.BoundedCounter, boundedType]{change}, left, err
}

func (u *undoing) entry() (Change, error) {
	data, ok, err := u.kv.Get(u.object)
	if err != nil || !ok {
		return nil, err
	}
	h, err := decodeTimelineHeader(data)
	if err != nil {
		return nil, err
	}
	_, ok, err = h.get(u.kv, TimelineID(crdt.TimelineEntry{Time: u.Time, Actor: u.dot.Actor, Seq: u.Seq}))
	if err != nil || !ok {
		return nil, err
	}
	return &TimelineChange{VoidTime: u.Time, VoidSeq: u.Seq}, nil
}
