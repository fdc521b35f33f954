package replica

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// Position is a place in the order in which a replica's state is compared and transferred: by user key, then type
// and path, then element. It stands before what it names. The zero Position is before everything.
//
// Which of an object's parts are elements is decided by its type; what it has besides is before them.
type Position struct {
	// Object is the object's key in table K or N without the first byte. Keys of both tables are one order then.
	Object string
	// Element is the element's name; empty before all of the object.
	Element string
	// End is behind everything; the rest is empty then.
	End bool
}

// maxObjectBytes bounds an object's key: a namespace, a key and a path, escaped.
const maxObjectBytes = 2*(255+MaxKeyBytes+maxPathBytes) + 64

// Compare orders positions.
func (p Position) Compare(o Position) int {
	switch {
	case p.End || o.End:
		return int(count(p.End)) - int(count(o.End))
	default:
		return cmp.Or(strings.Compare(p.Object, o.Object), strings.Compare(p.Element, o.Element))
	}
}

// append appends: 0 for the end, or 1 | object bytes | element bytes.
func (p Position) append(b []byte) []byte {
	if p.End {
		return append(b, 0)
	}
	return codec.AppendBytes(codec.AppendBytes(append(b, 1), p.Object), p.Element)
}

// positionVersion is the first byte of an encoded Position.
const positionVersion = 1

// EncodePosition returns the encoding: version 1 | what Position.append says.
func EncodePosition(p Position) []byte { return p.append([]byte{positionVersion}) }

// DecodePosition reads what EncodePosition wrote.
func DecodePosition(data []byte) (Position, error) {
	r := codec.NewReader("position", data, positionVersion)
	p := readPosition(r)
	return p, r.Done()
}

func readPosition(r *codec.Reader) Position {
	switch r.Byte() {
	case 0:
		return Position{End: true}
	case 1:
		return Position{Object: string(r.Bytes(maxObjectBytes)), Element: string(r.Bytes(crdt.MaxElementBytes))}
	default:
		r.Fail("unknown kind of position")
		return Position{}
	}
}

// positionOf returns the object that a key of table K or N, or of D, is of, as positions have it.
func positionOf(key []byte) string { return string(key[1:]) }

// objectAtPosition returns the key in table K or N of an object, and its type.
func objectAtPosition(object string) ([]byte, crdt.Type, error) {
	for _, table := range [...]byte{tableObject, tableLeaf} {
		key, t, rest, err := cutObjectKey(append([]byte{table}, object...))
		if err == nil && len(rest) == 0 && (table == tableObject || isLeafType(t)) {
			return key, t, nil
		}
	}
	return nil, 0, fmt.Errorf("position of no object: %w", crdt.ErrCorrupt)
}

// nameAtPosition returns what clients call the value that an object is, or is a part of.
func nameAtPosition(object string) (Name, error) {
	key, t, err := objectAtPosition(object)
	if err != nil {
		return Name{}, err
	}
	namespace, rest, _ := readName(key[1:])
	user, _, _ := readName(rest)
	if key[0] == tableLeaf {
		t = crdt.TypeORMap
	}
	return Name{Namespace: namespace, Key: user, Type: t &^ deadlineBit}, nil
}

// within returns which elements of an object are in [from, to): all from low on, before high unless that is
// empty. head says that what is before the elements is, too.
func within(from, to Position, object string) (low, high string, head bool) {
	if object == from.Object {
		low = from.Element
	}
	if !to.End && object == to.Object {
		high = to.Element
	}
	return low, high, low == ""
}

// objectScan visits the objects whose parts are in [from, to), in order, a few keys at a time: so it may be read
// while what it has returned is changed.
type objectScan struct {
	kv      reader
	windows [3]scanWindow
}

// scanWindow is the next keys of one table.
type scanWindow struct {
	start, end []byte
	pairs      []pair
	done       bool
}

const (
	scanWindowKeys  = 64
	scanWindowBytes = 256 << 10
)

// scanObjects scans tables K and N, and D if cleared is set, because a set may be known by a clear alone.
func scanObjects(kv reader, from, to Position, cleared bool) *objectScan {
	s := &objectScan{kv: kv}
	for i, table := range [...]byte{tableObject, tableLeaf, tableDeferred} {
		w := &s.windows[i]
		w.start = append([]byte{table}, from.Object...)
		w.end = []byte{table + 1}
		if !to.End {
			w.end = append([]byte{table}, to.Object...)
			if to.Element != "" {
				w.end = append(w.end, 0) // the object itself, too
			}
		}
		w.done = table == tableDeferred && !cleared || bytes.Compare(w.start, w.end) >= 0
	}
	return s
}

func (w *scanWindow) fill(kv reader) error {
	if len(w.pairs) > 0 || w.done {
		return nil
	}
	size := 0
	err := kv.Scan(w.start, w.end, func(k, v []byte) (bool, error) {
		w.pairs = append(w.pairs, pair{bytes.Clone(k), bytes.Clone(v)})
		size += len(k) + len(v)
		return len(w.pairs) < scanWindowKeys && size < scanWindowBytes, nil
	})
	if n := len(w.pairs); n > 0 {
		w.start = append(bytes.Clone(w.pairs[n-1].name), 0)
	} else {
		w.done = true
	}
	return err
}

// scanned is an object on the way.
type scanned struct {
	object string
	// key is that in table K or N, and t the type.
	key []byte
	t   crdt.Type
	// value is the pair's, nil if there is none; cleared is that of table D.
	value, cleared []byte
}

// next returns the next object; ok is false behind the last. Headers of maps of leaves are passed by: their leaves
// are objects of their own.
func (s *objectScan) next() (o scanned, ok bool, err error) {
	for {
		var first *scanWindow
		for i := range s.windows {
			w := &s.windows[i]
			if err := w.fill(s.kv); err != nil {
				return scanned{}, false, err
			}
			if len(w.pairs) > 0 && (first == nil || bytes.Compare(w.pairs[0].name[1:], first.pairs[0].name[1:]) < 0) {
				first = w
			}
		}
		if first == nil {
			return scanned{}, false, nil
		}
		o = scanned{object: positionOf(first.pairs[0].name)}
		for i := range s.windows {
			w := &s.windows[i]
			if len(w.pairs) == 0 || positionOf(w.pairs[0].name) != o.object {
				continue
			}
			if w.pairs[0].name[0] == tableDeferred {
				o.cleared = w.pairs[0].value
			} else {
				o.value = w.pairs[0].value
			}
			w.pairs = w.pairs[1:]
		}
		if o.key, o.t, err = objectAtPosition(o.object); err != nil {
			return scanned{}, false, err
		}
		if o.t != crdt.TypeORMap {
			return o, true, nil
		}
	}
}
