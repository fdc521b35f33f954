package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// siblingsKind keeps a crdt.MVRegister or a crdt.EWFlag whole: the puts, or the enables, that nobody
// has seen and then written over. A flag's have no value, and otherwise both are the same. Their causal
// context is the partition's vector, with what table R says was removed before it arrived.
type siblingsKind struct{ of crdt.Type }

// siblings is a stored multi-value register or flag. It exists if there are any.
type siblings struct {
	// last is the last event applied to it here.
	last crdt.Dot
	// list ascends by dot, at most one of an actor: its events arrive in order, and a put takes the place
	// of the earlier ones of its own actor.
	list []crdt.Sibling
}

func (s *siblings) live(hlc.Time) bool { return len(s.list) > 0 }
func (s *siblings) version() string    { return s.last.String() }

// show answers the latest value as the one, and all of them beside it.
func (s *siblings) show(o *Object) {
	o.Siblings = s.latestFirst()
	if len(o.Siblings) > 0 {
		o.Value = o.Siblings[0].Value
	}
}

// latestFirst returns the siblings in descending order of (time, actor). No two are equal in it.
func (s *siblings) latestFirst() []crdt.Sibling {
	list := slices.Clone(s.list)
	slices.SortFunc(list, func(a, b crdt.Sibling) int { return b.Compare(a) })
	return list
}

// append appends the encoding: version 1 | last actor | last seq, and then what appendSiblings appends.
func (s *siblings) append(b []byte) []byte {
	return appendSiblings(appendDot(append(b, storeVersion), s.last), s.list)
}

// appendSiblings appends, to the end: actor | seq | time 8 | value bytes.
func appendSiblings(b []byte, list []crdt.Sibling) []byte {
	for _, s := range list {
		b = binary.BigEndian.AppendUint64(appendDot(b, s.Dot), uint64(s.Time))
		b = codec.AppendBytes(b, s.Value)
	}
	return b
}

func (k siblingsKind) decode(data []byte) (stored, error) {
	r := codec.NewReader("stored "+k.of.String(), data, storeVersion)
	s := &siblings{last: readDot(r)}
	for r.Len() > 0 {
		next := crdt.Sibling{Dot: readDot(r), Time: hlc.Time(r.Uint64()), Value: r.Bytes(k.maxValue())}
		if n := len(s.list); n > 0 && s.list[n-1].Dot.Actor >= next.Dot.Actor {
			r.Fail("actors out of order")
		}
		s.list = append(s.list, next)
	}
	if len(s.list) == 0 {
		r.Fail("no siblings")
	}
	return s, r.Done()
}

// maxValue is how large a value of the type may be.
func (k siblingsKind) maxValue() int {
	if k.of == crdt.TypeEWFlag {
		return 0
	}
	return crdt.MaxValueBytes
}

// siblings returns what the operation's key holds of the type.
func (k siblingsKind) siblings(o *operation) *siblings {
	if s, ok := o.held.get(k.of).(*siblings); ok {
		return s
	}
	return &siblings{}
}

func runFlagEnable(o *operation) (Outcome, []Effect, error) {
	return siblingsKind{crdt.TypeEWFlag}.put(o, nil)
}

func runMVPut(o *operation) (Outcome, []Effect, error) {
	return siblingsKind{crdt.TypeMVRegister}.put(o, o.Value)
}

// put leaves one sibling in place of those that are here. A flag that is enabled already is enabled
// anew, so that it survives a concurrent disable.
func (k siblingsKind) put(o *operation, value []byte) (Outcome, []Effect, error) {
	s := k.siblings(o)
	change := &SiblingsChange{Added: true, Value: value}
	for _, have := range s.list {
		if have.Dot.Actor != o.dot.Actor {
			change.Removed = append(change.Removed, have.Dot)
		}
	}
	s.list = []crdt.Sibling{{Dot: o.dot, Time: o.at, Value: value}}
	return k.store(o, s, change)
}

// delete removes the siblings that are here. There are no more of them than actors, so their dots say
// what was seen, and nothing has to be remembered of the delete.
func (k siblingsKind) delete(o *operation) (Outcome, []Effect, error) {
	s := k.siblings(o)
	change := &SiblingsChange{}
	for _, have := range s.list {
		change.Removed = append(change.Removed, have.Dot)
	}
	s.list = nil
	return k.store(o, s, change)
}

func (k siblingsKind) store(o *operation, s *siblings, change *SiblingsChange) (Outcome, []Effect, error) {
	s.last = o.dot
	outcome := Outcome{Version: s.version()}
	return outcome, o.effects(k.of, change), o.work.putSiblings(o.key(k.of), s)
}

// putSiblings writes a multi-value register or a flag, or deletes it if nothing is left of it.
func (w *work) putSiblings(objectKey []byte, s *siblings) error {
	w.wrote(objectKey, nil)
	if len(s.list) == 0 {
		return w.kv.Delete(objectKey)
	}
	return w.kv.Put(objectKey, s.append(nil))
}

// merge joins what is here, whose context is the vector with what was removed ahead of its arrival,
// with the delta, whose context is what it removed and all earlier events of its actor.
func (k siblingsKind) merge(w *work, d *Delta, e *Effect) error {
	change := e.Change.(*SiblingsChange)
	key := e.object()
	// This writes, so it comes before what is read is held on to.
	if err := w.recordPreremovals(key, nil, change.Removed); err != nil {
		return err
	}
	data, existed, err := w.kv.Get(key)
	if err != nil {
		return err
	}
	s := &siblings{}
	if existed {
		o, err := k.decode(data)
		if err != nil {
			return err
		}
		s = o.(*siblings)
	}
	list := s.list
	var added crdt.DotSet
	var removedAhead bool
	if change.Added {
		added = crdt.DotSet{d.Dot}
		list = append(list, crdt.Sibling{Dot: d.Dot, Time: d.Time, Value: change.Value})
		if removedAhead, err = w.wasRemovedAhead(d.Dot, key, nil); err != nil {
			return err
		}
	}
	joined := crdt.JoinDots(dotsOf(s.list), added,
		func(crdt.Dot) bool { return removedAhead },
		takesAway(d.Dot.Actor, change.Added, change.Removed))
	if err := k.beside(w, contest{delta: d, effect: e}, joined); err != nil {
		return err
	}
	if len(joined) == 0 && !existed {
		return nil
	}
	s.last, s.list = d.Dot, pick(list, joined)
	return w.putSiblings(key, s)
}

// beside notes what stands beside a put that arrived, or although a delete did. Enables agree.
func (k siblingsKind) beside(w *work, c contest, joined crdt.DotSet) error {
	added := c.effect.Change.(*SiblingsChange).Added
	if added && (k.of == crdt.TypeEWFlag || !joined.Contains(c.delta.Dot)) {
		return nil
	}
	return w.outliveAll(c, joined)
}

func dotsOf(list []crdt.Sibling) crdt.DotSet {
	dots := make(crdt.DotSet, len(list))
	for i, s := range list {
		dots[i] = s.Dot
	}
	return dots
}

// pick returns the siblings that have the given dots, in their order. There are as few as actors.
func pick(list []crdt.Sibling, dots crdt.DotSet) []crdt.Sibling {
	picked := make([]crdt.Sibling, len(dots))
	for i, d := range dots {
		picked[i] = list[slices.IndexFunc(list, func(s crdt.Sibling) bool { return s.Dot == d })]
	}
	return picked
}

// digest hashes all but the last event, which depends on the order of arrival.
func (siblingsKind) digest(sum *digestSum, key []byte, s stored, _ hlc.Time) uint64 {
	sum.item(key, nil, appendSiblings([]byte{storeVersion}, s.(*siblings).list))
	return 0
}

// explainBytes is how much Explain shows of a value.
const explainBytes = 60

func (k siblingsKind) explain(_ KV, s stored, e *Explained) error {
	list := s.(*siblings).latestFirst()
	e.Size = uint64(len(list))
	for i, sibling := range list[:min(len(list), explainElements)] {
		part := ExplainedPart{Value: "enabled", Dots: crdt.DotSet{sibling.Dot}, Time: sibling.Time}
		if k.of == crdt.TypeMVRegister {
			part.Value = quoted(sibling.Value)
			if i == 0 && len(list) > 1 {
				part.Value += ", the latest"
			}
		}
		e.Parts = append(e.Parts, part)
	}
	return nil
}

// quoted shows the first bytes of a value, whatever they are.
func quoted(value []byte) string {
	if len(value) <= explainBytes {
		return fmt.Sprintf("%q", value)
	}
	return fmt.Sprintf("%q and %d bytes more", value[:explainBytes], len(value)-explainBytes)
}
