package crdt

import "fmt"

// Type is the type of a value. It is part of a key's identity in storage; the codes are on disk and
// on the wire, and are those of atoll.v1.Type.
type Type uint8

// The types of values.
const (
	// TypeLWWRegister is a last-writer-wins register.
	TypeLWWRegister Type = 1
	// TypeCounter is an observed-reset counter.
	TypeCounter Type = 2
	// TypeAWSet is an add-wins set.
	TypeAWSet Type = 3
)

// String returns the type's name for people: "register", "counter" or "set".
func (t Type) String() string {
	switch t {
	case TypeLWWRegister:
		return "register"
	case TypeCounter:
		return "counter"
	case TypeAWSet:
		return "set"
	default:
		return fmt.Sprintf("type(%d)", uint8(t))
	}
}

// Valid reports whether t is one of the types above.
func (t Type) Valid() bool { return t >= TypeLWWRegister && t <= TypeAWSet }
