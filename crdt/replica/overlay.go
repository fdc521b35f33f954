package replica

import (
	"slices"

	"github.com/tidwall/btree"
)

// overlay is a KV that holds changes to another one until apply, so that a batch that is refused
// half-way leaves nothing behind, and a pair that a batch writes many times is written once.
type overlay struct {
	base    KV
	changes btree.Map[string, change]
}

type change struct {
	value   []byte
	deleted bool
}

// Get implements KV.
func (o *overlay) Get(key []byte) ([]byte, bool, error) {
	if c, ok := o.changes.Get(string(key)); ok {
		return c.value, !c.deleted, nil
	}
	return o.base.Get(key)
}

// Put implements KV.
func (o *overlay) Put(key, value []byte) error {
	o.changes.Set(string(key), change{value: slices.Clone(value)})
	return nil
}

// Delete implements KV.
func (o *overlay) Delete(key []byte) error {
	o.changes.Set(string(key), change{deleted: true})
	return nil
}

// Scan implements KV: it merges the changes into the base's order.
func (o *overlay) Scan(start, end []byte, visit func(key, value []byte) (bool, error)) error {
	if o.changes.Len() == 0 {
		return o.base.Scan(start, end, visit)
	}
	m := &mergingScan{next: o.changes.Iter(), end: end, visit: visit, more: true}
	m.pending = m.next.Seek(string(start))
	err := o.base.Scan(start, end, func(key, value []byte) (bool, error) {
		shadowed, err := m.changesUpTo(key)
		if err != nil || !m.more || shadowed {
			return m.more, err
		}
		m.more, err = visit(key, value)
		return m.more, err
	})
	if err != nil || !m.more {
		return err
	}
	return m.changesToEnd()
}

// mergingScan is a scan under way.
type mergingScan struct {
	next    btree.MapIter[string, change]
	pending bool // next is at a change
	end     []byte
	visit   func(key, value []byte) (bool, error)
	more    bool // visit wants more
}

// changesUpTo visits the changes up to key, which is in the base, and reports whether one is key's.
func (m *mergingScan) changesUpTo(key []byte) (shadowed bool, err error) {
	for m.pending && m.more && m.next.Key() <= string(key) {
		shadowed = m.next.Key() == string(key)
		if err := m.visitChange(); err != nil {
			return false, err
		}
	}
	return shadowed, nil
}

// changesToEnd visits the changes that are left once the base has no more.
func (m *mergingScan) changesToEnd() error {
	for m.pending && m.more && (m.end == nil || m.next.Key() < string(m.end)) {
		if err := m.visitChange(); err != nil {
			return err
		}
	}
	return nil
}

func (m *mergingScan) visitChange() error {
	var err error
	if c := m.next.Value(); !c.deleted {
		m.more, err = m.visit([]byte(m.next.Key()), c.value)
	}
	m.pending = m.next.Next()
	return err
}

// apply writes the changes to the base, in order.
func (o *overlay) apply() error {
	var err error
	o.changes.Scan(func(key string, c change) bool {
		if c.deleted {
			err = o.base.Delete([]byte(key))
		} else {
			err = o.base.Put([]byte(key), c.value)
		}
		return err == nil
	})
	return err
}
