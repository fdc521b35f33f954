package replica

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Object is a value as a reader sees it. Its memory is the caller's.
type Object struct {
	Namespace string
	Key       string
	Type      crdt.Type
	Version   string
	// Value is a register's, or the latest of a multi-value register's. Expires is 0 if the value does not
	// expire.
	Value   []byte
	Expires hlc.Time
	// Counter is the value of a counter, a maximum or a minimum.
	Counter int64
	// Bounded is a bounded counter. Its value here is Counter: not below 0, even while gifts of rights are
	// still to arrive.
	Bounded crdt.BoundedCounter
	// Size is a set's number of elements, or an observed-remove map's of leaves.
	Size uint64
	// Siblings are a multi-value register's values, the latest first, or a flag's enables.
	Siblings []crdt.Sibling
}

// object returns one type of what a user key holds, which is live.
func (h *holdings) object(namespace, key string, t crdt.Type, now hlc.Time) Object {
	o := Object{Namespace: namespace, Key: key, Type: t, Version: h.version(t, now)}
	h.get(t).show(&o)
	if d := h.deadline(t); d != nil {
		o.Expires = d.expires
	}
	return o
}

// judge returns the instant by which expiry is judged: a reader's clock that lags does not bring
// back what was expired for the events applied here.
func (r *Replica) judge(now hlc.Time) hlc.Time { return max(now, r.meta.latest()) }

// Lookup returns the value of a key at an instant, and whether there is one. If the key holds
// several types, which concurrent regions can bring about, it is the first of them in the order of
// [crdt.Type].
func (r *Replica) Lookup(namespace, key string, now hlc.Time) (Object, bool, error) {
	now = r.judge(now)
	if hidden, err := r.hidden(namespace, key, now); err != nil || hidden {
		return Object{}, false, err
	}
	h, err := readHoldings(r.kv, r.prefix(namespace, key), true)
	if err != nil {
		return Object{}, false, fmt.Errorf("look up a key: %w", err)
	}
	t := r.visible(&h, now)
	if t == 0 {
		return Object{}, false, nil
	}
	return h.object(namespace, key, t, now), true, nil
}

// visible returns the type of what a key holds that untyped reads resolve to, 0 if it is absent.
func (r *Replica) visible(h *holdings, now hlc.Time) crdt.Type {
	switch {
	case r.only == 0:
		return h.visible(now)
	case h.live(r.only, now):
		return r.only
	default:
		return 0
	}
}

// LookupType returns the value of one type of a key, and whether there is one, also where Lookup
// prefers another type. The methods that read parts of a value, such as SetMembers, do not judge whether
// it has expired: ask here first.
func (r *Replica) LookupType(namespace, key string, t crdt.Type, now hlc.Time) (Object, bool, error) {
	now = r.judge(now)
	if hidden, err := r.hidden(namespace, key, now); err != nil || hidden {
		return Object{}, false, err
	}
	h, err := readHoldings(r.kv, r.prefix(namespace, key), t == crdt.TypeLWWRegister || t == crdt.TypeMVRegister)
	if err != nil {
		return Object{}, false, fmt.Errorf("look up a key: %w", err)
	}
	if !h.live(t, now) {
		return Object{}, false, nil
	}
	return h.object(namespace, key, t, now), true, nil
}

// Walk visits the keys of a namespace in [start, end) in byte order, each once, as Lookup returns
// it, until visit returns more=false or an error, which Walk returns. An empty end means no end.
// visit must not use the replica.
func (r *Replica) Walk(namespace, start, end string, now hlc.Time, visit func(Object) (more bool, err error)) error {
	now = r.judge(now)
	prefix := appendName([]byte{tableObject}, namespace)
	from, to := appendEscaped(slices.Clone(prefix), start), prefixEnd(prefix)
	if end != "" {
		to = appendEscaped(slices.Clone(prefix), end)
	}
	walk := &walk{replica: r, namespace: namespace, now: now, visit: visit, more: true}
	err := r.kv.Scan(from, to, walk.pair)
	if err == nil {
		err = walk.end()
	}
	if err != nil {
		return fmt.Errorf("walk the keys: %w", err)
	}
	return nil
}

// walk is a Walk under way. What a key holds other than a register is known when its deadlines are.
type walk struct {
	replica   *Replica
	namespace string
	now       hlc.Time
	visit     func(Object) (bool, error)
	more      bool
	// key is the one that is being read, and held what it holds so far; it was visited if done.
	key  string
	held holdings
	done bool
}

// pair reads a pair of table K.
func (w *walk) pair(k, v []byte) (bool, error) {
	_, key, t, err := parseObjectKey(k)
	if err != nil {
		return false, err
	}
	if key != w.key { // no key is empty
		if err := w.end(); err != nil || !w.more {
			return false, err
		}
		w.key, w.held, w.done = key, holdings{}, false
	}
	if w.done {
		return true, nil // a type that Lookup does not prefer
	}
	if err := w.held.load(t, v, true); err != nil {
		return false, err
	}
	if t == crdt.TypeLWWRegister && w.replica.visible(&w.held, w.now) == t {
		w.done = true
		w.more, err = w.visit(w.held.object(w.namespace, key, t, w.now))
	}
	return w.more, err
}

// end visits the key of which all was read.
func (w *walk) end() (err error) {
	if w.done || !w.more {
		return nil
	}
	w.done = true
	if t := w.replica.visible(&w.held, w.now); t != 0 {
		w.more, err = w.visit(w.held.object(w.namespace, w.key, t, w.now))
	}
	return err
}

// set reads a set's header, which is empty if the set is absent.
func (r *Replica) set(namespace, key string) (setHeader, error) {
	data, ok, err := r.kv.Get(r.object(namespace, key, crdt.TypeAWSet))
	if err != nil || !ok {
		return setHeader{}, err
	}
	return decodeSetHeader(data)
}

// SetContains reports for each element whether it is in the set; an absent set has none.
func (r *Replica) SetContains(namespace, key string, elements [][]byte) ([]bool, error) {
	contains := make([]bool, len(elements))
	h, err := r.set(namespace, key)
	if err != nil {
		return nil, fmt.Errorf("read set header: %w", err)
	}
	for i, element := range elements {
		if len(element) == 0 {
			continue
		}
		if _, contains[i], err = h.get(r.kv, element); err != nil {
			return nil, fmt.Errorf("read set element: %w", err)
		}
	}
	return contains, nil
}

// SetMembers returns the elements after the given one (empty: from the first on) in byte order, and
// whether there are more: at most limit of them, and no more once they have maxBytes bytes. Unless
// limit is 0 it returns at least one if there is one. The members are the caller's.
func (r *Replica) SetMembers(namespace, key string, after []byte, limit, maxBytes int) (members [][]byte, more bool, err error) {
	h, err := r.set(namespace, key)
	if err != nil {
		return nil, false, fmt.Errorf("read set header: %w", err)
	}
	if h.count == 0 {
		return nil, false, nil
	}
	size := 0
	err = h.scan(r.kv, behind(after), nil, func(element, _ []byte) (bool, error) {
		if len(members) >= limit || size >= maxBytes && len(members) > 0 {
			more = true
			return false, nil
		}
		members = append(members, slices.Clone(element))
		size += len(element)
		return true, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("read set elements: %w", err)
	}
	return members, more, nil
}
