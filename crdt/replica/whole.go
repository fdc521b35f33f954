package replica

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// wholeKind keeps values of a crdt type whole: a pair of table K has the last event and the type's own
// encoding, and a change is a value of the type, which is joined to it. V is the crdt type, T says the
// rest about it.
type wholeKind[V any, P joinable[V], T wholeType[V]] struct{}

// joinable is a pointer to a value that can be kept whole.
type joinable[V any] interface {
	*V
	Join(o V)
	Append(b []byte) []byte
}

// wholeType is what types that are kept whole differ in. Its zero value is used.
type wholeType[V any] interface {
	of() crdt.Type
	decode(data []byte) (V, error)
	live(v *V) bool
	show(v *V, o *Object)
	// fault returns what about a change no honest replica makes, or "".
	fault(v *V, d *Delta) string
	// remove deletes a live value, and returns the change.
	remove(o *operation, v *V) V
	// spent returns from when on collect finds something to drop; 0 means never.
	spent(v *V) hlc.Time
	collect(v *V, cut hlc.Time)
	// since returns what is of after an instant up to which another replica has seen everything.
	since(v V, cut hlc.Time) V
	// hides reports whether essence may be equal where values are not, though nothing is spent.
	hides() bool
	// essence encodes of a live value what replicas with equal vectors agree on.
	essence(v V) []byte
	explain(v *V, e *Explained)
	// fold returns what is left of a change beside the later changes of its actor, joined, and whether
	// anything is; then it joins it to them.
	fold(later *V, change V) (left V, any bool)
}

// wholeState is a stored value.
type wholeState[V any, P joinable[V], T wholeType[V]] struct {
	// last is the last event applied to it here.
	last  crdt.Dot
	value V
	// spent is the instant of the object's pair in table Y, 0 if it has none.
	spent hlc.Time
}

// wholeChange is a value that holds what one event changed.
type wholeChange[V any, P joinable[V], T wholeType[V]] struct{ value V }

// append appends the encoding: version 1 | last actor | last seq | the type's encoding.
func (s *wholeState[V, P, T]) append(b []byte) []byte {
	return P(&s.value).Append(appendDot(append(b, storeVersion), s.last))
}

func (s *wholeState[V, P, T]) live(hlc.Time) bool { var t T; return t.live(&s.value) }
func (s *wholeState[V, P, T]) version() string    { return s.last.String() }
func (s *wholeState[V, P, T]) show(o *Object)     { var t T; t.show(&s.value, o) }

func (wholeKind[V, P, T]) decode(data []byte) (stored, error) {
	var t T
	r := codec.NewReader("stored "+t.of().String(), data, storeVersion)
	s := &wholeState[V, P, T]{last: readDot(r)}
	rest := r.Rest()
	if err := r.Done(); err != nil {
		return nil, err
	}
	var err error
	s.value, err = t.decode(rest)
	s.spent = t.spent(&s.value)
	return s, err
}

// held returns what the operation's key holds of the type.
func (wholeKind[V, P, T]) held(o *operation) *wholeState[V, P, T] {
	var t T
	if s, ok := o.held.get(t.of()).(*wholeState[V, P, T]); ok {
		return s
	}
	return &wholeState[V, P, T]{}
}

// unchanged is the outcome of an operation without effect.
func (wholeKind[V, P, T]) unchanged(s *wholeState[V, P, T]) (Outcome, []Effect, error) {
	var seen Object
	s.show(&seen)
	return Outcome{Counter: seen.Counter, Size: seen.Size}, nil, nil
}

// changed writes a value, which change was just joined to.
func (k wholeKind[V, P, T]) changed(o *operation, s *wholeState[V, P, T], change V) (Outcome, []Effect, error) {
	var t T
	s.last = o.dot
	outcome, _, _ := k.unchanged(s)
	outcome.Version = s.version()
	return outcome, o.effects(t.of(), &wholeChange[V, P, T]{change}), k.put(o.work, o.key(t.of()), s)
}

// put writes a value, or deletes its pair if nothing is left of it, and keeps table Y.
func (wholeKind[V, P, T]) put(w *work, object []byte, s *wholeState[V, P, T]) error {
	var t T
	w.wrote(object, nil)
	spent := t.spent(&s.value)
	if s.spent != 0 && s.spent != spent {
		if err := w.kv.Delete(instantKey(tableSpent, s.spent, object)); err != nil {
			return err
		}
	}
	if spent != 0 && s.spent != spent {
		if err := w.kv.Put(instantKey(tableSpent, spent, object), marker[:]); err != nil {
			return err
		}
	}
	if spent == 0 && !t.live(&s.value) {
		return w.kv.Delete(object)
	}
	return w.kv.Put(object, s.append(nil))
}

func (k wholeKind[V, P, T]) delete(o *operation) (Outcome, []Effect, error) {
	var t T
	s := k.held(o)
	return k.changed(o, s, t.remove(o, &s.value))
}

// load reads a value, which is the empty one if there is none.
func (k wholeKind[V, P, T]) load(w *work, object []byte) (*wholeState[V, P, T], error) {
	data, ok, err := w.kv.Get(object)
	if err != nil || !ok {
		return &wholeState[V, P, T]{}, err
	}
	s, err := k.decode(data)
	if err != nil {
		return nil, err
	}
	return s.(*wholeState[V, P, T]), nil
}

func (k wholeKind[V, P, T]) merge(w *work, d *Delta, e *Effect) error {
	object := e.object()
	s, err := k.load(w, object)
	if err != nil {
		return err
	}
	s.last = d.Dot
	P(&s.value).Join(e.Change.(*wholeChange[V, P, T]).value)
	return k.put(w, object, s)
}

// collect implements collector.
func (k wholeKind[V, P, T]) collect(w *work, object []byte, cut hlc.Time, _ []byte) error {
	var t T
	s, err := k.load(w, object)
	if err != nil {
		return err
	}
	t.collect(&s.value, cut)
	return k.put(w, object, s)
}

func (wholeKind[V, P, T]) digest(sum *digestSum, key []byte, s stored, last hlc.Time) uint64 {
	var t T
	if s.live(last) {
		sum.item(key, nil, t.essence(s.(*wholeState[V, P, T]).value))
	}
	return 0
}

func (wholeKind[V, P, T]) explain(_ KV, s stored, e *Explained) error {
	var t T
	t.explain(&s.(*wholeState[V, P, T]).value, e)
	e.Size = uint64(len(e.Parts))
	e.Parts = e.Parts[:min(len(e.Parts), explainElements)]
	return nil
}

func (wholeKind[V, P, T]) owns(c Change) bool { _, ok := c.(*wholeChange[V, P, T]); return ok }

func (wholeKind[V, P, T]) decodeChange(r *codec.Reader, _ *Delta) Change {
	var t T
	v, err := t.decode(r.Bytes(r.Len()))
	if err != nil {
		r.FailWith(err)
	}
	return &wholeChange[V, P, T]{v}
}

func (c *wholeChange[V, P, T]) append(b []byte) []byte {
	return codec.AppendBytes(b, P(&c.value).Append(nil))
}
func (c *wholeChange[V, P, T]) fault(d *Delta) string   { var t T; return t.fault(&c.value, d) }
func (c *wholeChange[V, P, T]) names(crdt.Actor) uint64 { return 0 } // of others' events it has only times, or nothing
