// Package wire is the encoding of session tokens: what can be done with one without the key.
//
//	offset 0  version, 1
//	       1  4 bytes that tell deployments apart
//	       5  entries of 20 bytes, all numbers big endian:
//	            0  actor, 4 bytes
//	            4  instant, 8 bytes
//	           12  authentication code of the two, 8 bytes
//
// Entries rise by actor; of one actor there is at most one with an instant, and behind it at most one
// with Drained. Each entry is authenticated by itself, so that whoever holds two tokens can join them
// without the key: a client whose requests are answered at the same time does.
package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

const (
	version     = 1
	markBytes   = 4
	headerBytes = 1 + markBytes
	entryBytes  = 4 + 8 + MACBytes
	// MACBytes is the length of an entry's authentication code.
	MACBytes = 8
	// MaxEntries bounds the entries of a token.
	MaxEntries = 128
	// MaxBytes bounds the size of an encoded token.
	MaxBytes = headerBytes + MaxEntries*entryBytes
	// Drained in place of an instant means all events of an actor that is closed.
	Drained = ^uint64(0)
)

var (
	// ErrMalformed means that something is no token.
	ErrMalformed = errors.New("malformed session token")
	// ErrOtherDeployment means that two tokens are not of one deployment.
	ErrOtherDeployment = errors.New("session token of another deployment")
)

// Entry says that the session depends on an actor's events up to an instant.
type Entry struct {
	Actor uint32
	Time  uint64
	MAC   [MACBytes]byte
}

// compare orders entries. Those that are equal are about the same, and the one with the later instant
// says more.
func compare(a, b *Entry) int {
	if a.Actor != b.Actor {
		if a.Actor < b.Actor {
			return -1
		}
		return 1
	}
	switch {
	case a.Time != Drained && b.Time == Drained:
		return -1
	case a.Time == Drained && b.Time != Drained:
		return 1
	default:
		return 0
	}
}

// Token is a decoded token, not authenticated. Its entries are in order.
type Token struct {
	// Mark tells deployments apart.
	Mark    [markBytes]byte
	Entries []Entry
}

// Parse decodes a token. The result shares no memory with it. The error matches ErrMalformed.
func Parse(b []byte) (Token, error) {
	var t Token
	if len(b) < headerBytes || len(b) > MaxBytes || (len(b)-headerBytes)%entryBytes != 0 {
		return t, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != version {
		return t, fmt.Errorf("%w: version %d", ErrMalformed, b[0])
	}
	copy(t.Mark[:], b[1:])
	b = b[headerBytes:]
	t.Entries = make([]Entry, len(b)/entryBytes)
	for i := range t.Entries {
		e := &t.Entries[i]
		e.Actor, e.Time = binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[4:])
		copy(e.MAC[:], b[12:])
		b = b[entryBytes:]
		if i > 0 && compare(&t.Entries[i-1], e) >= 0 {
			return Token{}, fmt.Errorf("%w: order of entries", ErrMalformed)
		}
	}
	return t, nil
}

// Bytes encodes the token. Equal tokens have equal bytes.
func (t *Token) Bytes() []byte {
	b := make([]byte, 0, headerBytes+len(t.Entries)*entryBytes)
	b = append(append(b, version), t.Mark[:]...)
	for i := range t.Entries {
		e := &t.Entries[i]
		b = binary.BigEndian.AppendUint32(b, e.Actor)
		b = binary.BigEndian.AppendUint64(b, e.Time)
		b = append(b, e.MAC[:]...)
	}
	return b
}

// Add makes the token say what an entry says, if it does not already. It reports false if the token
// has no room for another entry.
func (t *Token) Add(e Entry) bool {
	i, found := slices.BinarySearchFunc(t.Entries, e, func(a, b Entry) int { return compare(&a, &b) })
	switch {
	case found:
		if e.Time > t.Entries[i].Time {
			t.Entries[i] = e
		}
		return true
	case len(t.Entries) >= MaxEntries:
		return false
	default:
		t.Entries = slices.Insert(t.Entries, i, e)
		return true
	}
}

// Join returns the encoded token that says what either of two says. An empty one says nothing. Errors:
// ErrMalformed, ErrOtherDeployment.
func Join(a, b []byte) ([]byte, error) {
	switch {
	case len(a) == 0, bytes.Equal(a, b):
		_, err := parseAny(b)
		return b, err
	case len(b) == 0:
		_, err := parseAny(a)
		return a, err
	}
	x, err := Parse(a)
	if err != nil {
		return nil, err
	}
	y, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if x.Mark != y.Mark {
		return nil, ErrOtherDeployment
	}
	for _, e := range y.Entries {
		if !x.Add(e) {
			return nil, fmt.Errorf("%w: more than %d entries", ErrMalformed, MaxEntries)
		}
	}
	return x.Bytes(), nil
}

func parseAny(b []byte) (Token, error) {
	if len(b) == 0 {
		return Token{}, nil
	}
	return Parse(b)
}
