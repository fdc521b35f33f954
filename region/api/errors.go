package api

import (
	"maps"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/topology"
)

// errorDomain is the domain of every google.rpc.ErrorInfo that Atoll sends.
const errorDomain = "atoll"

// reason is what a client branches on.
type reason string

const (
	reasonInvalidKey         reason = "INVALID_KEY"
	reasonValueTooLarge      reason = "VALUE_TOO_LARGE"
	reasonBatchTooLarge      reason = "BATCH_TOO_LARGE"
	reasonInvalidArgument    reason = "INVALID_ARGUMENT"
	reasonUnimplemented      reason = "UNIMPLEMENTED"
	reasonWrongType          reason = "WRONG_TYPE"
	reasonAlreadyExists      reason = "ALREADY_EXISTS"
	reasonVersionMismatch    reason = "VERSION_MISMATCH"
	reasonValueMismatch      reason = "VALUE_MISMATCH"
	reasonNotPresent         reason = "NOT_PRESENT"
	reasonInsufficientRights reason = "INSUFFICIENT_RIGHTS"
	reasonNotOwner           reason = "NOT_OWNER"
	reasonNoLeader           reason = "NO_LEADER"
	reasonNoQuorum           reason = "NO_QUORUM"
	reasonStale              reason = "STALE"
	reasonSessionLost        reason = "SESSION_LOST"
	reasonShuttingDown       reason = "SHUTTING_DOWN"
	reasonOutcomeUnknown     reason = "OUTCOME_UNKNOWN"
	reasonDeadline           reason = "DEADLINE"
	reasonOverloaded         reason = "OVERLOADED"
	reasonQuotaExceeded      reason = "QUOTA_EXCEEDED"
	reasonDiskFull           reason = "DISK_FULL"
	reasonTooManyWatchers    reason = "TOO_MANY_WATCHERS"
	reasonClockUnsafe        reason = "CLOCK_UNSAFE"
	reasonFenced             reason = "FENCED"
	reasonRegionRefused      reason = "REGION_REFUSED"
	reasonNotHome            reason = "NOT_HOME"
	reasonNoLease            reason = "NO_LEASE"
	reasonCorrupt            reason = "CORRUPT"
	reasonInternal           reason = "INTERNAL"
)

// outcome is what became of a write that failed.
type outcome uint8

const (
	notDone outcome = iota
	unknown
)

// row is one line of the table of errors.
type row struct {
	reason  reason
	code    connect.Code
	outcome outcome
	// retry is how long to wait before a retry; 0 means that a retry cannot help.
	retry time.Duration
}

// table is the one table of errors: those of the contract that this version can answer.
var table = [...]row{
	{reasonInvalidKey, connect.CodeInvalidArgument, notDone, 0},
	{reasonValueTooLarge, connect.CodeInvalidArgument, notDone, 0},
	{reasonBatchTooLarge, connect.CodeInvalidArgument, notDone, 0},
	{reasonInvalidArgument, connect.CodeInvalidArgument, notDone, 0},
	{reasonUnimplemented, connect.CodeUnimplemented, notDone, 0},
	{reasonWrongType, connect.CodeFailedPrecondition, notDone, 0},
	{reasonAlreadyExists, connect.CodeAlreadyExists, notDone, 0},
	{reasonVersionMismatch, connect.CodeFailedPrecondition, notDone, 0},
	{reasonValueMismatch, connect.CodeFailedPrecondition, notDone, 0},
	{reasonNotPresent, connect.CodeFailedPrecondition, notDone, 0},
	{reasonInsufficientRights, connect.CodeFailedPrecondition, notDone, 0},
	{reasonNotOwner, connect.CodeFailedPrecondition, notDone, 50 * time.Millisecond},
	{reasonNoLeader, connect.CodeUnavailable, notDone, 200 * time.Millisecond},
	{reasonNoQuorum, connect.CodeUnavailable, notDone, 200 * time.Millisecond},
	{reasonStale, connect.CodeUnavailable, notDone, 200 * time.Millisecond},
	{reasonSessionLost, connect.CodeAborted, notDone, 0},
	{reasonShuttingDown, connect.CodeUnavailable, notDone, 200 * time.Millisecond},
	{reasonOutcomeUnknown, connect.CodeUnknown, unknown, 100 * time.Millisecond},
	{reasonDeadline, connect.CodeDeadlineExceeded, notDone, 100 * time.Millisecond},
	{reasonOverloaded, connect.CodeResourceExhausted, notDone, 100 * time.Millisecond},
	{reasonQuotaExceeded, connect.CodeResourceExhausted, notDone, 0},
	{reasonDiskFull, connect.CodeResourceExhausted, notDone, time.Second},
	{reasonTooManyWatchers, connect.CodeResourceExhausted, notDone, time.Second},
	{reasonNotHome, connect.CodeFailedPrecondition, notDone, 200 * time.Millisecond},
	{reasonNoLease, connect.CodeUnavailable, notDone, time.Second},
	{reasonFenced, connect.CodeFailedPrecondition, notDone, 0},
	{reasonClockUnsafe, connect.CodeFailedPrecondition, notDone, time.Second},
	{reasonRegionRefused, connect.CodeFailedPrecondition, notDone, 0},
	{reasonCorrupt, connect.CodeDataLoss, notDone, 0},
	{reasonInternal, connect.CodeInternal, unknown, 0},
}

func rowOf(r reason) row {
	for i := range table {
		if table[i].reason == r {
			return table[i]
		}
	}
	return row{reason: r, code: connect.CodeInternal, outcome: unknown}
}

// failure is an error on its way to a client. It is the only kind that this package answers with.
type failure struct {
	code     connect.Code
	reason   reason
	message  string // what went wrong and what to do next
	metadata map[string]string
	retry    time.Duration
	cause    error // for this process only; it is never sent

	// Of a call that was sent on:
	peer  topology.NodeID // the node that was asked; empty if this node failed by itself
	spent time.Duration   // how long that took
}

// fail makes a failure of the table. metadata alternates keys and values.
func fail(r reason, message string, metadata ...string) *failure {
	line := rowOf(r)
	f := &failure{code: line.code, reason: r, message: message, retry: line.retry, metadata: map[string]string{}}
	for i := 0; i+1 < len(metadata); i += 2 {
		f.metadata[metadata[i]] = metadata[i+1]
	}
	return f
}

func (f *failure) because(cause error) *failure {
	f.cause = cause
	return f
}

func (f *failure) with(key, value string) *failure {
	if f.metadata == nil {
		f.metadata = map[string]string{}
	}
	f.metadata[key] = value
	return f
}

// clone returns a copy that can be changed apart.
func (f *failure) clone() *failure {
	c := *f
	c.metadata = maps.Clone(f.metadata)
	return &c
}

// Error returns the message that the client sees.
func (f *failure) Error() string { return string(f.reason) + ": " + f.message }

// Unwrap returns what led to the failure.
func (f *failure) Unwrap() error { return f.cause }

// rpcError returns the failure as the answer to an RPC.
func (f *failure) rpcError() *connect.Error {
	e := connect.NewError(f.code, f.message).WithCause(f.cause)
	details := []proto.Message{
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: string(f.reason), Metadata: f.metadata},
	}
	if f.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.retry)})
	}
	for _, d := range details {
		if detail, err := connectproto.NewErrorDetail(d); err == nil {
			e = e.WithDetail(detail)
		}
	}
	return e
}

// item returns the failure as the error of one item of a batch, or of one partition.
func (f *failure) item() *atollv1.Error {
	e := &atollv1.Error{Code: f.code.String(), Reason: string(f.reason), Message: f.message, Metadata: f.metadata}
	if f.retry > 0 {
		e.RetryAfter = durationpb.New(f.retry)
	}
	return e
}

// failureOfItem is the reverse of item: the verdict of another node, to be authored anew.
func failureOfItem(e *atollv1.Error) *failure {
	f := &failure{reason: reason(e.GetReason()), message: e.GetMessage(), metadata: e.GetMetadata(), retry: e.GetRetryAfter().AsDuration()}
	if err := f.code.UnmarshalText([]byte(e.GetCode())); err != nil {
		f.code = connect.CodeInternal // of a newer version
	}
	return f
}

// failureOfPeer reads the verdict of another node, so that it can be authored anew: its code, reason,
// message and metadata are kept. It is nil if the error carries no verdict.
func failureOfPeer(e *connect.Error) *failure {
	f := &failure{code: e.Code(), message: e.Message(), cause: e}
	for _, d := range e.Details() {
		detail, err := connectproto.UnmarshalErrorDetail(d)
		if err != nil {
			continue // of a newer version
		}
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				f.reason, f.metadata = reason(detail.GetReason()), detail.GetMetadata()
			}
		case *errdetails.RetryInfo:
			f.retry = detail.GetRetryDelay().AsDuration()
		}
	}
	if f.reason == "" {
		return nil
	}
	return f
}
