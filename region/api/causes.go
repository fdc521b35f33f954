package api

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/localqueue"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/session"
)

// cause says which failure an error of another package is.
type cause struct {
	matches func(error) bool
	failure func(error) *failure
}

// causes is searched in order: an error can match several.
var causes = [...]cause{
	{as[*region.StaleError], tooStale},
	{is(region.ErrOutcomeUnknown), always(reasonOutcomeUnknown, outcomeUnknownText)},
	{as[*region.NotLeaderError], notLeader},
	{is(region.ErrNotLeader), always(reasonNoLeader, "the partition has no leader now; try again")},
	{is(ErrNoAudits), always(reasonUnimplemented, "this node compares no states with other regions")},
	{is(region.ErrNotHosted), always(reasonNotOwner, "this node holds no replica of the partition; ask the node named in the metadata")},
	{is(region.ErrShuttingDown), always(reasonShuttingDown, "this node is shutting down; try another node")},
	{is(region.ErrOverloaded), always(reasonOverloaded, "the partition has too much work waiting; try again later")},
	{is(region.ErrOpIDReused), always(reasonInvalidArgument, "the op_id was already used for a different write; use a new one", "field", "options.op_id")},
	{is(region.ErrBadCommand), always(reasonBatchTooLarge, "the write is too large; split it", "limit", strconv.Itoa(maxBatchBytes))},
	{is(region.ErrNoQuorum), always(reasonNoQuorum, "no majority of the partition's replicas answers this node; try again, or another node")},
	{is(region.ErrNotMergeable), always(reasonInvalidArgument, "the operation's outcome depends on others, so one node cannot acknowledge it; use DURABILITY_QUORUM", "field", "options.durability")},
	{is(region.ErrDiskFull), always(reasonDiskFull, "the node's disk is nearly full; make room, and writes go on by themselves")},
	{is(region.ErrTooManyWatchers), always(reasonTooManyWatchers, "the node has as many watchers as it may; watch at another node, or watch fewer and wider prefixes")},
	{is(region.ErrFeedBehind), always(reasonOverloaded, "changes come faster than the watch reads them; go on from the last cursor")},
	{is(region.ErrBadCursor), always(reasonInvalidArgument, "the cursor is not one of this service; leave it out to begin from now", "field", "cursor")},
	{as[*region.FencedError], fencedBecause},
	{is(region.ErrFenced), always(reasonFenced, "this region writes no more: it drains, or the others have given it up; write in another region")},
	{as[*region.NotHomeError], notHome},
	{is(region.ErrNoLease), noLease},
	{as[*region.HomeLeasedError], always(reasonNotHome, "the former home may not know yet that it was given up, and decide still; try again in some seconds")},
	{as[*region.HomeTargetError], always(reasonRegionRefused, "the region that was to become the home takes no writes; choose one that is ACTIVE", "code", "WRONG_STATE")},
	{as[*region.HomeNotClosedError], always(reasonRegionRefused, "a home is taken over only once its region is CLOSED, by its heir (atoll region heir), or by the one region that is left: fence what is lost first (atoll region fence), or have it rejoin", "code", "WAITING")},
	{is(region.ErrTooManyHomes), always(reasonQuotaExceeded, "as many namespaces have a home as can have one", "limit", "256")},
	{is(region.ErrHomeUnsettled), always(reasonNotHome, "not every region has told yet that it knows of the home, so it cannot move; try again once all were heard of")},
	{is(region.ErrNotKept), always(reasonInvalidArgument, "the outbox begins after the event; ask for a later one", "field", "seq")},
	{as[*region.ClockAheadError], clockAhead},
	{is(region.ErrClockUnsafe), clockUnsafe},

	{is(session.ErrMalformed), always(reasonInvalidArgument, "options.session: the token is not one of this version; begin another session", "field", "options.session")},
	{is(session.ErrOtherDeployment), always(reasonInvalidArgument, "options.session: the token is of another deployment; begin another session", "field", "options.session")},
	{is(session.ErrForged), always(reasonInvalidArgument, "options.session: the token was not issued under this deployment's secret; begin another session", "field", "options.session")},
	{is(session.ErrFuture), always(reasonInvalidArgument, "options.session: the token is from the future; check the time synchronisation of all nodes", "field", "options.session")},

	{as[*replica.WrongTypeError], wrongType},
	{as[*replica.ConditionError], conditionFailed},
	{is(crdt.ErrCounterOverflow), always(reasonInvalidArgument, "the counter would leave the range of a signed 64-bit integer", "field", "op", "limit", "int64")},
	{as[*crdt.InsufficientRightsError], insufficientRights},
	{is(crdt.ErrAmount), always(reasonInvalidArgument, "an amount must be more than 0", "field", "op")},
	{is(crdt.ErrScoreNotANumber), always(reasonInvalidArgument, "a score must be a number", "field", "op")},
	{is(crdt.ErrBadPath), always(reasonInvalidArgument, "a path has 1 to 4 names of 1 to 255 bytes", "field", "op")},
	{is(replica.ErrTooManyElements), always(reasonQuotaExceeded, "the value would have too many elements; split it over several keys", "limit", strconv.Itoa(replica.MaxSetElements))},
	{is(replica.ErrUndeletable), always(reasonInvalidArgument, "a bounded counter cannot be deleted, nor expire: other regions may be using their rights to it", "field", "type")},
	{is(replica.ErrTrimInFuture), always(reasonInvalidArgument, "a trim must not be to an instant in the future", "field", "op.timeline_trim.before")},
	{is(replica.ErrNotInMap), always(reasonInvalidArgument, "a leaf of a map is no bounded counter and no map, and does not expire", "field", "op")},
	{is(replica.ErrScoreRange), always(reasonInvalidArgument, "the score would not be a whole number of at most 2^53", "field", "op", "limit", "2^53")},
	{is(replica.ErrChangeTooLarge), always(reasonBatchTooLarge, "the operation would change too much at once; remove some of the members, or of the leaves of a map, first, a part at a time", "limit", strconv.Itoa(replica.MaxOperationElements))},
	{is(replica.ErrNoHome), always(reasonInvalidArgument, "only registers can be written in a namespace that has a home", "field", "op")},
	{is(replica.ErrInvalidOperation), always(reasonInvalidArgument, "the operation is not one that its type or its limits allow", "field", "op")},

	{is(localqueue.ErrQueueFull), always(reasonOverloaded, "too many local writes wait for the partition's leader; try again later")},
	{is(localqueue.ErrTooLarge), always(reasonBatchTooLarge, "the local write is too large; split it", "limit", strconv.Itoa(localqueue.MaxWriteBytes))},

	{as[*store.CorruptError], always(reasonCorrupt, "stored data is damaged; restore this node's replica from another")},
	{is(crdt.ErrCorrupt), always(reasonCorrupt, "stored data is damaged; restore this node's replica from another")},
	{is(store.ErrFailed), always(reasonShuttingDown, "this node's storage failed and it is stopping; try another node")},
	{is(store.ErrClosed), always(reasonShuttingDown, "this node is shutting down; try another node")},

	{is(context.DeadlineExceeded), always(reasonDeadline, "the deadline passed before the request was executed; nothing was done")},
	{is(context.Canceled), always(reasonDeadline, "the request was cancelled before it was executed; nothing was done")},

	// Faults of this program if they get here: a client's request cannot lead to them.
	{is(region.ErrClosing), internalFault},
	{as[*region.ClosedError], internalFault},
	{as[*replica.OpError], internalFault},
	{as[*replica.GapError], internalFault},
	{as[*replica.BadDeltaError], internalFault},
	{anyOf(
		region.ErrTooManyExports, region.ErrNoExport, replica.ErrResyncing, replica.ErrNoResync,
		replica.ErrResyncNotNeeded, replica.ErrTooManyResyncs, replica.ErrLostEvents, replica.ErrRangeDiffers,
	), internalFault},
	{is(store.ErrLocked), internalFault},
	{is(store.ErrTooLarge), internalFault},
}

const outcomeUnknownText = "the write may or may not have taken effect; to find out, repeat it with the same op_id"

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func anyOf(targets ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
	}
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func always(r reason, message string, metadata ...string) func(error) *failure {
	return func(error) *failure { return fail(r, message, metadata...) }
}

func fencedBecause(err error) *failure {
	fenced, _ := errors.AsType[*region.FencedError](err)
	return fail(reasonFenced, fenced.Why)
}

func noLease(err error) *failure {
	why := region.ErrNoLease.Error()
	if lacking, ok := errors.AsType[*region.NoLeaseError](err); ok {
		why = lacking.Why
	}
	return fail(reasonNoLease, why)
}

// failureOf returns the failure that err is.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	for i := range causes {
		if causes[i].matches(err) {
			return causes[i].failure(err).because(err)
		}
	}
	if e, ok := errors.AsType[*connect.Error](err); ok {
		return failureOfTransport(e)
	}
	return internalFault(err).because(err)
}

// refusals are errors of a proposed write that mean that nothing was done.
var refusals = [...]error{
	region.ErrNotLeader, region.ErrNotHosted, region.ErrShuttingDown, region.ErrOverloaded, region.ErrOpIDReused,
	region.ErrBadCommand, region.ErrNotMergeable, region.ErrDiskFull, region.ErrClockUnsafe, region.ErrFenced, region.ErrNoLease, region.ErrHomeUnsettled, region.ErrTooManyHomes, localqueue.ErrQueueFull, localqueue.ErrTooLarge,
}

// failureOfWrite returns the failure that an error of a proposed write is. What is not known to mean
// that nothing was done may have been done.
func failureOfWrite(ctx context.Context, err error) *failure {
	ended := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	refused := as[*replica.OpError](err) || as[*region.NotHomeError](err) || as[*region.HomeTargetError](err) || as[*region.HomeNotClosedError](err) || as[*region.HomeLeasedError](err) || as[*failure](err) || ended && ctx.Err() != nil
	for _, r := range refusals {
		refused = refused || errors.Is(err, r)
	}
	if errors.Is(err, region.ErrOutcomeUnknown) || !refused {
		return fail(reasonOutcomeUnknown, outcomeUnknownText).because(err)
	}
	return failureOf(err)
}

// failureOfTransport sorts what the RPC layer itself refuses: a message that is too large or cannot
// be read.
func failureOfTransport(e *connect.Error) *failure {
	switch e.Code() {
	case connect.CodeResourceExhausted:
		return fail(reasonBatchTooLarge, "the request is too large: "+e.Message(), "limit", strconv.Itoa(readMaxBytes)).because(e)
	case connect.CodeInvalidArgument:
		return fail(reasonInvalidArgument, "the request cannot be read: "+e.Message()).because(e)
	case connect.CodeUnimplemented:
		return fail(reasonUnimplemented, e.Message()).because(e)
	case connect.CodeCanceled, connect.CodeDeadlineExceeded:
		return fail(reasonDeadline, "the connection or the deadline ended before the request was executed").because(e)
	default:
		return internalFault(e).because(e)
	}
}

func internalFault(error) *failure {
	return fail(reasonInternal, "a fault in this node; its log says more")
}

func notLeader(err error) *failure {
	e, _ := errors.AsType[*region.NotLeaderError](err)
	if e.Leader == "" {
		return fail(reasonNoLeader, "the partition has no leader now; try again")
	}
	return fail(reasonNotOwner, "another node leads the partition; ask it", "node", string(e.Leader))
}

func clockAhead(err error) *failure {
	e, _ := errors.AsType[*region.ClockAheadError](err)
	return fail(reasonClockUnsafe, "a clock is too far ahead of this node's; check the time synchronisation of all nodes",
		"drift_ms", strconv.FormatInt(e.Ahead.Milliseconds(), 10))
}

func clockUnsafe(err error) *failure {
	f := fail(reasonClockUnsafe, "this node's clock is wrong, so it takes no writes; try again or in another region, and check the node's time synchronisation")
	if e, ok := errors.AsType[*region.ClockUnsafeError](err); ok {
		f = f.with("drift_ms", strconv.FormatInt(e.Drift.Milliseconds(), 10))
	}
	return f
}

func tooStale(err error) *failure {
	e, _ := errors.AsType[*region.StaleError](err)
	lag := "unknown"
	if e.Known {
		lag = strconv.FormatInt(e.Age.Milliseconds(), 10)
	}
	return fail(reasonStale, "the replica may be further behind than max_staleness; try again, or another node", "lag_ms", lag)
}

func wrongType(err error) *failure {
	e, _ := errors.AsType[*replica.WrongTypeError](err)
	return wrongTypeFound(e.Found)
}

func wrongTypeFound(found crdt.Type) *failure {
	return fail(reasonWrongType, "the key holds a "+found.String()+"; delete it first, or use another key", "type_found", found.String())
}

func insufficientRights(err error) *failure {
	e, _ := errors.AsType[*crdt.InsufficientRightsError](err)
	return fail(reasonInsufficientRights, "this region does not hold the rights to take so much; have another region transfer some, or ask it",
		"have", strconv.FormatInt(e.Have, 10))
}

func conditionFailed(err error) *failure {
	e, _ := errors.AsType[*replica.ConditionError](err)
	switch e.Kind {
	case replica.CondAbsent:
		return fail(reasonAlreadyExists, "the key exists; nothing was changed", "version", e.Version)
	case replica.CondPresent:
		return fail(reasonNotPresent, "the key does not exist; nothing was changed", "version", e.Version)
	case replica.CondValue:
		return fail(reasonValueMismatch, "the key holds another value; read it again", "version", e.Version)
	default:
		return fail(reasonVersionMismatch, "the key has another version; read it again", "version", e.Version)
	}
}

func asOpError(err error) (*replica.OpError, bool) { return errors.AsType[*replica.OpError](err) }
