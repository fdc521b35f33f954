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

// Effect is the change of one typed value.
type Effect struct {
	Namespace string
	Key       string
	Type      crdt.Type
	Change    Change
}
