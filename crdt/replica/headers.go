package replica

import "github.com/atolldb/atoll/crdt"

// Headers remembers, over many Executes and Merges, what user keys hold that hold a register or
// nothing: all but its value and what it has of a newer program. Most operations need no more, and so need not look at the storage. It
// belongs to one storage, whose every change goes through a replica that uses it, and to one goroutine.
type Headers struct {
	limit int
	// Lookups move what is in old to young. When young is full it becomes old, and old is forgotten.
	young, old map[string]crdt.LWWRegister
}

// NewHeaders returns a Headers of at most 2*limit keys.
func NewHeaders(limit int) *Headers {
	return &Headers{limit: limit, young: map[string]crdt.LWWRegister{}}
}

// UseHeaders has r look things up in h.
func (r *Replica) UseHeaders(h *Headers) { r.headers = h }

// get returns the register under a user key, whose Seq is 0 if there is none.
func (h *Headers) get(prefix []byte) (crdt.LWWRegister, bool) {
	if reg, ok := h.young[string(prefix)]; ok {
		return reg, true
	}
	reg, ok := h.old[string(prefix)]
	if ok {
		h.set(prefix, reg)
	}
	return reg, ok
}

func (h *Headers) set(prefix []byte, reg crdt.LWWRegister) {
	if len(h.young) >= h.limit {
		h.old, h.young = h.young, map[string]crdt.LWWRegister{}
	}
	reg.Value, reg.Unknown = nil, ""
	h.young[string(prefix)] = reg
}

func (h *Headers) forget(prefix []byte) {
	delete(h.young, string(prefix))
	delete(h.old, string(prefix))
}

// wrote notes that an object was written. reg is the new register; nil means that the user key may hold
// anything now.
func (w *work) wrote(object []byte, reg *crdt.LWWRegister) {
	prefix := object[:len(object)-1] // without the type
	switch {
	case w.over != nil:
		w.touched = append(w.touched, prefix)
	case w.headers == nil:
	case reg == nil:
		w.headers.forget(prefix)
	default:
		if _, known := w.headers.get(prefix); known {
			w.headers.set(prefix, *reg)
		}
	}
}

// hold returns what a user key holds. Without needsValue, a register's value may be left out.
func (w *work) hold(namespace, key string, needsValue bool) (holdings, error) {
	if w.headers == nil || w.over != nil {
		return readHoldings(w.kv, objectPrefix(namespace, key), needsValue)
	}
	prefix := objectPrefix(namespace, key)
	if !needsValue {
		if reg, ok := w.headers.get(prefix); ok {
			return holdings{register: storedRegister{reg}}, nil
		}
	}
	h, err := readHoldings(w.kv, prefix, needsValue)
	if err == nil && len(h.others) == 0 {
		w.headers.set(prefix, h.register.LWWRegister)
	}
	return h, err
}
