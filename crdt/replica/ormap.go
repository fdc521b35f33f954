package replica

import (
	"encoding/binary"
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// ormapKind keeps the header of an observed-remove map in table K. Its leaves are objects of their own in
// table N, which are of other kinds, and which these kinds change as they change those in table K. So a
// leaf is decided by what its type is decided by, and a remove is the deletes of the leaves that it saw.
type ormapKind struct{}

// ormapHeader is what is stored of a map besides its leaves. It exists if table N has any.
type ormapHeader struct {
	// last is the last event applied to a leaf here.
	last crdt.Dot
	// present counts the leaves that readers see, and traces those that left something behind.
	present, traces uint64
}

// append appends the encoding: version 1 | last actor | last seq | present | traces.
func (h *ormapHeader) append(b []byte) []byte {
	b = appendDot(append(b, storeVersion), h.last)
	return binary.AppendUvarint(binary.AppendUvarint(b, h.present), h.traces)
}

func (h *ormapHeader) live(hlc.Time) bool { return h.present > 0 }
func (h *ormapHeader) version() string    { return h.last.String() }
func (h *ormapHeader) show(o *Object)     { o.Size = h.present }

func decodeORMapHeader(data []byte) (ormapHeader, error) {
	const any = ^uint64(0)
	r := codec.NewReader("header of a map of leaves", data, storeVersion)
	h := ormapHeader{last: readDot(r), present: r.Uvarint(any), traces: r.Uvarint(any)}
	if h.present == 0 && h.traces == 0 {
		r.Fail("map without leaves")
	}
	return h, r.Done()
}

func (ormapKind) decode(data []byte) (stored, error) {
	h, err := decodeORMapHeader(data)
	return &h, err
}

// owns returns false: the changes of a map are those of its leaves.
func (ormapKind) owns(Change) bool { return false }

func (ormapKind) decodeChange(r *codec.Reader, _ *Delta) Change {
	r.Fail("change of a map at no path")
	return &SetChange{}
}

func (ormapKind) merge(*work, *Delta, *Effect) error { return errors.New("change of a map at no path") }

// digest adds nothing: leaves are items of their own.
func (ormapKind) digest(*digestSum, []byte, stored, hlc.Time) uint64 { return 0 }

// explain leaves the rest to Replica.explainLeaves.
func (ormapKind) explain(_ KV, s stored, e *Explained) error {
	h := s.(*ormapHeader)
	e.Size = h.present + h.traces
	return nil
}

// isLeafType reports whether leaves can have a type: all can but maps of leaves, of which paths take the
// place, and bounded counters, which nothing could remove.
func isLeafType(t crdt.Type) bool {
	return kindOf(t) != nil && t != crdt.TypeORMap && t != crdt.TypeBoundedCounter
}

// fitsLeaf reports whether an operation on a type, 0 for an untyped delete, can be one on a leaf. What it says
// of a time to live is about the map.
func (o *Op) fitsLeaf(t crdt.Type) bool {
	return (t == 0 || isLeafType(t)) && o.Kind != OpExpire && o.Kind != OpPersist
}

// leafFault returns what about an effect on a leaf no honest replica makes, or "".
func leafFault(e *Effect) string {
	if !isLeafType(e.Type) {
		return "leaf of a type that none has"
	}
	if reg, ok := e.Change.(*RegisterChange); ok && reg.Expires != 0 {
		return "leaf that expires"
	}
	return ""
}

// presence is whether a leaf is stored, and whether readers see it.
type presence struct{ stored, live bool }

// presence reads whether a leaf is there.
func (w *work) presence(leaf []byte, t crdt.Type) (presence, error) {
	data, ok, err := w.kv.Get(leaf)
	if err != nil || !ok {
		return presence{}, err
	}
	s, err := kinds[t].decode(data)
	if err != nil {
		return presence{}, err
	}
	return presence{true, s.live(0)}, nil // no leaf expires
}

// moved counts a leaf that changed.
func (h *ormapHeader) moved(before, after presence) {
	h.present += count(after.live) - count(before.live)
	h.traces += count(after.stored && !after.live) - count(before.stored && !before.live)
}

// putORMap writes a map's header, or deletes it if no leaf is left.
func (w *work) putORMap(object []byte, h *ormapHeader) error {
	w.wrote(object, nil)
	if h.present == 0 && h.traces == 0 {
		return w.kv.Delete(object)
	}
	return w.kv.Put(object, h.append(nil))
}

// ormap returns the header of the map that the operation's key holds.
func (o *operation) ormap() *ormapHeader {
	if h, ok := o.held.get(crdt.TypeORMap).(*ormapHeader); ok {
		return h
	}
	return &ormapHeader{}
}

// executeLeaf runs an operation on a leaf: what is at the path takes the place of what the key holds.
func (o *operation) executeLeaf(t crdt.Type) (Outcome, []Effect, error) {
	if visible := o.held.visible(o.at); visible != 0 && !o.AnyType && !o.held.live(crdt.TypeORMap, o.at) {
		return Outcome{}, nil, refuse(&WrongTypeError{Found: visible})
	}
	h, was := o.ormap(), o.held.live(crdt.TypeORMap, o.at)
	held, err := readHoldings(o.work.kv, placePrefix(o.Namespace, o.Key, o.Path), o.Condition.Kind == CondValue)
	if err != nil {
		return Outcome{}, nil, err
	}
	if h.present >= MaxSetElements && o.Kind != OpDelete && !held.live(t, o.at) {
		return Outcome{}, nil, refuse(ErrTooManyElements)
	}
	var before [len(kinds)]presence // operations change what they hold
	for t := range before {
		s := held.get(crdt.Type(t))
		before[t] = presence{s != nil, s != nil && s.live(o.at)}
	}
	op, leaf := *o.Op, *o
	op.Expires = 0 // it is the map that expires
	leaf.Op, leaf.held = &op, held
	outcome, effects, err := leaf.judgeAndRun(t)
	if err != nil {
		return outcome, nil, err
	}
	for i := range effects {
		e := &effects[i]
		after, err := o.work.presence(e.object(), e.Type)
		if err != nil {
			return Outcome{}, nil, err
		}
		h.moved(before[e.Type], after)
	}
	if len(effects) > 0 {
		h.last = o.dot
		if err := o.work.putORMap(objectKey(o.Namespace, o.Key, crdt.TypeORMap), h); err != nil {
			return Outcome{}, nil, err
		}
	}
	o.existed = was
	effects, err = o.settle(crdt.TypeORMap, effects)
	return outcome, effects, err
}

// mergeLeaf merges an effect on a leaf.
func mergeLeaf(w *work, d *Delta, e *Effect) error {
	return w.changeLeaf(e.object(), e.Type, d.Dot, func() error { return kinds[e.Type].merge(w, d, e) })
}

// collectLeaf removes what table Y names as not needed of a leaf.
func (w *work) collectLeaf(leaf []byte, t crdt.Type, cut hlc.Time, rest []byte) error {
	return w.changeLeaf(leaf, t, crdt.Dot{}, func() error { return w.collectObject(leaf, t, cut, rest) })
}

// changeLeaf does something to a leaf by an event, or by none, and keeps its map's header.
func (w *work) changeLeaf(leaf []byte, t crdt.Type, event crdt.Dot, do func() error) error {
	before, err := w.presence(leaf, t)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := w.presence(leaf, t)
	if err != nil || !before.stored && !after.stored || event.Seq == 0 && before == after {
		return err
	}
	object, err := mapKey(leaf)
	if err != nil {
		return err
	}
	data, ok, err := w.kv.Get(object)
	if err != nil {
		return err
	}
	var h ormapHeader
	if ok {
		if h, err = decodeORMapHeader(data); err != nil {
			return err
		}
	}
	h.moved(before, after)
	if event.Seq != 0 {
		h.last = event
	}
	return w.putORMap(object, &h)
}
