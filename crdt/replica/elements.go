package replica

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
)

// elements is where the pairs of a collection are. As long as they are few and small they are inside the
// collection's header, in table K: one pair of the storage then has all of a small collection. The first
// change that makes them too many or too large gives them a kid, and from then on each is a pair of its
// own in table E, and those with a score are in table Z. They do not move back as long as there are any.
//
// Which form a collection has is each replica's own affair: neither deltas nor digests depend on it.
type elements struct {
	// kid is the local id of the pairs in tables E and Z, 0 if there are none there.
	kid uint64
	// inside are the pairs in the header, in ascending order of names. Table Z's are not among them: who
	// wants their order sorts them.
	inside []pair
}

// pair is an element and what is kept of it.
type pair struct{ name, value []byte }

// insideLimits bounds what is kept inside a header.
type insideLimits struct {
	elements, bytes int
}

// headerVersion2 is the first byte of a collection's header that has elements inside. Any other has
// storeVersion.
const headerVersion2 = 2

// defaultInside is for all replicas. Headers may have more if another program wrote them.
var defaultInside = insideLimits{elements: 64, bytes: 2 << 10}

// ordering says which place an element has in the order of scores: in is false if it has none. A nil
// ordering is of a collection without scores.
type ordering func(value []byte) (ordered uint64, in bool, err error)

// reader is what reading needs of a KV.
type reader interface {
	Get(key []byte) (value []byte, ok bool, err error)
	Scan(start, end []byte, visit func(key, value []byte) (more bool, err error)) error
}

// appendInside appends the pairs in the header: (name bytes | value bytes)*.
func (e *elements) appendInside(b []byte) []byte {
	for _, p := range e.inside {
		b = codec.AppendBytes(codec.AppendBytes(b, p.name), p.value)
	}
	return b
}

// readHeader begins to read a collection's header, and returns its version. What it reads does not share
// data's memory if there are elements in it: a header outlives the writes that follow on reading it.
func readHeader(what string, data []byte) (*codec.Reader, byte) {
	if len(data) > 0 && data[0] == headerVersion2 {
		data = slices.Clone(data)
	}
	return codec.NewReaderOf(what, data, headerVersion2)
}

// readInside reads what appendInside wrote, to the end.
func readInside(r *codec.Reader) elements {
	var e elements
	for r.Len() > 0 {
		p := pair{r.Bytes(crdt.MaxElementBytes), r.Bytes(r.Len())}
		if n := len(e.inside); len(p.name) == 0 || n > 0 && bytes.Compare(e.inside[n-1].name, p.name) >= 0 {
			r.Fail("elements out of order")
		}
		e.inside = append(e.inside, p)
	}
	if len(e.inside) == 0 {
		r.Fail("no elements in a header that has them")
	}
	return e
}

func (e *elements) within() []pair { return e.inside }

func (e *elements) find(name []byte) (at int, found bool) {
	return slices.BinarySearchFunc(e.inside, name, func(p pair, name []byte) int { return bytes.Compare(p.name, name) })
}

// get reads an element. It shares memory that is valid until the next write.
func (e *elements) get(kv reader, name []byte) (value []byte, ok bool, err error) {
	if e.kid != 0 {
		return kv.Get(elementKey(e.kid, name))
	}
	if at, found := e.find(name); found {
		return e.inside[at].value, true, nil
	}
	return nil, false, nil
}

// load does what get does.
func (e *elements) load(w *work, name []byte) (value []byte, ok bool, err error) {
	if e.kid != 0 {
		return w.kv.Get(w.elementKey(e.kid, name))
	}
	return e.get(w.kv, name)
}

// elementKey returns the key in table E of an element, until the next one is asked for.
func (w *work) elementKey(kid uint64, name []byte) []byte {
	w.name = append(binary.BigEndian.AppendUint64(append(w.name[:0], tableElement), kid), name...)
	return w.name
}

// put writes an element. It keeps neither slice. The header is to be written after it. order is the
// collection's.
func (e *elements) put(w *work, name, value []byte, order ordering) error {
	if e.kid != 0 {
		return w.kv.Put(w.elementKey(e.kid, name), value)
	}
	value = slices.Clone(value)
	if at, found := e.find(name); found {
		e.inside[at].value = value
	} else {
		e.inside = slices.Insert(e.inside, at, pair{slices.Clone(name), value})
	}
	if e.fit(w.inside) {
		return nil
	}
	return e.moveOut(w, order)
}

func (e *elements) fit(limits insideLimits) bool {
	size := 0
	for _, p := range e.inside {
		size += len(p.name) + len(p.value) + 2 // with lengths of one byte, as most are
	}
	return len(e.inside) <= limits.elements && size <= limits.bytes
}

// moveOut gives each pair inside the header a pair of its own.
func (e *elements) moveOut(w *work, order ordering) error {
	inside := e.inside
	*e = elements{kid: w.newKid()}
	for _, p := range inside {
		if err := w.kv.Put(elementKey(e.kid, p.name), p.value); err != nil {
			return err
		}
		if order == nil {
			continue
		}
		ordered, in, err := order(p.value)
		if err == nil && in {
			err = e.index(w, ordered, p.name, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delete removes an element. Its place in the order of scores is to be given up with index.
func (e *elements) delete(w *work, name []byte) error {
	if e.kid != 0 {
		return w.kv.Delete(w.elementKey(e.kid, name))
	}
	if at, found := e.find(name); found {
		e.inside = slices.Delete(e.inside, at, at+1)
	}
	return nil
}

// index enters an element in the order of scores, or takes it out.
func (e *elements) index(w *work, ordered uint64, name []byte, in bool) error {
	switch {
	case e.kid == 0:
		return nil
	case in:
		return w.kv.Put(scoreKey(e.kid, ordered, name), marker[:])
	default:
		return w.kv.Delete(scoreKey(e.kid, ordered, name))
	}
}

// discard gives up all elements: those outside are left to sweep, in constant time.
func (e *elements) discard(w *work) error {
	kid := e.kid
	*e = elements{}
	if kid == 0 {
		return nil
	}
	return w.discard(kid)
}

// cut deletes the elements whose names are before end, and returns how many.
func (e *elements) cut(w *work, end []byte) (uint64, error) {
	if e.kid != 0 {
		return w.deleteRange(elementKey(e.kid, nil), elementKey(e.kid, end))
	}
	n, _ := e.find(end)
	e.inside = slices.Delete(e.inside, 0, n)
	return uint64(n), nil
}

// in returns where readers find the elements under e.kid: in table E, and with an ordering in table Z.
func (e *elements) in(kv reader, order ordering) (reader, error) {
	if e.kid != 0 {
		return kv, nil
	}
	all := make(sorted, 0, 2*len(e.inside))
	for _, p := range e.inside {
		all = append(all, pair{elementKey(0, p.name), p.value})
	}
	if order == nil {
		return all, nil
	}
	for _, p := range e.inside {
		ordered, in, err := order(p.value)
		if err != nil {
			return nil, err
		}
		if in {
			all = append(all, pair{scoreKey(0, ordered, p.name), marker[:]})
		}
	}
	slices.SortFunc(all, func(a, b pair) int { return bytes.Compare(a.name, b.name) })
	return all, nil
}

// scan visits the elements with names in [start, end) in order; a nil end means no end.
func (e *elements) scan(kv reader, start, end []byte, visit func(name, value []byte) (more bool, err error)) error {
	if e.kid != 0 {
		to := prefixEnd(elementKey(e.kid, nil))
		if end != nil {
			to = elementKey(e.kid, end)
		}
		return kv.Scan(elementKey(e.kid, start), to, func(k, v []byte) (bool, error) { return visit(elementOf(k), v) })
	}
	at, _ := e.find(start)
	for _, p := range e.inside[at:] {
		if end != nil && bytes.Compare(p.name, end) >= 0 {
			return nil
		}
		if more, err := visit(p.name, p.value); err != nil || !more {
			return err
		}
	}
	return nil
}

// behind returns where a scan begins that continues after a name; the empty name is before all.
func behind(name []byte) []byte {
	if len(name) == 0 {
		return nil
	}
	return append(slices.Clone(name), 0)
}

// sorted is a reader of pairs in ascending order of their names.
type sorted []pair

// Get implements reader.
func (s sorted) Get(key []byte) ([]byte, bool, error) {
	at, found := s.find(key)
	if !found {
		return nil, false, nil
	}
	return s[at].value, true, nil
}

func (s sorted) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(p pair, key []byte) int { return bytes.Compare(p.name, key) })
}

// Scan implements reader.
func (s sorted) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	at, _ := s.find(start)
	for _, p := range s[at:] {
		if end != nil && bytes.Compare(p.name, end) >= 0 {
			return nil
		}
		if more, err := visit(p.name, p.value); err != nil || !more {
			return err
		}
	}
	return nil
}

// newKid returns an id for a collection's elements that was never used.
func (w *work) newKid() uint64 {
	kid := w.meta.nextKid
	w.meta.nextKid++
	return kid
}

// deletedAtOnce bounds how many keys are held in memory while a range is deleted.
const deletedAtOnce = 4096

func (w *work) deleteRange(start, end []byte) (removed uint64, err error) {
	for {
		keys, err := collectRange(w.kv, start, end, deletedAtOnce)
		if err != nil || len(keys) == 0 {
			return removed, err
		}
		for _, k := range keys {
			if err := w.kv.Delete(k); err != nil {
				return removed, err
			}
		}
		removed += uint64(len(keys))
		start = keys[len(keys)-1]
	}
}
