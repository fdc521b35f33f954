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
// A delete wins over every add that had not seen it, as it does in Redis, because a register cannot
// say which adds it came from. To tell such adds from those after the delete, registers are kept in
// layers. A layer's floor is an instant up to which its adds had seen all deletes; a delete takes
// away the layers whose floor is before its own instant. Most of the time there is one layer. The
// sketch is the register-wise maximum over the layers.
//
// Tie rule: of two deletes the one with the larger (Time, Actor) is kept. An add that had seen one
// of two deletes of the same instant survives the other.
//
// Join takes the later delete and all layers, drops the layers that the delete takes away, and of
// each register the values that a layer of the same or a later floor matches: that layer lives
// longer. What stays is unique, so equal knowledge is an equal state.
//
// Laws: Join is commutative, associative and idempotent; the zero HLL is neutral. Size: up to 12 kB
// per layer, 2 to 3 bytes per register below 4096 registers. There is at most one layer per region
// that added without having seen another's adds, until Collapse.
//
// Garbage collection: Collapse needs that no delete at or before its cut can still arrive. A delete
// without layers may go only when it is stable: every region has seen it, and all that they did
// before has arrived. The cut of instants alone is not enough, because an add that is later than the
// delete but had not seen it must still be dropped when it arrives.
//
// A copy by assignment shares memory with the original: Clone before changing either.
//
// Ref: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog", AofA 2007, for the sketch; hll_count.go for
// the estimate.
type HLL struct {
	deletedAt hlc.Time
	deletedBy Actor
	layers    []hllLayer // ascending by floor
}

// hllLayer is the registers of the adds that had seen all deletes up to floor; there is at least one.
type hllLayer struct {
	floor     hlc.Time
	registers hllRegisters
}

// Add adds elements, and returns the change as an HLL to join elsewhere, which is empty if it would
// change nothing. The caller has seen all deletes up to floor: no other delete at or before it can
// arrive any more. The delete in h counts as seen anyway, so 0 will do for who keeps all deletes. Who
// collected one must name a floor at or after it: regions that still have it would drop the add.
//
// The adds join the layer of the largest floor, if there is one. If that floor is larger than the
// caller's, an add that had seen more deletes than the caller is among what the caller has seen, and
// so are those deletes. If it is smaller, the caller knows that no delete is between the two.
func (h *HLL) Add(floor hlc.Time, elements ...string) HLL {
	layer := hllLayer{floor: max(floor, h.deletedAt)}
	added := hashElements(elements)
	if n := len(h.layers); n > 0 {
		layer.floor = h.layers[n-1].floor
		added = slices.DeleteFunc(added, h.layers[n-1].registers.covers)
	}
	if len(added) == 0 {
		return HLL{}
	}
	layer.registers = added
	delta := HLL{layers: []hllLayer{layer}}
	h.Join(delta)
	return delta
}

// Delete takes away all that was added, as an event of an actor at an instant after every event that
// h includes, and returns the change as an HLL to join elsewhere.
func (h *HLL) Delete(at hlc.Time, actor Actor) HLL {
	delta := HLL{deletedAt: at, deletedBy: actor}
	h.Join(delta)
	return delta
}

// Join merges o, which may be a whole HLL or a change.
func (h *HLL) Join(o HLL) {
	later := cmp.Or(cmp.Compare(o.deletedAt, h.deletedAt), cmp.Compare(o.deletedBy, h.deletedBy))
	if later > 0 {
		h.deletedAt, h.deletedBy = o.deletedAt, o.deletedBy
	}
	for _, l := range o.layers {
		i, ok := slices.BinarySearchFunc(h.layers, l.floor, func(l hllLayer, floor hlc.Time) int { return cmp.Compare(l.floor, floor) })
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
	h.layers = slices.DeleteFunc(h.layers, func(l hllLayer) bool { return l.floor < h.deletedAt })
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

// Collapse makes the layers whose floor is at or before cut one. That changes neither the count nor
// what a later delete leaves, if no delete at or before cut can arrive any more: one after cut takes
// all of these layers away.
func (h *HLL) Collapse(cut hlc.Time) {
	old := 0
	for old < len(h.layers) && h.layers[old].floor <= cut {
		old++
	}
	if old < 2 {
		return
	}
	var all hllRegisters
	for _, l := range h.layers[:old] {
		all = all.join(l.registers)
	}
	h.layers[old-1].registers = all
	h.layers = slices.Delete(h.layers, 0, old-1)
}

// Empty reports whether nothing was added since the last delete: the HLL is absent.
func (h HLL) Empty() bool { return len(h.layers) == 0 }

// Layers returns the number of layers. It is what Collapse makes smaller.
func (h HLL) Layers() int { return len(h.layers) }

// Deleted returns the instant and actor of the latest delete, 0 if there was none.
func (h HLL) Deleted() (hlc.Time, Actor) { return h.deletedAt, h.deletedBy }

// Equal reports whether two HLLs have the same state, which is more than the same count.
func (h HLL) Equal(o HLL) bool {
	return h.deletedAt == o.deletedAt && h.deletedBy == o.deletedBy &&
		slices.EqualFunc(h.layers, o.layers, func(a, b hllLayer) bool {
			return a.floor == b.floor && slices.Equal(a.registers, b.registers)
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
//	version 1 | flags 1 | deleted at 8, by actor varint, if flag 1 | layers, to the end
//	layer:                   floor 8 | n varint | registers
//	registers, if n < 4096:  n times: gap varint | value 1
//	registers, if n ≥ 4096:  all 16384 values, 6 bits each, the first in the highest bits: 12288 bytes
//
// Layers ascend by floor. n is the number of registers that are not 0; they ascend by index, and the
// gap is the number of registers left out before one. The top 14 bits of xxh3-64 of an element, seed
// 0, are the index; the value is one more than the number of zeros that the other 50 bits begin with.
func (h HLL) Append(b []byte) []byte {
	if h.deletedAt == 0 {
		b = append(b, codecVersion, 0)
	} else {
		b = binary.BigEndian.AppendUint64(append(b, codecVersion, hllDeleted), uint64(h.deletedAt))
		b = binary.AppendUvarint(b, uint64(h.deletedBy))
	}
	for _, l := range h.layers {
		b = binary.BigEndian.AppendUint64(b, uint64(l.floor))
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
	r := codec.NewReader("hll", data, codecVersion)
	var h HLL
	switch flags := r.Byte(); flags {
	case 0:
	case hllDeleted:
		h.deletedAt, h.deletedBy = hlc.Time(r.Uint64()), Actor(r.Uvarint(maxActor))
		if h.deletedAt == 0 {
			r.Fail("delete flagged but 0")
		}
	default:
		r.Fail("unknown flags %#x", flags)
	}
	for r.Len() > 0 {
		l := hllLayer{floor: hlc.Time(r.Uint64()), registers: readRegisters(r)}
		if n := len(h.layers); n > 0 && h.layers[n-1].floor >= l.floor {
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
