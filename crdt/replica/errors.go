package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
)

var (
	// ErrTooManyElements means that a set or the like would get more than MaxSetElements elements.
	ErrTooManyElements = errors.New("too many elements in the set")
	// ErrTrimInFuture means that a trim is to later than the operation's own instant.
	ErrTrimInFuture = errors.New("trim to an instant in the future")
	// ErrInvalidOperation means that an operation is malformed: an unknown kind, a part that is over
	// its bound, or a condition that its type cannot have.
	ErrInvalidOperation = errors.New("invalid operation")
	// ErrUndeletable means that a delete would have to take a bounded counter with it. Other regions may
	// be using their rights to it at that moment, so it stays.
	ErrUndeletable = errors.New("a bounded counter cannot be deleted")
	// ErrScoreRange means that a score of a CounterZSet is, or would become, no whole number from -MaxScore
	// to MaxScore.
	ErrScoreRange = errors.New("score is no whole number of at most 2^53")
	// ErrNotInMap means that no leaf of an observed-remove map can be what an operation is on: leaves are
	// deleted, so they are no bounded counters; they do not expire; and they are no maps but parts of one.
	ErrNotInMap = errors.New("not in an observed-remove map")
	// ErrNoHome means that a value of a type cannot be written under the order of a home region: only registers can.
	ErrNoHome = errors.New("only registers have a home")
	// ErrChangeTooLarge means that an operation would change more than one delta can hold.
	ErrChangeTooLarge = errors.New("the operation changes too much at once")
)

// OpError means that Execute refused a batch because of one operation: nothing was changed. Err is
// *WrongTypeError, *ConditionError, crdt.ErrCounterOverflow, crdt.ErrAmount,
// *crdt.InsufficientRightsError, ErrTooManyElements, ErrUndeletable, ErrTrimInFuture, ErrScoreRange,
// ErrChangeTooLarge, or ErrInvalidOperation, which ErrNotInMap and ErrNoHome come with, possibly wrapped.
type OpError struct {
	// Index is the operation's place in the batch.
	Index int
	Err   error
}

// Error names the operation and the cause.
func (e *OpError) Error() string { return fmt.Sprintf("operation %d: %v", e.Index, e.Err) }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// WrongTypeError means that the key holds a value of another type.
type WrongTypeError struct {
	Found crdt.Type
}

// Error names the type that was found.
func (e *WrongTypeError) Error() string { return fmt.Sprintf("the key holds a %v", e.Found) }

// ConditionError means that an operation's condition does not hold.
type ConditionError struct {
	Kind ConditionKind
	// Version is the key's present version, empty if it is absent.
	Version string
}

// Error names the condition.
func (e *ConditionError) Error() string {
	switch e.Kind {
	case CondAbsent:
		return "the key exists"
	case CondPresent:
		return "the key does not exist"
	case CondVersion:
		return "the key has another version"
	case CondValue:
		return "the key has another value"
	default:
		return fmt.Sprintf("condition %d does not hold", e.Kind)
	}
}

// GapError means that Merge was given deltas of an actor that do not follow on what was applied:
// nothing was changed, and those from Have+1 on are needed first.
type GapError struct {
	Actor crdt.Actor
	// Have is the last sequence number applied, Got the first one given.
	Have, Got uint64
}

// Error names the gap.
func (e *GapError) Error() string {
	return fmt.Sprintf("gap in the deltas of actor %d: have %d, got %d", e.Actor, e.Have, e.Got)
}

// BadDeltaError means that no honest replica makes such deltas: nothing was changed, and trying
// again does not help.
type BadDeltaError struct {
	Dot    crdt.Dot
	Reason string
}

// Error names the delta and the fault.
func (e *BadDeltaError) Error() string { return fmt.Sprintf("bad delta %v: %s", e.Dot, e.Reason) }
