package replica

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Delta is what one operation changed: the unit that regions send each other. The deltas of an actor
// in a partition are numbered by their dots from 1 without gaps.
type Delta struct {
	// Dot names the operation. All its effects share it.
	Dot crdt.Dot
	// Time is the operation's instant; it rises strictly along an actor's deltas.
	Time hlc.Time
	// Effects are in ascending order of namespace, key and type, each at most once.
	Effects []Effect
}

// Effect is the change of one typed value. Exactly one of Register, Counter and Set is there, as
// Type says.
type Effect struct {
	Namespace string
	Key       string
	Type      crdt.Type
	// Register is the whole new state; its time and dot are the delta's.
	Register *crdt.LWWRegister
	// Counter has the changed rows: an entry of the delta's actor with the delta's sequence number,
	// and bases whose Reset is the delta's dot.
	Counter *crdt.Counter
	// Set has the changed elements.
	Set *SetEffect
}

// SetEffect is the change of a set.
type SetEffect struct {
	// Cleared is not nil if the set was cleared: every add that it includes is gone.
	Cleared *crdt.VersionVector
	// Elements are the changed elements in ascending order.
	Elements []ElementEffect
}

// ElementEffect is the change of one element of a set.
type ElementEffect struct {
	Element []byte
	// Added means that the delta's dot was added.
	Added bool
	// Removed are the adds that were observed and are gone.
	Removed crdt.DotSet
}
