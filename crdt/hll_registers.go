package crdt

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/zeebo/xxh3"
)

const (
	hllIndexBits = 14
	// hllSize is the number of registers.
	hllSize = 1 << hllIndexBits
	// hllMaxValue is the value of a hash whose other 50 bits are all zero; it fits into 6 bits.
	hllMaxValue = 64 - hllIndexBits + 1
)

// hllRegister is a register that is not 0.
type hllRegister struct {
	index uint16
	value uint8
}

// hllRegisters is the registers that are not 0, ascending by index. It is not changed once made.
//
// There is no dense form in memory: at 4 bytes each even all registers are only 64 kB, and every
// operation is written once.
type hllRegisters []hllRegister

// hllMaxima is the value of every register.
type hllMaxima [hllSize]uint8

func hashElement(element string) hllRegister {
	hash := xxh3.HashString(element)
	// The bit set below the 50 bits ends the count of zeros.
	rest := hash<<hllIndexBits | 1<<(hllIndexBits-1)
	return hllRegister{uint16(hash >> (64 - hllIndexBits)), uint8(bits.LeadingZeros64(rest) + 1)}
}

func hashElements(elements []string) hllRegisters {
	s := make(hllRegisters, len(elements))
	for i, e := range elements {
		s[i] = hashElement(e)
	}
	// The largest value of an index comes first: that is the one CompactFunc keeps.
	slices.SortFunc(s, func(a, b hllRegister) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(b.value, a.value))
	})
	return slices.CompactFunc(s, func(a, b hllRegister) bool { return a.index == b.index })
}

// join returns the register-wise maximum. It may share the memory of either.
func (s hllRegisters) join(o hllRegisters) hllRegisters {
	if len(s) == 0 {
		return o
	}
	joined := make(hllRegisters, 0, max(len(s), len(o)))
	for len(s) > 0 && len(o) > 0 {
		switch order := cmp.Compare(s[0].index, o[0].index); {
		case order < 0:
			joined, s = append(joined, s[0]), s[1:]
		case order > 0:
			joined, o = append(joined, o[0]), o[1:]
		default:
			joined = append(joined, hllRegister{s[0].index, max(s[0].value, o[0].value)})
			s, o = s[1:], o[1:]
		}
	}
	return append(append(joined, s...), o...)
}

// covers reports whether r would change nothing.
func (s hllRegisters) covers(r hllRegister) bool {
	i, ok := slices.BinarySearchFunc(s, r.index, func(r hllRegister, index uint16) int { return cmp.Compare(r.index, index) })
	return ok && s[i].value >= r.value
}

// covers reports whether r would change nothing.
func (m *hllMaxima) covers(r hllRegister) bool { return m[r.index] >= r.value }

func (m *hllMaxima) raise(s hllRegisters) {
	for _, r := range s {
		m[r.index] = max(m[r.index], r.value)
	}
}

func (s hllRegisters) appendSparse(b []byte) []byte {
	next := 0
	for _, r := range s {
		b = append(binary.AppendUvarint(b, uint64(int(r.index)-next)), r.value)
		next = int(r.index) + 1
	}
	return b
}

func (s hllRegisters) appendDense(b []byte) []byte {
	var all hllMaxima
	all.raise(s)
	for four := range slices.Chunk(all[:], 4) {
		packed := uint32(four[0])<<18 | uint32(four[1])<<12 | uint32(four[2])<<6 | uint32(four[3])
		b = append(b, byte(packed>>16), byte(packed>>8), byte(packed))
	}
	return b
}

// readSparse reads what appendSparse wrote of n registers.
func readSparse(r *codec.Reader, n int) hllRegisters {
	const registerBytes = 2
	s := make(hllRegisters, 0, min(n, r.Len()/registerBytes))
	next := uint64(0)
	for len(s) < n && r.OK() {
		if next == hllSize {
			r.Fail("more registers than there are")
			return nil
		}
		index := next + r.Uvarint(hllSize-1-next)
		s = append(s, hllRegister{uint16(index), checkValue(r, r.Byte(), 1)})
		next = index + 1
	}
	return s
}

// readDense reads what appendDense wrote of n registers.
func readDense(r *codec.Reader, n int) hllRegisters {
	if r.Len() < hllSize/4*3 {
		r.Fail("the input ends early")
		return nil
	}
	s := make(hllRegisters, 0, n)
	for first := 0; first < hllSize; first += 4 {
		packed := uint32(r.Byte())<<16 | uint32(r.Byte())<<8 | uint32(r.Byte())
		for i := range 4 {
			value := checkValue(r, byte(packed>>(18-6*i)&0x3f), 0)
			if value > 0 {
				s = append(s, hllRegister{uint16(first + i), value})
			}
		}
	}
	if len(s) != n {
		r.Fail("%d registers instead of %d", len(s), n)
	}
	return s
}

func checkValue(r *codec.Reader, value, least byte) byte {
	if value < least || value > hllMaxValue {
		r.Fail("register value %d", value)
	}
	return value
}
