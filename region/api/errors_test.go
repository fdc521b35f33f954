package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/localqueue"
	"github.com/atolldb/atoll/region/store"
	"github.com/atolldb/atoll/session"
)

// samples has every error that the packages below can return, with the reason that a client must see
// and the sentinel of the SDK that it must match.
var samples = map[string]struct {
	err      error
	reason   reason
	sentinel error
}{
	"region.ErrNotLeader":       {region.ErrNotLeader, reasonNoLeader, client.ErrUnavailable},
	"region.ErrOutcomeUnknown":  {fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, context.DeadlineExceeded), reasonOutcomeUnknown, client.ErrOutcomeUnknown},
	"region.ErrShuttingDown":    {region.ErrShuttingDown, reasonShuttingDown, client.ErrUnavailable},
	"region.ErrOverloaded":      {region.ErrOverloaded, reasonOverloaded, client.ErrOverloaded},
	"region.ErrOpIDReused":      {region.ErrOpIDReused, reasonInvalidArgument, client.ErrInvalidArgument},
	"region.ErrFenced":          {region.ErrFenced, reasonFenced, client.ErrFenced},
	"region.FencedError":        {&region.FencedError{Why: "w"}, reasonFenced, client.ErrFenced},
	"region.ErrClosing":         {region.ErrClosing, reasonInternal, client.ErrInternal},
	"region.ClosedError":        {&region.ClosedError{}, reasonInternal, client.ErrInternal},
	"region.ErrClockUnsafe":     {region.ErrClockUnsafe, reasonClockUnsafe, client.ErrFenced},
	"region.ClockUnsafeError":   {&region.ClockUnsafeError{Drift: time.Hour}, reasonClockUnsafe, client.ErrFenced},
	"region.ClockAheadError":    {&region.ClockAheadError{Ahead: time.Minute}, reasonClockUnsafe, client.ErrFenced},
	"region.NotHomeError":       {&region.NotHomeError{Namespace: "locks", Home: 2, Epoch: 7}, reasonNotHome, client.ErrUnavailable},
	"region.ErrHomeUnsettled":   {region.ErrHomeUnsettled, reasonNotHome, client.ErrUnavailable},
	"region.HomeTargetError":    {&region.HomeTargetError{Region: 2}, reasonRegionRefused, client.ErrRegionRefused},
	"region.HomeNotClosedError": {&region.HomeNotClosedError{Home: 2}, reasonRegionRefused, client.ErrRegionRefused},
	"region.ErrNoLease":         {region.ErrNoLease, reasonNoLease, client.ErrUnavailable},
	"region.NoLeaseError":       {&region.NoLeaseError{Why: "w"}, reasonNoLease, client.ErrUnavailable},
	"region.HomeLeasedError":    {&region.HomeLeasedError{Home: 2, Left: time.Second}, reasonNotHome, client.ErrUnavailable},
	"region.ErrTooManyHomes":    {region.ErrTooManyHomes, reasonQuotaExceeded, client.ErrOverloaded},
	"replica.ErrNoHome":         {opError(replica.ErrNoHome), reasonInvalidArgument, client.ErrInvalidArgument},
	"region.ErrNoQuorum":        {region.ErrNoQuorum, reasonNoQuorum, client.ErrUnavailable},
	"region.StaleError":         {&region.StaleError{Age: time.Second, Known: true, Err: region.ErrNotLeader}, reasonStale, client.ErrStale},
	"region.ErrNotMergeable":    {region.ErrNotMergeable, reasonInvalidArgument, client.ErrInvalidArgument},
	"region.ErrDiskFull":        {region.ErrDiskFull, reasonDiskFull, client.ErrOverloaded},
	"region.ErrTooManyWatchers": {region.ErrTooManyWatchers, reasonTooManyWatchers, client.ErrOverloaded},
	"region.ErrFeedBehind":      {region.ErrFeedBehind, reasonOverloaded, client.ErrOverloaded},
	"region.ErrBadCursor":       {region.ErrBadCursor, reasonInvalidArgument, client.ErrInvalidArgument},
	"region.ErrNotKept":         {region.ErrNotKept, reasonInvalidArgument, client.ErrInvalidArgument},
	"region.ErrBadCommand":      {region.ErrBadCommand, reasonBatchTooLarge, client.ErrInvalidArgument},
	"region.ErrNotHosted":       {region.ErrNotHosted, reasonNotOwner, client.ErrUnavailable},
	"region.NotLeaderError":     {&region.NotLeaderError{Leader: "eu-1"}, reasonNotOwner, client.ErrUnavailable},

	"session.ErrMalformed":       {session.ErrMalformed, reasonInvalidArgument, client.ErrInvalidArgument},
	"session.ErrOtherDeployment": {session.ErrOtherDeployment, reasonInvalidArgument, client.ErrInvalidArgument},
	"session.ErrForged":          {session.ErrForged, reasonInvalidArgument, client.ErrInvalidArgument},
	"session.ErrFuture":          {fmt.Errorf("open: %w", session.ErrFuture), reasonInvalidArgument, client.ErrInvalidArgument},

	"replica.ErrTrimInFuture":     {opError(replica.ErrTrimInFuture), reasonInvalidArgument, client.ErrInvalidArgument},
	"replica.ErrTooManyElements":  {opError(replica.ErrTooManyElements), reasonQuotaExceeded, client.ErrOverloaded},
	"replica.ErrScoreRange":       {opError(replica.ErrScoreRange), reasonInvalidArgument, client.ErrInvalidArgument},
	"replica.ErrNotInMap":         {opError(replica.ErrNotInMap), reasonInvalidArgument, client.ErrInvalidArgument},
	"replica.ErrChangeTooLarge":   {opError(replica.ErrChangeTooLarge), reasonBatchTooLarge, client.ErrInvalidArgument},
	"replica.ErrInvalidOperation": {opError(replica.ErrInvalidOperation), reasonInvalidArgument, client.ErrInvalidArgument},
	"replica.ErrUndeletable":      {opError(replica.ErrUndeletable), reasonInvalidArgument, client.ErrInvalidArgument},
	"replica.OpError":             {opError(errors.New("some other fault")), reasonInternal, client.ErrInternal},
	"replica.WrongTypeError":      {opError(&replica.WrongTypeError{Found: crdt.TypeCounter}), reasonWrongType, client.ErrWrongType},
	"replica.ConditionError":      {opError(&replica.ConditionError{Kind: replica.CondVersion, Version: "v"}), reasonVersionMismatch, client.ErrVersionMismatch},
	"replica.GapError":            {&replica.GapError{}, reasonInternal, client.ErrInternal},
	"replica.BadDeltaError":       {&replica.BadDeltaError{}, reasonInternal, client.ErrInternal},

	"ErrNoAudits":                {ErrNoAudits, reasonUnimplemented, client.ErrInvalidArgument},
	"region.ErrTooManyExports":   {region.ErrTooManyExports, reasonInternal, client.ErrInternal},
	"region.ErrNoExport":         {region.ErrNoExport, reasonInternal, client.ErrInternal},
	"replica.ErrResyncing":       {replica.ErrResyncing, reasonInternal, client.ErrInternal},
	"replica.ErrNoResync":        {replica.ErrNoResync, reasonInternal, client.ErrInternal},
	"replica.ErrResyncNotNeeded": {replica.ErrResyncNotNeeded, reasonInternal, client.ErrInternal},
	"replica.ErrTooManyResyncs":  {replica.ErrTooManyResyncs, reasonInternal, client.ErrInternal},
	"replica.ErrLostEvents":      {replica.ErrLostEvents, reasonInternal, client.ErrInternal},
	"replica.ErrRangeDiffers":    {replica.ErrRangeDiffers, reasonInternal, client.ErrInternal},

	"crdt.ErrCounterOverflow":      {opError(fmt.Errorf("add: %w", crdt.ErrCounterOverflow)), reasonInvalidArgument, client.ErrInvalidArgument},
	"crdt.ErrAmount":               {opError(crdt.ErrAmount), reasonInvalidArgument, client.ErrInvalidArgument},
	"crdt.ErrScoreNotANumber":      {opError(crdt.ErrScoreNotANumber), reasonInvalidArgument, client.ErrInvalidArgument},
	"crdt.ErrBadPath":              {opError(crdt.ErrBadPath), reasonInvalidArgument, client.ErrInvalidArgument},
	"crdt.InsufficientRightsError": {opError(&crdt.InsufficientRightsError{Have: 3}), reasonInsufficientRights, client.ErrInsufficientRights},
	"crdt.ErrCorrupt":              {fmt.Errorf("read: %w", crdt.ErrCorrupt), reasonCorrupt, client.ErrCorrupt},

	"crdt.DecodeError":         {&crdt.DecodeError{What: "delta"}, reasonCorrupt, client.ErrCorrupt},
	"crdt.UnknownVersionError": {&crdt.UnknownVersionError{What: "delta"}, reasonCorrupt, client.ErrCorrupt},

	"store.CorruptError": {fmt.Errorf("read: %w", &store.CorruptError{}), reasonCorrupt, client.ErrCorrupt},
	"store.ErrFailed":    {store.ErrFailed, reasonShuttingDown, client.ErrUnavailable},
	"store.ErrClosed":    {store.ErrClosed, reasonShuttingDown, client.ErrUnavailable},
	"store.ErrLocked":    {store.ErrLocked, reasonInternal, client.ErrInternal},
	"store.ErrTooLarge":  {store.ErrTooLarge, reasonInternal, client.ErrInternal},

	"localqueue.ErrQueueFull": {fmt.Errorf("append: %w", localqueue.ErrQueueFull), reasonOverloaded, client.ErrOverloaded},
	"localqueue.ErrTooLarge":  {localqueue.ErrTooLarge, reasonBatchTooLarge, client.ErrInvalidArgument},

	"deadline":       {context.DeadlineExceeded, reasonDeadline, client.ErrDeadline},
	"cancellation":   {context.Canceled, reasonDeadline, client.ErrDeadline},
	"anything else":  {errors.New("surprise"), reasonInternal, client.ErrInternal},
	"if_absent":      {opError(&replica.ConditionError{Kind: replica.CondAbsent}), reasonAlreadyExists, client.ErrAlreadyExists},
	"if_present":     {opError(&replica.ConditionError{Kind: replica.CondPresent}), reasonNotPresent, client.ErrNotPresent},
	"if_value":       {opError(&replica.ConditionError{Kind: replica.CondValue}), reasonValueMismatch, client.ErrValueMismatch},
	"no leader":      {&region.NotLeaderError{}, reasonNoLeader, client.ErrUnavailable},
	"request limits": {connect.NewError(connect.CodeResourceExhausted, "too large"), reasonBatchTooLarge, client.ErrInvalidArgument},
}

func opError(err error) error { return &replica.OpError{Index: 0, Err: err} }

func TestEveryErrorOfThePackagesBelowHasASample(t *testing.T) {
	for name, dir := range map[string]string{"region": "..", "replica": "../../crdt/replica", "crdt": "../../crdt", "store": "../store", "session": "../../session", "localqueue": "../localqueue"} {
		for _, found := range exportedErrors(t, dir) {
			if _, ok := samples[name+"."+found]; !ok {
				t.Errorf("%s.%s is not in the test's table: add it there and in causes.go", name, found)
			}
		}
	}
}

// exportedErrors returns the names of a package's exported error variables and types.
func exportedErrors(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	var names []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range syntax.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				names = append(names, errorNames(g)...)
			}
		}
	}
	return names
}

func errorNames(g *ast.GenDecl) []string {
	var names []string
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			for _, n := range spec.Names {
				if g.Tok == token.VAR && strings.HasPrefix(n.Name, "Err") {
					names = append(names, n.Name)
				}
			}
		case *ast.TypeSpec:
			if spec.Name.IsExported() && strings.HasSuffix(spec.Name.Name, "Error") {
				names = append(names, spec.Name.Name)
			}
		}
	}
	return names
}

func TestEveryErrorReachesTheClientAsItsReason(t *testing.T) {
	r := setup(t, 1, 1, 0)
	sdk, err := client.New([]string{r.url("eu-0")}, client.WithMaxAttempts(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sdk.Close() }()
	for name, sample := range samples {
		r.groups[0].readsFail(func() error { return sample.err })
		// Failures that another try may cure are tried again; the deadline ends that.
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		_, err := sdk.Get(ctx, "k")
		cancel()
		var e *client.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: error is %T: %v", name, err, err)
			continue
		}
		want := rowOf(sample.reason)
		ended := e.Reason == client.ReasonDeadline && (want.reason == reasonNoLeader || want.reason == reasonNotOwner)
		if !ended && (e.Reason != client.Reason(want.reason) || e.Code != want.code || !errors.Is(err, sample.sentinel)) {
			t.Errorf("%s: reached the client as %s, %s: %v", name, e.Code, e.Reason, e)
		}
		if !ended && e.RetryAfter != want.retry {
			t.Errorf("%s: retry after %v, want %v", name, e.RetryAfter, want.retry)
		}
		if strings.Contains(e.Message, "surprise") {
			t.Errorf("%s: text of this process reached the client: %q", name, e.Message)
		}
	}
}

func TestEveryReasonOfTheTableMapsBackInTheClient(t *testing.T) {
	for _, line := range table {
		f := failureOfPeer(fail(line.reason, "m", "field", "f").rpcError())
		if f == nil || f.reason != line.reason || f.code != line.code || f.retry != line.retry || f.metadata["field"] != "f" {
			t.Errorf("%s: comes back as %+v", line.reason, f)
		}
		item := f.item()
		if item.GetReason() != string(line.reason) || item.GetCode() != line.code.String() || item.GetMetadata()["field"] != "f" {
			t.Errorf("%s: item is %v", line.reason, item)
		}
		if (item.GetRetryAfter() != nil) != (line.retry > 0) {
			t.Errorf("%s: item's retry is %v", line.reason, item.GetRetryAfter())
		}
		e := &client.Error{Code: line.code, Reason: client.Reason(line.reason)}
		unknownToClient := errors.Is(e, client.ErrOutcomeUnknown) || errors.Is(e, client.ErrInternal)
		if unknownToClient != (line.outcome == unknown) {
			t.Errorf("%s: the SDK and the table differ on whether the outcome is known", line.reason)
		}
	}
}

func TestWriteErrorsNeverHideAnUnknownOutcome(t *testing.T) {
	live := t.Context()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want reason
	}{
		"not leader":                       {live, &region.NotLeaderError{Leader: "x"}, reasonNotOwner},
		"refused":                          {live, opError(&replica.ConditionError{Kind: replica.CondAbsent}), reasonAlreadyExists},
		"a condition on a local write":     {live, region.ErrNotMergeable, reasonInvalidArgument},
		"a full disk":                      {live, region.ErrDiskFull, reasonDiskFull},
		"a full queue":                     {live, localqueue.ErrQueueFull, reasonOverloaded},
		"too large a local write":          {live, localqueue.ErrTooLarge, reasonBatchTooLarge},
		"overloaded":                       {live, region.ErrOverloaded, reasonOverloaded},
		"ended before it was proposed":     {ended, context.Canceled, reasonDeadline},
		"ended after it was proposed":      {ended, fmt.Errorf("%w: %w", region.ErrOutcomeUnknown, context.Canceled), reasonOutcomeUnknown},
		"cancelled, but not by the caller": {live, context.Canceled, reasonOutcomeUnknown},
		"storage":                          {live, store.ErrFailed, reasonOutcomeUnknown},
		"anything else":                    {live, errors.New("surprise"), reasonOutcomeUnknown},
	} {
		if f := failureOfWrite(tc.ctx, tc.err); f.reason != tc.want {
			t.Errorf("%s: %s, want %s", name, f.reason, tc.want)
		}
	}
}

func TestPanicCostsItsOwnRequestOnly(t *testing.T) {
	r := setup(t, 1, 2, 0)
	for _, g := range r.groups {
		g.readsFail(func() error { panic("boom") })
	}
	kv := r.kv("eu-0")
	ctx := testContext(t)
	_, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k"})
	wantReason(t, err, reasonInternal)
	stream, err := kv.Scan(ctx, &atollv1.ScanRequest{})
	if err == nil {
		_, err = stream.Receive()
		_ = stream.Close()
	}
	wantReason(t, err, reasonInternal)
	for _, g := range r.groups {
		g.readsFail(nil)
	}
	if _, err := kv.Get(ctx, &atollv1.GetRequest{Key: "k"}); err != nil {
		t.Errorf("the next request fails: %v", err)
	}
}
