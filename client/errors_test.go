package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// contract is the API's table of errors as a client sees it.
var contract = []struct {
	reason   Reason
	code     connect.Code
	sentinel error
}{
	{ReasonInvalidKey, connect.CodeInvalidArgument, ErrInvalidArgument},
	{ReasonValueTooLarge, connect.CodeInvalidArgument, ErrInvalidArgument},
	{ReasonBatchTooLarge, connect.CodeInvalidArgument, ErrInvalidArgument},
	{ReasonInvalidArgument, connect.CodeInvalidArgument, ErrInvalidArgument},
	{ReasonWrongType, connect.CodeFailedPrecondition, ErrWrongType},
	{ReasonAlreadyExists, connect.CodeAlreadyExists, ErrAlreadyExists},
	{ReasonVersionMismatch, connect.CodeFailedPrecondition, ErrVersionMismatch},
	{ReasonValueMismatch, connect.CodeFailedPrecondition, ErrValueMismatch},
	{ReasonNotPresent, connect.CodeFailedPrecondition, ErrNotPresent},
	{ReasonInsufficientRights, connect.CodeFailedPrecondition, ErrInsufficientRights},
	{ReasonNotOwner, connect.CodeFailedPrecondition, ErrUnavailable},
	{ReasonNotHome, connect.CodeFailedPrecondition, ErrUnavailable},
	{ReasonNoLease, connect.CodeUnavailable, ErrUnavailable},
	{ReasonStaleEpoch, connect.CodeFailedPrecondition, ErrUnavailable},
	{ReasonNoLeader, connect.CodeUnavailable, ErrUnavailable},
	{ReasonNoQuorum, connect.CodeUnavailable, ErrUnavailable},
	{ReasonFrozen, connect.CodeUnavailable, ErrUnavailable},
	{ReasonShuttingDown, connect.CodeUnavailable, ErrUnavailable},
	{ReasonOutcomeUnknown, connect.CodeUnknown, ErrOutcomeUnknown},
	{ReasonDeadline, connect.CodeDeadlineExceeded, ErrDeadline},
	{ReasonStale, connect.CodeUnavailable, ErrStale},
	{ReasonSessionLost, connect.CodeAborted, ErrSessionLost},
	{ReasonOverloaded, connect.CodeResourceExhausted, ErrOverloaded},
	{ReasonRateLimited, connect.CodeResourceExhausted, ErrOverloaded},
	{ReasonQuotaExceeded, connect.CodeResourceExhausted, ErrOverloaded},
	{ReasonDiskFull, connect.CodeResourceExhausted, ErrOverloaded},
	{ReasonTooManyWatchers, connect.CodeResourceExhausted, ErrOverloaded},
	{ReasonFenced, connect.CodeFailedPrecondition, ErrFenced},
	{ReasonClockUnsafe, connect.CodeFailedPrecondition, ErrFenced},
	{ReasonCorrupt, connect.CodeDataLoss, ErrCorrupt},
	{ReasonUnauthenticated, connect.CodeUnauthenticated, ErrUnauthenticated},
	{ReasonDenied, connect.CodePermissionDenied, ErrDenied},
	{ReasonUnimplemented, connect.CodeUnimplemented, ErrInvalidArgument},
	{ReasonInternal, connect.CodeInternal, ErrInternal},
}

var sentinels = []error{
	ErrNotFound, ErrInvalidArgument, ErrWrongType, ErrAlreadyExists, ErrVersionMismatch, ErrValueMismatch,
	ErrNotPresent, ErrInsufficientRights, ErrUnavailable, ErrOutcomeUnknown, ErrDeadline, ErrStale, ErrSessionLost,
	ErrOverloaded, ErrFenced, ErrCorrupt, ErrUnauthenticated, ErrDenied, ErrInternal,
}

func TestEveryReasonMapsToExactlyItsSentinel(t *testing.T) {
	ctx := testContext(t)
	var answer error
	f := &fakeServer{get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) { return nil, answer }}
	c := newClient(t, []string{serve(t, f)}, WithMaxAttempts(1))
	for _, row := range contract {
		answer = refusal(row.code, row.reason, 1500*time.Millisecond, "field", "key")
		_, err := c.Get(ctx, "k")
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%s: error is %T, want *Error", row.reason, err)
		}
		if e.Reason != row.reason || e.Code != row.code || e.Metadata["field"] != "key" || e.RetryAfter != 1500*time.Millisecond {
			t.Errorf("%s: got %+v", row.reason, e)
		}
		if want := "message of " + string(row.reason); e.Error() != want {
			t.Errorf("%s: message is %q, want %q", row.reason, e.Error(), want)
		}
		for _, s := range sentinels {
			if got, want := errors.Is(err, s), s == row.sentinel; got != want {
				t.Errorf("%s: errors.Is(err, %q) = %v", row.reason, s, got)
			}
		}
	}
}

func TestUnknownReasonFallsBackToItsCode(t *testing.T) {
	e := &Error{Code: connect.CodeResourceExhausted, Reason: "OF_A_NEWER_SERVER"}
	if !errors.Is(e, ErrOverloaded) {
		t.Error("does not match ErrOverloaded")
	}
	if e.Error() != "OF_A_NEWER_SERVER" {
		t.Errorf("message is %q", e.Error())
	}
}

func TestItemErrorKeepsEverything(t *testing.T) {
	if err := itemError(nil); err != nil {
		t.Fatalf("no error became %v", err)
	}
	err := itemError(&atollv1.Error{
		Code: "failed_precondition", Reason: "VERSION_MISMATCH", Message: "m", Metadata: map[string]string{"version": "v1"},
	})
	var e *Error
	if !errors.As(err, &e) || e.Code != connect.CodeFailedPrecondition || e.Metadata["version"] != "v1" {
		t.Errorf("got %+v", err)
	}
	if !errors.Is(err, ErrVersionMismatch) {
		t.Error("does not match ErrVersionMismatch")
	}
	if err := itemError(&atollv1.Error{Code: "nonsense"}); !errors.Is(err, ErrInternal) {
		t.Errorf("unreadable code became %v", err)
	}
}
