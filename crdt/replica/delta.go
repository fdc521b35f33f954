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
	// Seen is by how much the author's version vector rose since its last delta, apart from its own entry:
	// ascending, one dot of an actor at most. Joined over all deltas so far it is what the author had
	// applied when it made this one.
	Seen []crdt.Dot
	// Effects are in ascending order of namespace, key and type, each at most once.
	Effects []Effect
	// Unknown are fields of a newer program, encoded. They are kept and sent on.
	Unknown []byte
}

// Effect is the change of one typed value.
type Effect struct {
	Namespace string
	Key       string
	Type      crdt.Type
	Change    Change
}

// Subject returns the type of the value that the effect is on, also if it changes the value's deadline only.
func (e *Effect) Subject() crdt.Type { return e.Type &^ deadlineBit }
