// Package codec reads Atoll's binary encodings: bounded by the input, and canonical, so that one
// value has exactly one encoding.
//
// Encodings begin with a version byte. Integers are minimal base-128 varints (zigzag if signed) or
// eight big-endian bytes; byte strings have a varint length. Nothing read is believed beyond the
// bytes that are there, so a decoder allocates no more than a small multiple of its input.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCorrupt is what every decoding error is.
var ErrCorrupt = errors.New("corrupt encoding")

// DecodeError says what was wrong with an encoding.
type DecodeError struct {
	// What names the value that was decoded: "delta".
	What string
	// Offset is where in the input the fault was noticed.
	Offset int
	// Reason says what is wrong there.
	Reason string
}

// Error names the value, the place and the fault.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s: %s at byte %d", e.What, e.Reason, e.Offset)
}

// Is reports that a DecodeError is ErrCorrupt.
func (e *DecodeError) Is(target error) bool { return target == ErrCorrupt }

// UnknownVersionError says that an encoding is of a version that this program does not know; a
// newer program may.
type UnknownVersionError struct {
	What    string
	Version byte
}

// Error names the value and its version.
func (e *UnknownVersionError) Error() string {
	return fmt.Sprintf("decode %s: unknown version %d", e.What, e.Version)
}

// Is reports that an UnknownVersionError is ErrCorrupt: without a program that knows the version,
// the bytes cannot be used.
func (e *UnknownVersionError) Is(target error) bool { return target == ErrCorrupt }

// AppendBytes appends s with its length.
func AppendBytes[S ~[]byte | ~string](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Reader reads one encoding. Its first error sticks: later reads return zeros.
type Reader struct {
	what string
	data []byte
	at   int
	err  error
}

// NewReader returns a reader of data, whose first byte must be the version.
func NewReader(what string, data []byte, version byte) *Reader {
	r, got := NewReaderOf(what, data, version)
	if r.err == nil && got != version {
		r.err = &UnknownVersionError{What: what, Version: got}
	}
	return r
}

// WithFields is a flag in the version of an encoding that has fields of a newer program behind it.
const WithFields = 0x80

// NewReaderWithFields returns a reader of data, whose first byte must be the version, maybe with the flag
// WithFields, and the fields that follow then: at most limit bytes, and at least one. They are not checked
// and share data's memory.
func NewReaderWithFields(what string, data []byte, version byte, limit int) (r *Reader, fields []byte) {
	if len(data) == 0 || data[0]&WithFields == 0 {
		return NewReader(what, data, version), nil
	}
	r = &Reader{what: what, data: data}
	if got := r.Byte() &^ WithFields; got != version {
		r.err = &UnknownVersionError{What: what, Version: got}
		return r, nil
	}
	if fields = r.Bytes(limit); len(fields) == 0 {
		r.Fail("fields flagged but none")
	}
	return r, fields
}

// NewReaderOf returns a reader of data, whose first byte must be one of the versions up to newest, and
// which of them it is.
func NewReaderOf(what string, data []byte, newest byte) (r *Reader, version byte) {
	r = &Reader{what: what, data: data}
	version = r.Byte()
	if r.err == nil && (version == 0 || version > newest) {
		r.err = &UnknownVersionError{What: what, Version: version}
	}
	return r, version
}

// Fail records a fault at the present place.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = &DecodeError{What: r.what, Offset: r.at, Reason: fmt.Sprintf(format, args...)}
	}
}

// FailWith records an error of a nested decoder.
func (r *Reader) FailWith(err error) {
	if r.err == nil {
		r.err = err
	}
}

// OK reports whether no fault was found so far.
func (r *Reader) OK() bool { return r.err == nil }

// Len returns how many bytes are left.
func (r *Reader) Len() int {
	if r.err != nil {
		return 0
	}
	return len(r.data) - r.at
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	b := r.take(1)
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// Uint64 reads eight big-endian bytes.
func (r *Reader) Uint64() uint64 {
	b := r.take(8)
	if len(b) == 0 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Uvarint reads a varint of at most limit.
func (r *Reader) Uvarint(limit uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.data[r.at:])
	switch {
	case n <= 0:
		r.Fail("bad varint")
		return 0
	case n > 1 && r.data[r.at+n-1] == 0:
		r.Fail("varint longer than needed")
		return 0
	case v > limit:
		r.Fail("%d is over the limit of %d", v, limit)
		return 0
	}
	r.at += n
	return v
}

// Varint reads a zigzag varint.
func (r *Reader) Varint() int64 {
	u := r.Uvarint(^uint64(0))
	return int64(u>>1) ^ -int64(u&1)
}

// Count reads the number of items that follow, each of at least itemBytes bytes.
func (r *Reader) Count(itemBytes int) int {
	n := r.Uvarint(^uint64(0))
	if n > uint64(r.Len()/itemBytes) {
		r.Fail("%d items cannot be in %d bytes", n, r.Len())
		return 0
	}
	return int(n)
}

// Bytes reads a byte string of at most limit bytes. The result shares the input's memory.
func (r *Reader) Bytes(limit int) []byte {
	n := r.Uvarint(uint64(limit))
	if n > uint64(r.Len()) {
		r.Fail("%d bytes wanted, %d left", n, r.Len())
		return nil
	}
	return r.take(int(n))
}

// Rest reads all that is left, which shares the input's memory.
func (r *Reader) Rest() []byte { return r.take(r.Len()) }

// Fields reads all that is left as fields of a newer program: (number varint | bytes)*, the numbers from
// 1 on and ascending. It returns them encoded, to be kept and written again; they share the input's memory.
func (r *Reader) Fields() []byte {
	start, last := r.at, uint64(0)
	for r.Len() > 0 {
		number := r.Uvarint(^uint64(0))
		if number <= last {
			r.Fail("field %d after field %d", number, last)
		}
		last = number
		r.Bytes(r.Len())
	}
	if !r.OK() {
		return nil
	}
	return r.data[start:r.at:r.at]
}

// FieldsIn checks that data, which the reader has read, is what Fields reads, and returns it.
func (r *Reader) FieldsIn(data []byte) []byte {
	in := &Reader{what: r.what, data: data}
	fields := in.Fields()
	if in.err != nil {
		r.FailWith(in.err)
	}
	return fields
}

// Peek returns the next byte without reading it, 0 if there is none.
func (r *Reader) Peek() byte {
	if r.Len() == 0 {
		return 0
	}
	return r.data[r.at]
}

// Done returns the first error. Bytes that were not read are an error.
func (r *Reader) Done() error {
	if r.err == nil && r.Len() > 0 {
		r.Fail("%d bytes too many", r.Len())
	}
	return r.err
}

// take never returns a slice that can be appended to in place.
func (r *Reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.data)-r.at {
		r.Fail("the input ends early")
		return nil
	}
	b := r.data[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}
