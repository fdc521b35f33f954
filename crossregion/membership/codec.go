package membership

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/atolldb/atoll/topology"
)

// Commands and states are encoded alike:
//
//	magic 2 | version u8 | fields | CRC-32C of all before u32, big-endian
//
// Numbers are varints of the least length, texts and lists have their length before them. There is one
// encoding of each value: the reader refuses every other. Version 2 is for what has to do with heirs, and that alone: a
// NameHeir, and a state that has any. Programs that know version 1 only take part until the first is named.
const (
	versionFirst  = 1
	versionHeirs  = 2
	commandMagic  = "AC"
	stateMagic    = "AS"
	checksumBytes = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // a constant

type writer struct{ b []byte }

func newWriter(magic string, heirs bool) *writer {
	version := byte(versionFirst)
	if heirs {
		version = versionHeirs
	}
	return &writer{append([]byte(magic), version)}
}

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) flag(f bool) {
	if f {
		w.number(1)
		return
	}
	w.number(0)
}

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) vector(v []uint64) {
	w.number(uint64(len(v)))
	for _, n := range v {
		w.number(n)
	}
}

// seal ends the encoding with its checksum.
func (w *writer) seal() []byte {
	return binary.BigEndian.AppendUint32(w.b, crc32.Checksum(w.b, castagnoli))
}

// reader reads what a writer wrote. After the first fault every read returns zero, and done returns it.
type reader struct {
	b     []byte
	fault error
	// heirs says that the encoding is one for heirs.
	heirs bool
}

func newReader(magic string, data []byte, limit int) *reader {
	r := &reader{}
	header := len(magic) + 1
	switch {
	case len(data) > limit:
		r.fail("%d bytes", len(data))
	case len(data) < header+checksumBytes || string(data[:len(magic)]) != magic:
		r.fail("it does not begin with %s", magic)
	case data[len(magic)] != versionFirst && data[len(magic)] != versionHeirs:
		r.fail("version %d is not known to this program", data[len(magic)])
	case crc32.Checksum(data[:len(data)-checksumBytes], castagnoli) != binary.BigEndian.Uint32(data[len(data)-checksumBytes:]):
		r.fail("checksum")
	default:
		r.b, r.heirs = data[header:len(data)-checksumBytes], data[len(magic)] == versionHeirs
	}
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.fault == nil {
		r.fault = fmt.Errorf("%w: %s", ErrEncoding, fmt.Sprintf(format, args...))
		r.b = nil
	}
}

// number reads a number of at most the given size.
func (r *reader) number(most uint64) uint64 {
	if r.fault != nil {
		return 0
	}
	n, size := binary.Uvarint(r.b)
	switch {
	case size <= 0 || size > 1 && r.b[size-1] == 0:
		r.fail("a number is cut short or too long")
		return 0
	case n > most:
		r.fail("a number is %d and may be %d", n, most)
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads how many things follow, each of at least so many bytes.
func (r *reader) count(most, bytesEach int) int {
	n := r.number(uint64(most))
	if n*uint64(bytesEach) > uint64(len(r.b)) {
		r.fail("%d things in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

func (r *reader) flag() bool { return r.number(1) == 1 }

func (r *reader) text(most int) string {
	n := r.count(most, 1)
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) vector() []uint64 {
	n := r.count(topology.MaxPartitions, 1)
	if n == 0 {
		return nil
	}
	v := make([]uint64, n)
	for i := range v {
		v[i] = r.number(^uint64(0))
	}
	return v
}

func (r *reader) region() topology.RegionID { return topology.RegionID(r.number(topology.MaxRegionID)) }

func (r *reader) epoch() topology.Epoch { return topology.Epoch(r.number(topology.MaxEpoch)) }

func (r *reader) set() RegionSet {
	s := RegionSet(r.number(^uint64(0)))
	if s&1 != 0 {
		r.fail("a set has region 0")
	}
	return s
}

func (r *reader) done() error {
	if len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.fault
}
