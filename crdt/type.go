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
	// TypeMVRegister is a multi-value register.
	TypeMVRegister Type = 4
	// TypeBoundedCounter is a counter that stays at or above 0.
	TypeBoundedCounter Type = 5
	// TypeEWFlag is an enable-wins flag.
	TypeEWFlag Type = 6
	// TypeMaxRegister and TypeMinRegister keep the largest and the smallest number written.
	TypeMaxRegister Type = 7
	TypeMinRegister Type = 8
	// TypeLWWMap is a map of last-writer-wins registers.
	TypeLWWMap Type = 9
	// TypeORMap is an observed-remove map.
	TypeORMap Type = 10
	// TypeZSet is a sorted set with last-writer-wins scores, TypeCounterZSet one with counters as scores.
	TypeZSet        Type = 11
	TypeCounterZSet Type = 12
	// TypeHLL is a HyperLogLog.
	TypeHLL Type = 13
	// TypeTimeline is a capped timeline.
	TypeTimeline Type = 14
)

var typeNames = [...]string{
	TypeLWWRegister: "register", TypeCounter: "counter", TypeAWSet: "set", TypeMVRegister: "mvregister",
	TypeBoundedCounter: "bcounter", TypeEWFlag: "flag", TypeMaxRegister: "max", TypeMinRegister: "min",
	TypeLWWMap: "map", TypeORMap: "ormap", TypeZSet: "zset", TypeCounterZSet: "countzset", TypeHLL: "hll",
	TypeTimeline: "timeline",
}

// String returns the type's name for people: "register", "counter" or "set".
func (t Type) String() string {
	if !t.Valid() {
		return fmt.Sprintf("type(%d)", uint8(t))
	}
	return typeNames[t]
}

// Valid reports whether t is one of the types above.
func (t Type) Valid() bool { return t >= TypeLWWRegister && t <= TypeTimeline }

// TypeNamed returns the type that String calls so, and whether there is one.
func TypeNamed(name string) (Type, bool) {
	for t := TypeLWWRegister; t.Valid(); t++ {
		if t.String() == name {
			return t, true
		}
	}
	return 0, false
}
