package crdt

import "github.com/atolldb/atoll/crdt/internal/codec"

// ErrCorrupt is what every error of this package's decoders is.
var ErrCorrupt = codec.ErrCorrupt

// DecodeError says what was wrong with an encoding, and where. It is ErrCorrupt.
type DecodeError = codec.DecodeError

// UnknownVersionError says that an encoding is of a version this program does not know. It is
// ErrCorrupt.
type UnknownVersionError = codec.UnknownVersionError

// Bounds that the decoders hold a value to.
const (
	// MaxValueBytes bounds a register's value.
	MaxValueBytes = 1 << 20
	// MaxElementBytes bounds an element of a set, which has at least one byte.
	MaxElementBytes = 1024
)

// codecVersion is the first byte of every encoding of this package.
const codecVersion = 1
