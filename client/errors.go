package client

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Sentinels that errors of this package match with errors.Is. Except where it says otherwise, a
// write that fails with one of them was not done.
var (
	// ErrNotFound: the key does not exist. Only reads of a single key return it.
	ErrNotFound = errors.New("key not found")
	// ErrInvalidArgument: the request breaks a rule or a limit; metadata "field" and "limit" say which.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrWrongType: the key holds a value of another type; metadata "type_found".
	ErrWrongType = errors.New("key holds another type")
	// ErrAlreadyExists: the condition IfAbsent does not hold; metadata "version".
	ErrAlreadyExists = errors.New("key already exists")
	// ErrVersionMismatch: the condition IfVersion does not hold; metadata "version" is the present one.
	ErrVersionMismatch = errors.New("version mismatch")
	// ErrValueMismatch: the condition IfValue does not hold; metadata "version".
	ErrValueMismatch = errors.New("value mismatch")
	// ErrNotPresent: the condition IfPresent does not hold.
	ErrNotPresent = errors.New("key does not exist")
	// ErrInsufficientRights: a bounded counter lacks the rights for the operation.
	ErrInsufficientRights = errors.New("insufficient rights")
	// ErrUnavailable: no node could serve the request. Safe to retry.
	ErrUnavailable = errors.New("unavailable")
	// ErrOutcomeUnknown: the write may have taken effect, may yet, or may not. Retry it only with the
	// operation id in metadata "op_id".
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrDeadline: the deadline passed, or the context was cancelled, before the request was executed.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrStale: no replica is as fresh as the read asked for.
	ErrStale = errors.New("too stale")
	// ErrSessionLost: the session token is from before a region was rebuilt.
	ErrSessionLost = errors.New("session lost")
	// ErrOverloaded: a limit on load or space was hit; metadata "limit".
	ErrOverloaded = errors.New("resource exhausted")
	// ErrFenced: the region may not take writes at present.
	ErrFenced = errors.New("fenced")
	// ErrRegionRefused: a change of the regions was not made; metadata "code", "waiting" and "do".
	ErrRegionRefused = errors.New("change of the regions refused")
	// ErrCorrupt: stored data is damaged; metadata "partition".
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrUnauthenticated: the credentials are missing or wrong.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrDenied: the caller lacks the permission named in metadata "permission".
	ErrDenied = errors.New("permission denied")
	// ErrInternal: a fault in the server. The outcome of a write is unknown.
	ErrInternal = errors.New("internal error")
)

// Reason says why a request failed, in the words of the API's table of errors.
type Reason string

// The reasons of the API's table of errors.
const (
	ReasonInvalidKey         Reason = "INVALID_KEY"
	ReasonValueTooLarge      Reason = "VALUE_TOO_LARGE"
	ReasonBatchTooLarge      Reason = "BATCH_TOO_LARGE"
	ReasonInvalidArgument    Reason = "INVALID_ARGUMENT"
	ReasonWrongType          Reason = "WRONG_TYPE"
	ReasonAlreadyExists      Reason = "ALREADY_EXISTS"
	ReasonVersionMismatch    Reason = "VERSION_MISMATCH"
	ReasonValueMismatch      Reason = "VALUE_MISMATCH"
	ReasonNotPresent         Reason = "NOT_PRESENT"
	ReasonInsufficientRights Reason = "INSUFFICIENT_RIGHTS"
	ReasonNotOwner           Reason = "NOT_OWNER"
	ReasonStaleEpoch         Reason = "STALE_EPOCH"
	ReasonNoLeader           Reason = "NO_LEADER"
	ReasonNoQuorum           Reason = "NO_QUORUM"
	ReasonFrozen             Reason = "FROZEN"
	ReasonShuttingDown       Reason = "SHUTTING_DOWN"
	ReasonOutcomeUnknown     Reason = "OUTCOME_UNKNOWN"
	ReasonDeadline           Reason = "DEADLINE"
	ReasonStale              Reason = "STALE"
	ReasonSessionLost        Reason = "SESSION_LOST"
	ReasonOverloaded         Reason = "OVERLOADED"
	ReasonRateLimited        Reason = "RATE_LIMITED"
	ReasonQuotaExceeded      Reason = "QUOTA_EXCEEDED"
	ReasonDiskFull           Reason = "DISK_FULL"
	ReasonTooManyWatchers    Reason = "TOO_MANY_WATCHERS"
	ReasonFenced             Reason = "FENCED"
	ReasonNotHome            Reason = "NOT_HOME"
	ReasonNoLease            Reason = "NO_LEASE" // the home cannot reach a majority of the regions; others may have taken over
	ReasonClockUnsafe        Reason = "CLOCK_UNSAFE"
	ReasonRegionRefused      Reason = "REGION_REFUSED"
	ReasonCorrupt            Reason = "CORRUPT"
	ReasonUnauthenticated    Reason = "UNAUTHENTICATED"
	ReasonDenied             Reason = "DENIED"
	ReasonUnimplemented      Reason = "UNIMPLEMENTED"
	ReasonInternal           Reason = "INTERNAL"

	// Reasons that this package sets itself.

	ReasonNotFound    Reason = "NOT_FOUND"   // a read found no key
	ReasonUnreachable Reason = "UNREACHABLE" // no endpoint could be connected to, or none answered a read
)

// Error is why a request failed.
type Error struct {
	// Code is the Connect code.
	Code connect.Code
	// Reason is what programs should branch on, directly or by errors.Is with a sentinel.
	Reason Reason
	// Message says what went wrong and what to do next, for people.
	Message string
	// Metadata holds facts that belong to the reason.
	Metadata map[string]string
	// RetryAfter is how long to wait before a retry; 0 if a retry cannot help.
	RetryAfter time.Duration

	cause error
}

// Error returns the message, or the reason if there is none.
func (e *Error) Error() string {
	if e.Message == "" {
		return string(e.Reason)
	}
	return e.Message
}

// Unwrap returns the transport's or the context's error, if that is what ended the call.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is the sentinel of the error's reason.
func (e *Error) Is(target error) bool { return target == sentinelOf(e.Reason, e.Code) }

// sentinelOf returns the sentinel of a reason; of its code if a newer server uses a reason that this
// package does not know.
func sentinelOf(reason Reason, code connect.Code) error {
	switch reason {
	case ReasonNotFound:
		return ErrNotFound
	case ReasonInvalidKey, ReasonValueTooLarge, ReasonBatchTooLarge, ReasonInvalidArgument:
		return ErrInvalidArgument
	case ReasonWrongType:
		return ErrWrongType
	case ReasonAlreadyExists:
		return ErrAlreadyExists
	case ReasonVersionMismatch:
		return ErrVersionMismatch
	case ReasonValueMismatch:
		return ErrValueMismatch
	case ReasonNotPresent:
		return ErrNotPresent
	case ReasonInsufficientRights:
		return ErrInsufficientRights
	case ReasonFenced, ReasonClockUnsafe:
		return ErrFenced
	case ReasonRegionRefused:
		return ErrRegionRefused
	case ReasonNotOwner, ReasonNotHome, ReasonStaleEpoch:
		return ErrUnavailable
	case ReasonStale:
		return ErrStale
	case ReasonSessionLost:
		return ErrSessionLost
	}
	return sentinelOfCode(code)
}

// sentinelOfCode returns the sentinel of a code that only one sentinel has.
func sentinelOfCode(code connect.Code) error {
	switch code {
	case connect.CodeInvalidArgument, connect.CodeUnimplemented:
		return ErrInvalidArgument
	case connect.CodeAlreadyExists:
		return ErrAlreadyExists
	case connect.CodeUnavailable:
		return ErrUnavailable
	case connect.CodeUnknown:
		return ErrOutcomeUnknown
	case connect.CodeDeadlineExceeded, connect.CodeCanceled:
		return ErrDeadline
	case connect.CodeResourceExhausted:
		return ErrOverloaded
	case connect.CodeDataLoss:
		return ErrCorrupt
	case connect.CodeUnauthenticated:
		return ErrUnauthenticated
	case connect.CodePermissionDenied:
		return ErrDenied
	default:
		return ErrInternal
	}
}

// errorOf reads the server's verdict out of an RPC's error. ok is false if the error was made on
// this side or by something in between: then nothing is known but the code.
func errorOf(err error) (e *Error, ok bool) {
	e = &Error{Code: connect.CodeOf(err), Message: err.Error(), cause: err}
	rpcErr, isRPC := errors.AsType[*connect.Error](err)
	if !isRPC {
		return e, false
	}
	e.Message = rpcErr.Message()
	for _, d := range rpcErr.Details() {
		msg, decodeErr := connectproto.UnmarshalErrorDetail(d)
		if decodeErr != nil {
			continue // a detail of a newer server
		}
		switch msg := msg.(type) {
		case *errdetails.ErrorInfo:
			if msg.GetDomain() != "atoll" {
				continue
			}
			ok = true
			e.Reason = Reason(msg.GetReason())
			e.Metadata = maps.Clone(msg.GetMetadata())
		case *errdetails.RetryInfo:
			e.RetryAfter = msg.GetRetryDelay().AsDuration()
		}
	}
	if ok {
		e.cause = nil
	}
	return e, ok
}

// itemError turns the error of one item of a batch into an *Error; nil stays nil.
func itemError(item *atollv1.Error) error {
	if item == nil {
		return nil
	}
	e := &Error{
		Reason:     Reason(item.GetReason()),
		Message:    item.GetMessage(),
		Metadata:   item.GetMetadata(),
		RetryAfter: item.GetRetryAfter().AsDuration(),
	}
	if err := e.Code.UnmarshalText([]byte(item.GetCode())); err != nil {
		e.Code = connect.CodeInternal
	}
	return e
}

func notFound(namespace, key string) error {
	if namespace == "" {
		namespace = "default"
	}
	return &Error{
		Code:    connect.CodeNotFound,
		Reason:  ReasonNotFound,
		Message: fmt.Sprintf("key %q not found in namespace %q", key, namespace),
	}
}
