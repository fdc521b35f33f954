package replica

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/internal/codec"
	"github.com/atolldb/atoll/hlc"
)

// kind is what a replica does with the values of one type. A kind has no state of its own.
type kind interface {
	// decode reads the pair of an object in table K. What it returns may share data's memory.
	decode(data []byte) (stored, error)
	// owns reports whether a change is one of this kind.
	owns(c Change) bool
	// decodeChange reads what Change.append wrote.
	decodeChange(r *codec.Reader, d *Delta) Change
	// delete removes all that an operation sees of an object, which is live.
	delete(o *operation) (Outcome, []Effect, error)
	// merge applies another actor's change.
	merge(w *work, d *Delta, e *Effect) error
	// digest adds what an object is made of, and returns the id under which the rest of it is, if any.
	digest(sum *digestSum, key []byte, s stored, last hlc.Time) (kid uint64)
	// explain says what an object is made of.
	explain(kv KV, s stored, e *Explained) error
}

// collector is a kind with tombstones. collect removes what table Y names as not needed behind the cut:
// rest is what its key has behind the object's.
type collector interface {
	collect(w *work, object []byte, cut hlc.Time, rest []byte) error
}

// elementDigester is a kind of whose elements not all that is stored is the same in every replica.
type elementDigester interface {
	// digestElement returns what replicas with equal vectors share of a stored element; nothing if they
	// need not have it.
	digestElement(data []byte) ([]byte, error)
}

// stored is an object as table K holds it: all of a small one, the header of a collection.
type stored interface {
	append(b []byte) []byte
	// live reports whether readers see the object at an instant.
	live(now hlc.Time) bool
	// version names the last event that shaped the object.
	version() string
	// show fills in what readers see.
	show(o *Object)
}

// collection is a stored object whose elements may be inside it.
type collection interface {
	// within returns those elements.
	within() []pair
}

// deleteRefuser is a kind with objects that are too much to delete in one event.
type deleteRefuser interface {
	// refuseDelete returns why an operation cannot delete what it sees of an object, which is live.
	refuseDelete(o *operation) error
	// deletePart deletes as much of such an object as an event can hold.
	deletePart(o *operation) (Outcome, []Effect, error)
}

// Change is what an effect does to a value: a *RegisterChange, *CounterChange and so on, as the effect's
// type says.
type Change interface {
	// append appends the encoding, as part of a delta.
	append(b []byte) []byte
	// fault returns what about the change no honest replica makes, or "".
	fault(d *Delta) string
	// names returns the largest sequence number of an actor that the change says it has observed.
	names(a crdt.Actor) uint64
}

// kinds are by type. There is none of type 0, and none where the package keeps no such values yet. Those of
// deadlines are not here: see kindOf.
var kinds = [crdt.TypeTimeline + 1]kind{
	crdt.TypeLWWRegister: registerKind{},
	crdt.TypeCounter:     counterKind{},
	crdt.TypeAWSet:       setKind{},
	crdt.TypeMVRegister:  siblingsKind{crdt.TypeMVRegister},
	crdt.TypeEWFlag:      siblingsKind{crdt.TypeEWFlag},

	crdt.TypeBoundedCounter: boundedKind{},
	crdt.TypeMaxRegister:    maxKind{},
	crdt.TypeMinRegister:    minKind{},
	crdt.TypeHLL:            hllKind{},
	crdt.TypeTimeline:       timelineKind{},
	crdt.TypeLWWMap:         mapKind,
	crdt.TypeZSet:           zsetKind,
	crdt.TypeCounterZSet:    counterZSetKind{},
	crdt.TypeORMap:          ormapKind{},
}

// kindOf returns the kind of a type, or of the deadlines of a type; nil if there is none.
func kindOf(t crdt.Type) kind {
	if of := t &^ deadlineBit; of != t && hasDeadline(of) {
		return deadlineKind{of}
	}
	if int(t) >= len(kinds) {
		return nil
	}
	return kinds[t]
}

// action is what the operations of one OpKind do.
type action struct {
	// on is the type; 0 means the one that the operation names, or all if it names none.
	on crdt.Type
	// check returns what is malformed about an operation; nil means that nothing can be.
	check func(o *Op) error
	// run does it, and fills all of the outcome but Existed and a version that stays.
	run func(o *operation) (Outcome, []Effect, error)
}

// actionOf returns what an operation does. Those of sorted sets are on the type that they name.
func actionOf(o *Op) (action, bool) {
	if o.Type == crdt.TypeCounterZSet {
		if a, ok := counterZSetActions[o.Kind]; ok {
			return a, true
		}
	}
	a, ok := actions[o.Kind]
	return a, ok
}

// actions are by OpKind. OpDelete is on any type, and not here.
var actions = map[OpKind]action{
	OpPut:          {crdt.TypeLWWRegister, checkValue, runPut},
	OpExpire:       {0, checkExpiring, runExpire},
	OpPersist:      {0, checkExpiring, runExpire},
	OpCounterAdd:   {crdt.TypeCounter, nil, runCounterAdd},
	OpCounterSet:   {crdt.TypeCounter, nil, runCounterSet},
	OpCounterReset: {crdt.TypeCounter, nil, deleting(crdt.TypeCounter)},
	OpSetAdd:       {crdt.TypeAWSet, checkElements, runSetAdd},
	OpSetRemove:    {crdt.TypeAWSet, checkElements, runSetRemove},
	OpSetClear:     {crdt.TypeAWSet, nil, deleting(crdt.TypeAWSet)},
	OpFlagEnable:   {crdt.TypeEWFlag, nil, runFlagEnable},
	OpFlagDisable:  {crdt.TypeEWFlag, nil, deleting(crdt.TypeEWFlag)},
	OpMVPut:        {crdt.TypeMVRegister, checkValue, runMVPut},

	OpBoundedInc:      {crdt.TypeBoundedCounter, nil, runBounded},
	OpBoundedDec:      {crdt.TypeBoundedCounter, nil, runBounded},
	OpBoundedTransfer: {crdt.TypeBoundedCounter, checkTransfer, runBounded},
	OpMax:             {crdt.TypeMaxRegister, nil, runMax},
	OpMin:             {crdt.TypeMinRegister, nil, runMin},
	OpHLLAdd:          {crdt.TypeHLL, checkElements, runHLLAdd},

	OpTimelineAdd:  {crdt.TypeTimeline, checkValue, runTimelineAdd},
	OpTimelineTrim: {crdt.TypeTimeline, checkTrim, runTimelineTrim},
	OpMapPut:       {crdt.TypeLWWMap, checkFields, runMapPut},
	OpMapRemove:    {crdt.TypeLWWMap, checkElements, runMapRemove},
	OpZSetAdd:      {crdt.TypeZSet, checkScore, runZSetAdd},
	OpZSetIncr:     {crdt.TypeZSet, checkScore, runZSetIncr},
	OpZSetRemove:   {crdt.TypeZSet, checkMembers, runZSetRemove},
	OpORMapRemove:  {crdt.TypeORMap, nil, runORMapRemove},
}
