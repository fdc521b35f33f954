package replica

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// setKind keeps a set's header in table K and in elements its elements with their dots.
type setKind struct{}

// setHeader is what is stored of a set besides elements outside. It exists if count is not 0.
type setHeader struct {
	last  crdt.Dot
	count uint64
	elements
}

// append appends the encoding:
//
//	version 1 | last actor | last seq | kid | count
//	version 2 | last actor | last seq | elements
func (h *setHeader) append(b []byte) []byte {
	if len(h.inside) > 0 {
		return h.appendInside(appendDot(append(b, headerVersion2), h.last))
	}
	b = appendDot(append(b, storeVersion), h.last)
	return binary.AppendUvarint(binary.AppendUvarint(b, h.kid), h.count)
}

func (h *setHeader) live(hlc.Time) bool { return h.count != 0 }
func (h *setHeader) version() string    { return h.last.String() }
func (h *setHeader) show(o *Object)     { o.Size = h.count }

func decodeSetHeader(data []byte) (setHeader, error) {
	r, version := readHeader("set header", data)
	h := setHeader{last: readDot(r)}
	if version == headerVersion2 {
		h.elements = readInside(r)
		h.count = uint64(len(h.inside))
		return h, r.Done()
	}
	h.kid, h.count = r.Uvarint(^uint64(0)), r.Uvarint(^uint64(0))
	if h.kid == 0 || h.count == 0 {
		r.Fail("set without id or elements")
	}
	return h, r.Done()
}

func (setKind) decode(data []byte) (stored, error) {
	h, err := decodeSetHeader(data)
	return &h, err
}

func (setKind) digest(_ *digestSum, _ []byte, s stored, _ hlc.Time) uint64 { return s.(*setHeader).kid }

func (setKind) explain(kv KV, s stored, e *Explained) error {
	h := s.(*setHeader)
	e.Size = h.count
	return h.scan(kv, nil, nil, func(name, v []byte) (bool, error) {
		dots, err := crdt.DecodeDotSet(v)
		e.Elements = append(e.Elements, ExplainedElement{slices.Clone(name), dots})
		return len(e.Elements) < explainElements, err
	})
}

func checkElements(o *Op) error {
	if len(o.Elements) > MaxOperationElements {
		return fmt.Errorf("%d elements", len(o.Elements))
	}
	for _, e := range o.Elements {
		if len(e) == 0 || len(e) > crdt.MaxElementBytes {
			return fmt.Errorf("element of %d bytes", len(e))
		}
	}
	return nil
}

// set returns what the operation's key holds of a set.
func (o *operation) set() *setHeader {
	if h, ok := o.held.get(crdt.TypeAWSet).(*setHeader); ok {
		return h
	}
	return &setHeader{}
}

// ascending returns the distinct elements in order, as deltas have them.
func ascending(elements [][]byte) [][]byte {
	sorted := slices.Clone(elements)
	slices.SortFunc(sorted, bytes.Compare)
	return slices.CompactFunc(sorted, bytes.Equal)
}

// observed reads the surviving adds of elements; a set that is absent has none.
func (o *operation) observed(set *setHeader, elements [][]byte) ([]crdt.DotSet, error) {
	dots := make([]crdt.DotSet, len(elements))
	if set.count == 0 {
		return dots, nil
	}
	for i, element := range elements {
		var err error
		if dots[i], err = o.work.dots(set, element); err != nil {
			return nil, err
		}
	}
	return dots, nil
}

// runSetAdd gives each element the operation's dot in place of the adds it had: one that was there
// already is added anew, so that it survives a concurrent remove.
func runSetAdd(o *operation) (Outcome, []Effect, error) {
	set := o.set()
	elements := ascending(o.Elements)
	if len(elements) == 0 {
		return Outcome{Size: set.count}, nil, nil
	}
	observed, err := o.observed(set, elements)
	if err != nil {
		return Outcome{}, nil, err
	}
	var added uint64
	for _, dots := range observed {
		if len(dots) == 0 {
			added++
		}
	}
	if added > 0 && set.count+added > MaxSetElements {
		return Outcome{}, nil, refuse(ErrTooManyElements)
	}
	// Nothing was written so far, and nothing is refused from here on.
	changes := make([]ElementChange, len(elements))
	value := crdt.DotSet{o.dot}.Append(nil)
	for i, element := range elements {
		changes[i] = ElementChange{Element: element, Added: true, Removed: observed[i]}
		if err := set.put(o.work, element, value, nil); err != nil {
			return Outcome{}, nil, err
		}
	}
	set.count += added
	return o.storeSet(set, added, &SetChange{Elements: changes})
}

// runSetRemove takes away every add of the elements that is here.
func runSetRemove(o *operation) (Outcome, []Effect, error) {
	set := o.set()
	elements := ascending(o.Elements)
	observed, err := o.observed(set, elements)
	if err != nil {
		return Outcome{}, nil, err
	}
	var changes []ElementChange
	for i, element := range elements {
		if len(observed[i]) == 0 {
			continue
		}
		changes = append(changes, ElementChange{Element: element, Removed: observed[i]})
		if err := set.delete(o.work, element); err != nil {
			return Outcome{}, nil, err
		}
	}
	if len(changes) == 0 {
		return Outcome{Size: set.count}, nil, nil
	}
	removed := uint64(len(changes))
	set.count -= removed
	return o.storeSet(set, removed, &SetChange{Elements: changes})
}

// delete empties the set in constant time: its elements are left for sweep under an id that no
// set has any more. The delta names what was seen by the vector, not element by element.
func (setKind) delete(o *operation) (Outcome, []Effect, error) {
	set := o.set()
	if err := set.discard(o.work); err != nil {
		return Outcome{}, nil, err
	}
	removed := set.count
	set.count = 0
	object := o.key(crdt.TypeAWSet)
	seen := o.work.meta.context(object)
	if !o.work.meta.vector.Descends(seen) { // a resync has yet to bring some of what is cleared
		if err := o.work.deferClear(object, seen); err != nil {
			return Outcome{}, nil, err
		}
	}
	return o.storeSet(set, removed, &SetChange{Cleared: &seen})
}

// storeSet writes the set's header, and returns what an operation that changed it answers.
func (o *operation) storeSet(set *setHeader, changed uint64, change *SetChange) (Outcome, []Effect, error) {
	set.last = o.dot
	outcome := Outcome{Version: set.version(), Size: set.count, Changed: changed}
	return outcome, o.effects(crdt.TypeAWSet, change), o.work.putSet(o.key(crdt.TypeAWSet), set)
}
