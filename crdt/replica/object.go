package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// holdings is what is stored under one user key.
type holdings struct {
	// register is apart from the others because most keys hold nothing else.
	register storedRegister
	others   []holding
}

type holding struct {
	t crdt.Type
	stored
}

// load reads one object of table K into the holdings. A register's value is copied if it will be
// needed after the present visit, else left out.
func (h *holdings) load(t crdt.Type, data []byte, keepValue bool) error {
	if t != crdt.TypeLWWRegister {
		return h.loadOther(t, data, keepValue)
	}
	reg, err := crdt.DecodeLWWRegister(data)
	h.register = storedRegister{reg}
	if keepValue {
		h.register.Value = slices.Clone(reg.Value)
	} else {
		h.register.Value = nil
	}
	return err
}

func (h *holdings) loadOther(t crdt.Type, data []byte, keep bool) error {
	k := kindOf(t)
	if k == nil {
		return fmt.Errorf("object of %v: %w", t, crdt.ErrCorrupt)
	}
	if keep {
		data = slices.Clone(data)
	}
	s, err := k.decode(data)
	if err == nil {
		h.others = append(h.others, holding{t, s})
	}
	return err
}

// readHoldings reads all types under a user key, or at a path: prefix is what their keys begin with.
func readHoldings(kv KV, prefix []byte, keepValue bool) (holdings, error) {
	var h holdings
	err := kv.Scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		if len(k) != len(prefix)+1 {
			return false, fmt.Errorf("object key: %w", crdt.ErrCorrupt)
		}
		return true, h.load(crdt.Type(k[len(prefix)]), v, keepValue)
	})
	return h, err
}

// get returns the object of a type, nil if there is none.
func (h *holdings) get(t crdt.Type) stored {
	if t == crdt.TypeLWWRegister {
		if h.register.Seq == 0 {
			return nil
		}
		return &h.register
	}
	for _, o := range h.others {
		if o.t == t {
			return o.stored
		}
	}
	return nil
}

// live reports whether the user key has a value of a type at an instant, which has not expired.
func (h *holdings) live(t crdt.Type, now hlc.Time) bool {
	s := h.get(t)
	return s != nil && s.live(now) && (len(h.others) == 0 || !h.deadline(t).passed(now))
}

// visible returns the type that an untyped read resolves to, 0 if the user key is absent. The
// priority is the order of the type codes, so that a scan meets it first.
func (h *holdings) visible(now hlc.Time) crdt.Type {
	for t := crdt.TypeLWWRegister; t.Valid(); t++ {
		if h.live(t, now) {
			return t
		}
	}
	return 0
}

// version returns the version of a type's value, "" if there is none at that instant. A counter's
// and a set's is the last event applied here.
func (h *holdings) version(t crdt.Type, now hlc.Time) string {
	if !h.live(t, now) {
		return ""
	}
	return h.get(t).version()
}
