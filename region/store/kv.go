package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"go.etcd.io/bbolt"

	"github.com/atolldb/atoll/crdt/replica"
)

const (
	// maxKeyBytes is bbolt's bound.
	maxKeyBytes = bbolt.MaxKeySize
	// maxValueBytes bounds what the check before open has to believe of a page's length.
	maxValueBytes = 16 << 20
)

// errReadOnly means that a caller wrote where it may only read.
var errReadOnly = errors.New("write in a view")

// layers are the memtables of a view, newest first: the one that took writes when the view began,
// and the one that was being flushed. Either may be nil.
type layers [2]*memtable

// view is the state as of one instant: memtables over the file. It satisfies replica.KV.
type view struct {
	base
	layers layers
	seq    uint64
	// writes is the table that takes the view's writes, nil if it takes none.
	writes *memtable
}

var _ replica.KV = (*view)(nil)

// Get returns key's value.
func (v *view) Get(key []byte) (value []byte, ok bool, err error) {
	for _, m := range v.layers {
		if m == nil {
			continue
		}
		var found *version
		if m == v.writes {
			found = m.getForWrite(key, v.seq)
		} else {
			found = m.get(key, v.seq)
		}
		if found != nil {
			return found.value(), !found.deleted, nil
		}
	}
	return v.get(key)
}

// value returns the value in a version that is not a deletion.
func (v *version) value() []byte {
	if v.deleted {
		return nil
	}
	return v.record[recordHeaderBytes:]
}

// Put stores value under key.
func (v *view) Put(key, value []byte) error {
	if len(key) == 0 || len(key) > maxKeyBytes || len(value) > maxValueBytes {
		return v.refuse(fmt.Errorf("%w: key of %d, value of %d bytes", ErrTooLarge, len(key), len(value)))
	}
	if v.writes == nil {
		return v.refuse(errReadOnly)
	}
	v.writes.put(v.seq, key, value)
	return nil
}

// Delete removes key.
func (v *view) Delete(key []byte) error {
	if len(key) == 0 || len(key) > maxKeyBytes {
		return nil // it cannot be there
	}
	if v.writes == nil {
		return v.refuse(errReadOnly)
	}
	v.writes.remove(v.seq, key)
	return nil
}

// refuse remembers a write that was not done: what depends on it must not be kept either.
func (v *view) refuse(err error) error {
	if v.fault == nil {
		v.fault = err
	}
	return err
}

// Scan visits the keys in [start, end) in order.
func (v *view) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	s := scan{v: v, end: end, cursor: v.takeCursor()}
	defer v.putCursor(s.cursor)
	for i, m := range v.layers {
		switch {
		case m == nil:
		case m == v.writes:
			s.nodes[i] = s.within(m.firstForWrite(start, v.seq))
		default:
			s.nodes[i] = s.within(m.first(start, v.seq))
		}
	}
	var err error
	if s.key, s.value, err = v.seek(s.cursor, start, end); err != nil {
		return err
	}
	for {
		key, value, ok, err := s.next()
		if err != nil || !ok {
			return err
		}
		// Outside any guard: a panic in visit is the caller's, not damage.
		more, err := visit(key, value)
		if err != nil || !more {
			return err
		}
	}
}

// scan merges the layers of a view and the file in key order.
type scan struct {
	v      *view
	end    []byte
	nodes  [len(layers{})]*node // where each memtable is, nil at its end
	cursor *bbolt.Cursor
	key    []byte // where the file is, nil at its end
	value  []byte
	at     uint // which of them are at the pair returned last: a bit for each memtable, then inFile
}

const inFile = 1 << len(layers{})

// next returns the next pair that is not deleted.
func (s *scan) next() (key, value []byte, ok bool, err error) {
	for {
		if err := s.advance(); err != nil {
			return nil, nil, false, err
		}
		if s.least(); s.at == 0 {
			return nil, nil, false, nil
		}
		newest := bits.TrailingZeros(s.at)
		if newest == len(s.nodes) {
			return s.key, s.value, true, nil
		}
		n := s.nodes[newest]
		if v := n.at(s.v.seq); !v.deleted {
			return n.key, v.value(), true, nil
		}
	}
}

// advance moves what is at the pair returned last.
func (s *scan) advance() (err error) {
	for i, n := range s.nodes {
		if s.at&(1<<i) != 0 {
			s.nodes[i] = s.within(n.following(s.v.seq))
		}
	}
	if s.at&inFile != 0 {
		s.key, s.value, err = s.v.step(s.cursor, s.end)
	}
	return err
}

// least finds what is at the least key.
func (s *scan) least() {
	s.at = 0
	var key []byte
	if s.key != nil {
		key, s.at = s.key, inFile
	}
	for i, n := range s.nodes {
		if n == nil {
			continue
		}
		order := -1
		if s.at != 0 {
			order = bytes.Compare(n.key, key)
		}
		switch {
		case order < 0:
			key, s.at = n.key, 1<<i
		case order == 0:
			s.at |= 1 << i
		}
	}
}

// within returns n if the scan covers it.
func (s *scan) within(n *node) *node {
	if n != nil && s.end != nil && bytes.Compare(n.key, s.end) >= 0 {
		return nil
	}
	return n
}
