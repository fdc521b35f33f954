package crdt

import (
	"strings"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// Fields are what a newer program said about a value in fields that this one does not know. They are
// kept with the value, joined, and written again, so that a value passes unharmed through programs of
// two versions while regions upgrade one after the other.
//
// They are encoded as (number 1 | length varint | bytes)*, in ascending order of numbers. Fields can be
// compared with ==.
//
// Join: the fields of both, and of a field that both have the one that is larger by its bytes; so what
// must merge in another way is for a newer version, not for a field. Numbers and lengths are bounded
// apart from each other, because a bound of the whole could be exceeded by a join of two that keep it.
// A last-writer-wins register does not join its fields, but keeps those of the write that wins.
//
// Laws: Join is commutative, associative and idempotent; no fields are neutral. Size: at most 3885
// bytes. Garbage: fields go when the value that they are of goes.
type Fields string

// Bounds of fields.
const (
	// MaxFieldNumber is the largest number of a field; the smallest is 1.
	MaxFieldNumber = 15
	// MaxFieldBytes bounds the bytes of one field.
	MaxFieldBytes = 256
	// MaxFieldsBytes is how long fields can be at most, encoded.
	MaxFieldsBytes = MaxFieldNumber * (1 + 2 + MaxFieldBytes)
)

// Join returns the fields of both.
func (f Fields) Join(o Fields) Fields {
	switch {
	case f == o, o == "":
		return f
	case f == "":
		return o
	}
	var b strings.Builder
	b.Grow(len(f) + len(o))
	for f != "" && o != "" {
		mine, theirs := f[:f.size()], o[:o.size()]
		switch {
		case mine[0] < theirs[0] || mine[0] == theirs[0] && mine.bytes() >= theirs.bytes():
			b.WriteString(string(mine))
		default:
			b.WriteString(string(theirs))
		}
		if mine[0] <= theirs[0] {
			f = f[len(mine):]
		}
		if theirs[0] <= mine[0] {
			o = o[len(theirs):]
		}
	}
	b.WriteString(string(f))
	b.WriteString(string(o))
	return Fields(b.String())
}

// Valid reports whether f is an encoding of fields.
func (f Fields) Valid() bool {
	last := byte(0)
	for f != "" {
		n := f.size()
		if n == 0 || f[0] <= last || f[0] > MaxFieldNumber {
			return false
		}
		last, f = f[0], f[n:]
	}
	return true
}

// size returns how long the first field is with its number and length, 0 if it is none.
func (f Fields) size() int {
	if len(f) < 2 {
		return 0
	}
	n, head := int(f[1]), 2
	if n >= 0x80 {
		if len(f) < 3 || f[2] == 0 || f[2] >= 0x80 {
			return 0
		}
		n, head = n&0x7f|int(f[2])<<7, 3
	}
	if n > MaxFieldBytes || n > len(f)-head {
		return 0
	}
	return head + n
}

// bytes returns the bytes of the only field there is.
func (f Fields) bytes() Fields {
	if f[1] >= 0x80 {
		return f[3:]
	}
	return f[2:]
}

// Known returns the register without the fields of a newer program.
func (r MaxRegister) Known() MaxRegister {
	r.unknown = ""
	return r
}

// Known returns the register without the fields of a newer program.
func (r MinRegister) Known() MinRegister { return MinRegister{r.complement.Known()} }

// Known returns the counter without the fields of a newer program.
func (c BoundedCounter) Known() BoundedCounter {
	c.unknown = ""
	return c
}

// HasFields reports whether the encoding of a value has fields of a newer program.
func HasFields(encoding []byte) bool { return len(encoding) > 0 && encoding[0]&codec.WithFields != 0 }

// appendVersion appends what every encoding that may have fields begins with: the version and, with
// flag 0x80 in it, fields as bytes.
func appendVersion(b []byte, unknown Fields) []byte { return appendVersionOf(b, codecVersion, unknown) }

func appendVersionOf(b []byte, version byte, unknown Fields) []byte {
	if unknown == "" {
		return append(b, version)
	}
	return codec.AppendBytes(append(b, version|codec.WithFields), unknown)
}

// newReader reads what appendVersion wrote, and returns a reader of the rest.
func newReader(what string, data []byte) (*codec.Reader, Fields) {
	return newReaderOf(what, data, codecVersion)
}

func newReaderOf(what string, data []byte, version byte) (*codec.Reader, Fields) {
	r, encoded := codec.NewReaderWithFields(what, data, version, MaxFieldsBytes)
	if len(encoded) == 0 {
		return r, ""
	}
	unknown := Fields(encoded)
	if !unknown.Valid() {
		r.Fail("fields out of order or out of bounds")
	}
	return r, unknown
}
