package crdt

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/atolldb/atoll/crdt/internal/codec"
)

// Bounds of a path.
const (
	// MaxPathNames bounds the names of a path in an ORMap.
	MaxPathNames = 4
	// MaxNameBytes bounds a name, which has at least one byte.
	MaxNameBytes = 255
)

// ErrBadPath means that a path has no names or too many, or that one is empty or too long.
var ErrBadPath = errors.New("path must have 1 to 4 names of 1 to 255 bytes")

// Path is where a leaf is in an ORMap. The zero Path is the root, which is above every other and has
// no leaf. Paths can be compared with ==.
type Path struct {
	// encoded has each name's length before it, as a varint: then a path is at or below another if and
	// only if its encoding begins with the other's.
	encoded string
}

// NewPath returns the path of the given names, the outermost first, or ErrBadPath.
func NewPath(names ...string) (Path, error) {
	if len(names) == 0 || len(names) > MaxPathNames {
		return Path{}, ErrBadPath
	}
	var b []byte
	for _, name := range names {
		if name == "" || len(name) > MaxNameBytes {
			return Path{}, ErrBadPath
		}
		b = codec.AppendBytes(b, name)
	}
	return Path{string(b)}, nil
}

// ParsePath reads what Encoded returned. Of nothing it makes the root. An encoding that none returned is
// ErrBadPath.
func ParsePath(encoded []byte) (Path, error) {
	if len(encoded) == 0 {
		return Path{}, nil
	}
	var names []string
	for rest := encoded; len(rest) > 0; {
		n, size := binary.Uvarint(rest[:min(len(rest), 2)])
		if size <= 0 || n == 0 || n > uint64(len(rest)-size) || len(names) == MaxPathNames {
			return Path{}, ErrBadPath
		}
		names, rest = append(names, string(rest[size:size+int(n)])), rest[size+int(n):]
	}
	p, err := NewPath(names...)
	if err != nil || p.encoded != string(encoded) {
		return Path{}, ErrBadPath
	}
	return p, nil
}

// Encoded returns the path's encoding: each name with its length before it, as a varint; nothing for the root.
func (p Path) Encoded() string { return p.encoded }

// IsRoot reports whether p has no names.
func (p Path) IsRoot() bool { return p.encoded == "" }

// Compare orders paths by their names, one after the other, in byte order: a path before those below it.
func (p Path) Compare(o Path) int {
	if p.encoded == o.encoded {
		return 0
	}
	return slices.Compare(p.Names(), o.Names())
}

// Names returns the path's names, the outermost first; the root has none.
func (p Path) Names() []string {
	var names []string
	for rest := p.encoded; rest != ""; {
		n, size := binary.Uvarint([]byte(rest[:min(len(rest), 2)]))
		name := rest[size : size+int(n)]
		names, rest = append(names, name), rest[size+int(n):]
	}
	return names
}

// within reports whether p is at o or below it.
func (p Path) within(o Path) bool { return strings.HasPrefix(p.encoded, o.encoded) }
