package replica

import (
	"bytes"
	"fmt"
)

// leaf counts a leaf off its map's header, which comes before it, and checks that its key is what it
// should be.
func (a *auditor) leaf(k, v []byte) error {
	p, t, err := parseLeafKey(k)
	if err != nil {
		return err
	}
	object, err := mapKey(k)
	if err != nil {
		return err
	}
	namespace, key, _, err := parseObjectKey(object)
	if err != nil || !bytes.Equal(objectAt(namespace, key, p, t), k) {
		return fmt.Errorf("leaf key %x of %q, %q, %q, %w", k, namespace, key, p.Names(), err)
	}
	s, err := kinds[t].decode(v)
	if err != nil {
		return err
	}
	h, ok := a.ormaps[string(object)]
	if !ok {
		return fmt.Errorf("leaf %q of no map", p.Names())
	}
	if s.live(0) {
		h.present--
	} else {
		h.traces--
	}
	a.ormaps[string(object)] = h
	return nil
}

// auditORMaps checks that headers count the leaves.
func (a *auditor) auditORMaps() error {
	for key, h := range a.ormaps {
		if h.present != 0 || h.traces != 0 || !somewhere(a.meta, h.last) {
			return fmt.Errorf("map %x is off by %d leaves and %d traces, last %v", key, int64(h.present), int64(h.traces), h.last)
		}
	}
	return nil
}
