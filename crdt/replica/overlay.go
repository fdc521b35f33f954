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
	next := o.changes.Iter()
	pending := next.Seek(string(start))
	stopped := false
	// emit visits the changes before key and says whether one of them is key's.
	emit := func(key []byte, toEnd bool) (shadowed bool, err error) {
		for pending && !stopped && (toEnd || next.Key() <= string(key)) {
			changed, c := next.Key(), next.Value()
			if end != nil && changed >= string(end) {
				return false, nil
			}
			if !c.deleted {
				more, err := visit([]byte(changed), c.value)
				if err != nil {
					return false, err
				}
				stopped = !more
			}
			pending = next.Next()
			if !toEnd && changed == string(key) {
				return true, nil
			}
		}
		return false, nil
	}
	err := o.base.Scan(start, end, func(key, value []byte) (bool, error) {
		shadowed, err := emit(key, false)
		if err != nil || stopped {
			return false, err
		}
		if shadowed {
			return true, nil
		}
		more, err := visit(key, value)
		stopped = !more
		return more, err
	})
	if err != nil || stopped {
		return err
	}
	_, err = emit(nil, true)
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
