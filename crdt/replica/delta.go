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
	// Effects are in ascending order of namespace, key, path and type, each at most once.
	Effects []Effect
	// Writes are the clients' writes, in the order of their last events, that whoever has applied this delta,
	// and those before it, has.
	Writes []Write
	// Unknown are fields of a newer program, encoded. They are kept and sent on.
	Unknown []byte
}

// Effect is the change of one typed value.
type Effect struct {
	Namespace string
	Key       string
	// Path, unless it is the root, is where the value is in the observed-remove map under the key.
	Path   crdt.Path
	Type   crdt.Type
	Change Change
}

// Subject returns the type of what the key holds that the effect is on: a map if it is on a leaf of one, and
// the type of the value if it changes the value's deadline.
func (e *Effect) Subject() crdt.Type {
	if e.Path.IsRoot() {
		return e.Type &^ deadlineBit
	}
	return crdt.TypeORMap
}

// object returns the key under which the value is stored.
func (e *Effect) object() []byte { return objectAt(e.Namespace, e.Key, e.Path, e.Type) }
