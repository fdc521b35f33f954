package replica

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
)

// Bounds of one operation and of what it names. Execute refuses what is outside with
// ErrInvalidOperation, and DecodeDelta with crdt.ErrCorrupt.
const (
	// MaxNamespaceBytes bounds a namespace, which may be empty.
	MaxNamespaceBytes = 255
	// MaxKeyBytes bounds a key, which has at least one byte.
	MaxKeyBytes = 1024
	// MaxOperationElements bounds the elements of one operation.
	MaxOperationElements = 10_000
	// MaxSetElements bounds a set for local adds. Merged adds of other regions may exceed it.
	MaxSetElements = 1_000_000
	// MaxScore bounds the size of a CounterZSet's scores for local operations, so that a float64 is exact.
	// Merged increments of other regions may exceed it.
	MaxScore = 1 << 53
	// maxChangeBytes bounds what a removal of many members puts into a delta: regions send each other
	// deltas whole, in frames of 8 MiB.
	maxChangeBytes = 6 << 20
)

// OpKind says what an operation does. The codes are in logs and must not change.
type OpKind uint8

// The kinds of operations.
const (
	// OpPut sets a register to Value, until Expires unless that is 0.
	OpPut OpKind = 1
	// OpDelete deletes the value of the given Type, or of every type if Type is 0.
	OpDelete OpKind = 2
	// OpCounterAdd adds Delta to a counter; an absent one counts as 0.
	OpCounterAdd OpKind = 3
	// OpCounterSet makes Delta the counter's value: a reset and an addition in one event.
	OpCounterSet OpKind = 4
	// OpCounterReset takes away all additions seen here, which makes the counter absent.
	OpCounterReset OpKind = 5
	// OpSetAdd adds Elements to a set.
	OpSetAdd OpKind = 6
	// OpSetRemove removes Elements from a set.
	OpSetRemove OpKind = 7
	// OpSetClear removes all elements seen here, which makes the set absent.
	OpSetClear OpKind = 8
	// OpExpire makes a register expire at Expires, and OpPersist makes it stay; both without effect on
	// what is absent.
	OpExpire  OpKind = 9
	OpPersist OpKind = 10
	// OpFlagEnable and OpFlagDisable change a flag.
	OpFlagEnable  OpKind = 11
	OpFlagDisable OpKind = 12
	// OpMax raises a maximum to Delta, OpMin lowers a minimum to it.
	OpMax OpKind = 13
	OpMin OpKind = 14
	// OpMVPut writes Value to a multi-value register in place of the values seen here.
	OpMVPut OpKind = 15
	// OpBoundedInc and OpBoundedDec add Delta to, and take it from, a bounded counter, and
	// OpBoundedTransfer gives ToActor the right to take as much. Delta is more than 0.
	OpBoundedInc      OpKind = 16
	OpBoundedDec      OpKind = 17
	OpBoundedTransfer OpKind = 18
	// OpMapPut sets the fields named by Elements to Values, OpMapRemove removes them.
	OpMapPut    OpKind = 19
	OpMapRemove OpKind = 20
	// OpZSetAdd gives the one of Elements the Score, OpZSetIncr adds Score to its score, OpZSetRemove
	// removes Elements. Type says which of the two sorted sets is meant.
	OpZSetAdd    OpKind = 21
	OpZSetIncr   OpKind = 22
	OpZSetRemove OpKind = 23
	// OpHLLAdd counts Elements.
	OpHLLAdd OpKind = 24
	// OpTimelineAdd adds Value at the operation's instant, OpTimelineTrim removes what is before At.
	OpTimelineAdd  OpKind = 25
	OpTimelineTrim OpKind = 26
	// OpORMapRemove removes from an observed-remove map all leaves seen here that are at Path or below it.
	OpORMapRemove OpKind = 30
)

// ConditionKind says what a condition tests. The codes are in logs and must not change.
type ConditionKind uint8

// The kinds of conditions. All but CondNone and CondAbsent fail on an absent key.
const (
	// CondNone holds always.
	CondNone ConditionKind = 0
	// CondAbsent holds if the key is absent.
	CondAbsent ConditionKind = 1
	// CondPresent holds if the key is present.
	CondPresent ConditionKind = 2
	// CondVersion holds if the key is present with exactly this version.
	CondVersion ConditionKind = 3
	// CondValue holds if the key is a register with exactly this value.
	CondValue ConditionKind = 4
)

// Condition must hold for an operation to take effect. It is judged in this region's order of
// operations, after the earlier operations of its batch.
type Condition struct {
	Kind    ConditionKind
	Version string
	Value   []byte
}

// Op is one operation of a client on one key. Fields that the kind does not use are ignored.
type Op struct {
	Kind      OpKind
	Namespace string
	Key       string
	// Path, unless it is the root, makes this the operation of a leaf of the observed-remove map under the
	// key, and says where the leaf is. Condition is about the leaf then. In OpORMapRemove it says what is
	// removed, and Condition is about the whole map.
	Path crdt.Path
	// Type is for OpDelete, where 0 deletes every type under the key, and for operations of sorted sets.
	Type crdt.Type
	// Value is for OpPut, OpMVPut and OpTimelineAdd, Expires for OpPut and OpExpire.
	Value   []byte
	Expires hlc.Time
	// Delta is a whole number to add or set.
	Delta int64
	// Elements are those of a set or the like, or the names of fields; duplicates count once. Values
	// has one for each of them in OpMapPut.
	Elements [][]byte
	Values   [][]byte
	Score    float64
	ToActor  crdt.Actor
	At       hlc.Time
	// Condition must hold.
	Condition Condition
	// AnyType lets the operation take effect beside values of other types under the key, as it would
	// if another region had done it.
	AnyType bool
	// Home, unless it is 0, is the ownership epoch under which this region is the key's home: see Home. Only registers
	// have one.
	Home uint64
	// Restores says that the operation writes again what had lost. It changes nothing about it.
	Restores bool
}

// Outcome is what an operation did.
type Outcome struct {
	// Version is the key's new version; for an operation without effect the present one, and empty
	// if the key is absent.
	Version string
	// Existed reports whether the key was present before.
	Existed bool
	// Counter is the number that a counter, a maximum or a minimum is after the operation.
	Counter int64
	// Size is a collection's number of elements after the operation, or an estimate of it.
	Size uint64
	// Changed is how many elements entered or left, or got another value.
	Changed uint64
	// Score is the score of the member that OpZSetAdd or OpZSetIncr was on.
	Score float64
}
