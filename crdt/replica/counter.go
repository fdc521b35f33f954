package replica

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// counterKind keeps a crdt.Counter whole.
type counterKind struct{}

// CounterChange has a counter's changed rows: an entry of the delta's actor with the delta's sequence
// number, and bases whose Reset is the delta's dot.
type CounterChange struct{ crdt.Counter }

// counterState is a stored counter. It exists if it has rows.
type counterState struct {
	// last is the last event applied to it here.
	last crdt.Dot
	rows crdt.Counter
}

// append appends the encoding: version 1 | last actor | last seq | counter's encoding.
func (c *counterState) append(b []byte) []byte {
	return c.rows.Append(appendDot(append(b, storeVersion), c.last))
}

func (c *counterState) live(hlc.Time) bool { return !c.rows.Empty() }
func (c *counterState) version() string    { return c.last.String() }
func (c *counterState) show(o *Object)     { o.Counter = c.rows.Value() }

func (counterKind) decode(data []byte) (stored, error) {
	r := codec.NewReader("stored counter", data, storeVersion)
	c := &counterState{last: readDot(r)}
	rest := r.Rest()
	if err := r.Done(); err != nil {
		return nil, err
	}
	var err error
	c.rows, err = crdt.DecodeCounter(rest)
	return c, err
}

// counter returns what the operation's key holds of a counter.
func (o *operation) counter() *counterState {
	if c, ok := o.held.get(crdt.TypeCounter).(*counterState); ok {
		return c
	}
	return &counterState{}
}

func (counterKind) delete(o *operation) (Outcome, []Effect, error) {
	c := o.counter()
	return o.storeCounter(c, c.rows.Reset(o.dot))
}

func runCounterSet(o *operation) (Outcome, []Effect, error) {
	c := o.counter()
	return o.storeCounter(c, c.rows.Set(o.dot, o.Delta))
}

func runCounterAdd(o *operation) (Outcome, []Effect, error) {
	c := o.counter()
	delta, err := c.rows.Add(o.dot, o.Delta)
	if err != nil {
		return Outcome{}, nil, refuse(err)
	}
	return o.storeCounter(c, delta)
}

// storeCounter writes a counter, in which delta was just made.
func (o *operation) storeCounter(c *counterState, delta crdt.Counter) (Outcome, []Effect, error) {
	c.last = o.dot
	outcome := Outcome{Version: c.version(), Counter: c.rows.Value()}
	o.work.compact(&c.rows)
	key := o.key(crdt.TypeCounter)
	if delta.Resets() {
		if err := o.work.awaitOwners(c.rows, o.dot, key, nil); err != nil {
			return Outcome{}, nil, err
		}
	}
	return outcome, o.effects(crdt.TypeCounter, &CounterChange{delta}), o.work.putCounter(key, c)
}

// merge joins the changed rows.
func (k counterKind) merge(w *work, d *Delta, e *Effect) error {
	key := e.object()
	data, ok, err := w.kv.Get(key)
	if err != nil {
		return err
	}
	c := &counterState{}
	if ok {
		s, err := k.decode(data)
		if err != nil {
			return err
		}
		c = s.(*counterState)
	}
	c.last = d.Dot
	if err := w.mergeRows(contest{delta: d, effect: e}, &c.rows, e.Change.(*CounterChange).Counter); err != nil {
		return err
	}
	return w.putCounter(key, c)
}

// mergeRows joins changed rows to those of a counter, or of a member, which the contest names.
func (w *work) mergeRows(at contest, rows *crdt.Counter, change crdt.Counter) error {
	rows.Join(change)
	w.compact(rows)
	if !change.Resets() {
		return nil
	}
	if err := w.outlive(at, *rows); err != nil {
		return err
	}
	e := at.effect
	return w.awaitOwners(*rows, at.delta.Dot, e.object(), at.field)
}

// putCounter writes a counter, or deletes it if it has no rows left.
func (w *work) putCounter(objectKey []byte, c *counterState) error {
	w.wrote(objectKey, nil)
	if c.rows.Len() == 0 {
		return w.kv.Delete(objectKey)
	}
	w.data = c.append(w.data[:0])
	return w.kv.Put(objectKey, w.data)
}

// digest hashes the live rows: when a wholly reset row is dropped is each replica's own affair.
func (counterKind) digest(sum *digestSum, key []byte, s stored, _ hlc.Time) uint64 {
	if live := s.(*counterState).rows.LiveRows(); live.Len() > 0 {
		sum.item(key, nil, live.Append(nil))
	}
	return 0
}

func (counterKind) explain(_ KV, s stored, e *Explained) error {
	e.Counter = &s.(*counterState).rows
	return nil
}

func (c *CounterChange) append(b []byte) []byte { return codec.AppendBytes(b, c.Append(nil)) }

func (counterKind) owns(c Change) bool { _, ok := c.(*CounterChange); return ok }

func (counterKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	c, err := crdt.DecodeCounter(r.Bytes(r.Len()))
	if err != nil {
		r.FailWith(err)
	}
	return &CounterChange{c}
}

func (c *CounterChange) names(a crdt.Actor) uint64 { return namedIn(c.Counter, a) }

// namedIn returns the largest sequence number of an actor that changed rows say was observed.
func namedIn(rows crdt.Counter, a crdt.Actor) (seq uint64) {
	for row := range rows.All() {
		if row.Actor == a {
			seq = max(seq, row.Base.Seq)
		}
	}
	return seq
}

func (c *CounterChange) fault(d *Delta) string { return rowsFault(c.Counter, d) }

// rowsFault enforces that an actor writes its own entry only, and that every row stems from the delta's
// event.
func rowsFault(rows crdt.Counter, d *Delta) string {
	if rows.Len() == 0 {
		return "counter without rows"
	}
	for _, v := range rows.Voids() {
		if v.Actor != d.Dot.Actor || v.At > d.Dot.Seq || v.Seq >= v.At {
			return "void of another event"
		}
	}
	if len(rows.Voids()) > crdt.MaxVoids {
		return "too many voids"
	}
	var last crdt.Actor
	first := true
	for r := range rows.All() {
		hasEntry, hasBase := r.Entry != (crdt.Entry{}), r.Base != (crdt.Base{})
		reason := ""
		switch {
		case !first && last >= r.Actor:
			reason = "rows out of order"
		case hasEntry == hasBase:
			reason = "row without one of entry and base"
		case hasEntry:
			reason = entryFault(r, d)
		default:
			reason = baseFault(r, d)
		}
		if reason != "" {
			return reason
		}
		last, first = r.Actor, false
	}
	return ""
}

func entryFault(r crdt.Row, d *Delta) string {
	switch {
	case r.Actor != d.Dot.Actor || r.Entry.Seq != d.Dot.Seq:
		return "entry of another event"
	case r.Entry.Gen == 0 || r.Entry.Gen > r.Entry.Seq:
		return "entry's generation out of range"
	default:
		return ""
	}
}

func baseFault(r crdt.Row, d *Delta) string {
	switch {
	case r.Base.Reset != d.Dot:
		return "reset of another event"
	case r.Base.Gen == 0 || r.Base.Gen > r.Base.Seq:
		return "reset generation out of range"
	case r.Actor == d.Dot.Actor && r.Base.Seq >= d.Dot.Seq:
		return "reset of an event still to come"
	default:
		return ""
	}
}
