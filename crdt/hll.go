package crdt

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// HLL is a HyperLogLog sketch: it estimates how many distinct elements were added since the last
// delete, with a standard error of 0.81 %, and does not keep the elements.
//
// The sketch has 16384 registers. An element's hash chooses one of them and a value, and a register
// keeps the largest value it was given, so adding an element again changes nothing.
//
// A delete takes away what was added up to its own instant, concurrent or not, because a register
// cannot say which adds it came from. To tell earlier adds from later ones, registers are kept in
// layers, one for each instant at which some register was raised, as long as a delete can still come
// between them; Collapse makes them one. The sketch is the register-wise maximum over the layers. An add
// that raises no register has no effect, and so does not protect its elements from a delete that is
// earlier than it and still on its way.
//
// Join takes the later delete and all layers, drops the layers that the delete takes away, and of
// each register the values that a later layer matches: that layer lives longer. What stays is unique, so
// equal knowledge is an equal state.
//
// Laws: Join is commutative, associative and idempotent; the zero HLL is neutral. Size: up to 12 kB
// for the registers, 2 to 3 bytes each below 4096 of them, and 8 to 12 bytes for each layer until
// Collapse.
//
// Garbage collection: Collapse and Collect need that no event at or before the cut can still arrive.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", AofA 2007, for the sketch; hll_count.go for
// the estimate.
type HLL struct {
	deletedAt hlc.Time
	layers    []hllLayer // ascending by at
	unknown   Fields
}

// hllLayer is the registers that were raised at an instant; there is at least one.
type hllLayer struct {
	at        hlc.Time
	registers hllRegisters
}

// Add adds elements, as an event at an instant after every event that h includes, and returns the change
// as an HLL to join elsewhere, which is empty if it would change nothing.
func (h *HLL) Add(at hlc.Time, elements ...string) HLL {
	added := slices.DeleteFunc(hashElements(elements), func(r hllRegister) bool {
		return slices.ContainsFunc(h.layers, func(l hllLayer) bool { return l.registers.covers(r) })
	})
	if len(added) == 0 {
		return HLL{}
	}
	delta := HLL{layers: []hllLayer{{at, added}}}
	h.Join(delta)
	return delta
}

// Delete takes away all that was added, as an event at an instant after every event that h includes, and
// returns the change as an HLL to join elsewhere.
func (h *HLL) Delete(at hlc.Time) HLL {
	delta := HLL{deletedAt: at}
	h.Join(delta)
	return delta
}

// Join merges o, which may be a whole HLL or a change.
func (h *HLL) Join(o HLL) {
	h.unknown = h.unknown.Join(o.unknown)
	h.deletedAt = max(h.deletedAt, o.deletedAt)
	for _, l := range o.layers {
		i, ok := slices.BinarySearchFunc(h.layers, l.at, func(l hllLayer, at hlc.Time) int { return cmp.Compare(l.at, at) })
		if !ok {
			h.layers = slices.Insert(h.layers, i, l)
			continue
		}
		h.layers[i].registers = h.layers[i].registers.join(l.registers)
	}
	h.prune()
}

// prune drops the layers that the delete takes away, and the values that a later layer has too.
func (h *HLL) prune() {
	h.layers = slices.DeleteFunc(h.layers, func(l hllLayer) bool { return l.at <= h.deletedAt })
	if len(h.layers) < 2 {
		return
	}
	var later hllMaxima
	for i, l := range slices.Backward(h.layers) {
		if slices.ContainsFunc(l.registers, later.covers) {
			// Layers share their registers with copies, so these are not changed in place.
			l.registers = slices.DeleteFunc(slices.Clone(l.registers), later.covers)
			h.layers[i] = l
		}
		later.raise(l.registers)
	}
	h.layers = slices.DeleteFunc(h.layers, func(l hllLayer) bool { return len(l.registers) == 0 })
}

// Collect forgets a delete up to cut, and collapses the layers up to there. It is for who applies every
// change once: a state that has not seen the delete must not be joined any more.
func (h *HLL) Collect(cut hlc.Time) {
	if h.deletedAt <= cut {
		h.deletedAt = 0
	}
	h.Collapse(cut)
}

// Collapse makes the layers up to cut one. That changes neither the count nor what a later delete
// leaves, if no delete at or before cut can arrive any more: one after cut takes all of these layers away.
func (h *HLL) Collapse(cut hlc.Time) {
	old := 0
	for old < len(h.layers) && h.layers[old].at <= cut {
		old++
	}
	if old < 2 {
		return
	}
	var all hllRegisters
	for _, l := range h.layers[:old] {
		all = all.join(l.registers)
	}
	h.layers = slices.Clone(h.layers[old-1:])
	h.layers[0].registers = all
}

// Maximum returns the HLL of the registers alone, as if all had been raised at once: that is the same in
// all replicas that include the same events, whether they collapsed or not.
func (h HLL) Maximum() HLL {
	var all hllRegisters
	for _, l := range h.layers {
		all = all.join(l.registers)
	}
	if len(all) == 0 {
		return HLL{}
	}
	return HLL{layers: []hllLayer{{1, all}}}
}

// Empty reports whether nothing was added since the last delete: the HLL is absent.
func (h HLL) Empty() bool { return len(h.layers) == 0 }

// Instants returns the instants of the layers, which ascend. Collapse makes them fewer.
func (h HLL) Instants() []hlc.Time {
	instants := make([]hlc.Time, len(h.layers))
	for i, l := range h.layers {
		instants[i] = l.at
	}
	return instants
}

// At returns the HLL of the registers alone that are kept of what was raised at an instant. It shares their
// memory, which is never changed.
func (h HLL) At(at hlc.Time) HLL {
	for _, l := range h.layers {
		if l.at == at {
			return HLL{layers: []hllLayer{l}}
		}
	}
	return HLL{}
}

// Deleted returns the instant of the latest delete, 0 if there was none or it was forgotten.
func (h HLL) Deleted() hlc.Time { return h.deletedAt }

// Latest returns the instant of the last event that left something here, 0 for an empty HLL without one.
func (h HLL) Latest() hlc.Time {
	if n := len(h.layers); n > 0 {
		return h.layers[n-1].at
	}
	return h.deletedAt
}

// Equal reports whether two HLLs have the same state, which is more than the same count.
func (h HLL) Equal(o HLL) bool {
	return h.deletedAt == o.deletedAt && h.unknown == o.unknown &&
		slices.EqualFunc(h.layers, o.layers, func(a, b hllLayer) bool {
			return a.at == b.at && slices.Equal(a.registers, b.registers)
		})
}

// Clone returns a copy that can be changed without changing h.
func (h HLL) Clone() HLL {
	h.layers = slices.Clone(h.layers) // the registers of a layer are never changed in place
	return h
}

const (
	hllDeleted = 1 // flag: the HLL has a delete
	hllDense   = 4096
)

// Append appends the HLL's encoding:
//
//	version 1 | flags 1 | deleted at 8, if flag 1 | layers, to the end
//	layer:                   at 8 | n varint | registers
//	registers, if n < 4096:  n times: gap varint | value 1
//	registers, if n ≥ 4096:  all 16384 values, 6 bits each, the first in the highest bits: 12288 bytes
//
// Layers ascend by instant. n is the number of registers that are not 0; they ascend by index, and the
// gap is the number of registers left out before one. The top 14 bits of xxh3-64 of an element, seed
// 0, are the index; the value is one more than the number of zeros that the other 50 bits begin with.
func (h HLL) Append(b []byte) []byte {
	if h.deletedAt == 0 {
		b = append(appendVersion(b, h.unknown), 0)
	} else {
		b = binary.BigEndian.AppendUint64(append(appendVersion(b, h.unknown), hllDeleted), uint64(h.deletedAt))
	}
	for _, l := range h.layers {
		b = binary.BigEndian.AppendUint64(b, uint64(l.at))
		b = binary.AppendUvarint(b, uint64(len(l.registers)))
		if len(l.registers) < hllDense {
			b = l.registers.appendSparse(b)
		} else {
			b = l.registers.appendDense(b)
		}
	}
	return b
}

// DecodeHLL reads what Append wrote.
func DecodeHLL(data []byte) (HLL, error) {
	r, unknown := newReader("hll", data)
	h := HLL{unknown: unknown}
	switch flags := r.Byte(); flags {
	case 0:
	case hllDeleted:
		h.deletedAt = hlc.Time(r.Uint64())
		if h.deletedAt == 0 {
			r.Fail("delete flagged but 0")
		}
	default:
		r.Fail("unknown flags %#x", flags)
	}
	for r.Len() > 0 {
		l := hllLayer{at: hlc.Time(r.Uint64()), registers: readRegisters(r)}
		if n := len(h.layers); n > 0 && h.layers[n-1].at >= l.at {
			r.Fail("layers out of order")
		}
		h.layers = append(h.layers, l)
	}
	if err := r.Done(); err != nil {
		return HLL{}, err
	}
	pruned := h.Clone()
	if pruned.prune(); !pruned.Equal(h) {
		r.Fail("values that a delete or a later layer makes void")
		return HLL{}, r.Done()
	}
	return h, nil
}

func readRegisters(r *codec.Reader) hllRegisters {
	switch n := int(r.Uvarint(hllSize)); {
	case n == 0:
		r.Fail("layer without registers")
		return nil
	case n < hllDense:
		return readSparse(r, n)
	default:
		return readDense(r, n)
	}
}
