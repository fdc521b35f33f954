package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// counterState is a stored counter. It exists if it has rows.
type counterState struct {
	// last is the last event applied to it here.
	last crdt.Dot
	rows crdt.Counter
}

// setHeader is what is stored of a set besides its elements. It exists if kid is not 0, and then
// count is not 0 either.
type setHeader struct {
	last crdt.Dot
	// kid is the local id under which the elements are.
	kid, count uint64
}

// append appends the encoding: version 1 | last actor | last seq | counter's encoding.
func (c *counterState) append(b []byte) []byte {
	return c.rows.Append(appendDot(append(b, storeVersion), c.last))
}

func decodeCounterState(data []byte) (counterState, error) {
	r := codec.NewReader("stored counter", data, storeVersion)
	c := counterState{last: readDot(r)}
	rest := r.Rest()
	if err := r.Done(); err != nil {
		return counterState{}, err
	}
	var err error
	c.rows, err = crdt.DecodeCounter(rest)
	return c, err
}

// append appends the encoding: version 1 | last actor | last seq | kid | count.
func (h *setHeader) append(b []byte) []byte {
	b = appendDot(append(b, storeVersion), h.last)
	return binary.AppendUvarint(binary.AppendUvarint(b, h.kid), h.count)
}

func decodeSetHeader(data []byte) (setHeader, error) {
	r := codec.NewReader("set header", data, storeVersion)
	h := setHeader{last: readDot(r), kid: r.Uvarint(^uint64(0)), count: r.Uvarint(^uint64(0))}
	if h.kid == 0 || h.count == 0 {
		r.Fail("set without id or elements")
	}
	return h, r.Done()
}

// holdings is what is stored under one user key.
type holdings struct {
	// register has Seq 0 if there is none.
	register crdt.LWWRegister
	counter  counterState
	set      setHeader
}

// load reads one object of table K into the holdings. The register's value is copied if it will be
// needed after the present visit, else left out.
func (h *holdings) load(t crdt.Type, data []byte, keepValue bool) error {
	var err error
	switch t {
	case crdt.TypeLWWRegister:
		h.register, err = crdt.DecodeLWWRegister(data)
		if keepValue {
			h.register.Value = slices.Clone(h.register.Value)
		} else {
			h.register.Value = nil
		}
	case crdt.TypeCounter:
		h.counter, err = decodeCounterState(data)
	case crdt.TypeAWSet:
		h.set, err = decodeSetHeader(data)
	default:
		err = fmt.Errorf("object of %v: %w", t, crdt.ErrCorrupt)
	}
	return err
}

// readHoldings reads all types under a user key.
func readHoldings(kv KV, namespace, key string, keepValue bool) (holdings, error) {
	var h holdings
	prefix := objectPrefix(namespace, key)
	err := kv.Scan(prefix, prefixEnd(prefix), func(k, v []byte) (bool, error) {
		if len(k) != len(prefix)+1 {
			return false, fmt.Errorf("object key: %w", crdt.ErrCorrupt)
		}
		return true, h.load(crdt.Type(k[len(prefix)]), v, keepValue)
	})
	return h, err
}

// live reports whether the user key has a value of a type at an instant.
func (h *holdings) live(t crdt.Type, now hlc.Time) bool {
	switch t {
	case crdt.TypeLWWRegister:
		return h.register.Live(now)
	case crdt.TypeCounter:
		return !h.counter.rows.Empty()
	case crdt.TypeAWSet:
		return h.set.kid != 0
	default:
		return false
	}
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
	switch {
	case !h.live(t, now):
		return ""
	case t == crdt.TypeLWWRegister:
		return h.register.Version()
	case t == crdt.TypeCounter:
		return h.counter.last.String()
	default:
		return h.set.last.String()
	}
}
