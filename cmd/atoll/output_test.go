package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/config"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// codeOf has the Connect code that the API gives each reason.
var codeOf = map[client.Reason]connect.Code{
	client.ReasonInvalidKey: connect.CodeInvalidArgument, client.ReasonValueTooLarge: connect.CodeInvalidArgument,
	client.ReasonWrongType: connect.CodeFailedPrecondition, client.ReasonAlreadyExists: connect.CodeAlreadyExists,
	client.ReasonVersionMismatch: connect.CodeFailedPrecondition, client.ReasonValueMismatch: connect.CodeFailedPrecondition,
	client.ReasonNotPresent: connect.CodeFailedPrecondition, client.ReasonFenced: connect.CodeFailedPrecondition,
	client.ReasonNoLease: connect.CodeUnavailable, client.ReasonNoLeader: connect.CodeUnavailable, client.ReasonUnreachable: connect.CodeUnavailable,
	client.ReasonShuttingDown: connect.CodeUnavailable, client.ReasonStale: connect.CodeUnavailable,
	client.ReasonOutcomeUnknown: connect.CodeUnknown, client.ReasonDeadline: connect.CodeDeadlineExceeded,
	client.ReasonOverloaded: connect.CodeResourceExhausted, client.ReasonCorrupt: connect.CodeDataLoss,
	client.ReasonUnauthenticated: connect.CodeUnauthenticated, client.ReasonDenied: connect.CodePermissionDenied,
	client.ReasonInternal: connect.CodeInternal, client.ReasonNotFound: connect.CodeNotFound,
}

func TestExitCodes(t *testing.T) {
	want := map[client.Reason]int{
		client.ReasonInvalidKey: exitUsage, client.ReasonValueTooLarge: exitUsage,
		client.ReasonNotFound:  exitNotFound,
		client.ReasonWrongType: exitConflict, client.ReasonAlreadyExists: exitConflict, client.ReasonVersionMismatch: exitConflict,
		client.ReasonValueMismatch: exitConflict, client.ReasonNotPresent: exitConflict, client.ReasonFenced: exitConflict,
		client.ReasonNoLease: exitUnavailable, client.ReasonNoLeader: exitUnavailable, client.ReasonUnreachable: exitUnavailable, client.ReasonShuttingDown: exitUnavailable,
		client.ReasonStale: exitUnavailable, client.ReasonOutcomeUnknown: exitUnavailable, client.ReasonDeadline: exitUnavailable,
		client.ReasonOverloaded:      exitUnavailable,
		client.ReasonUnauthenticated: exitDenied, client.ReasonDenied: exitDenied,
		client.ReasonCorrupt: exitError, client.ReasonInternal: exitError,
	}
	for reason, code := range codeOf {
		err := fmt.Errorf("wrapped: %w", &client.Error{Code: code, Reason: reason})
		if got := exitCode(err); got != want[reason] {
			t.Errorf("%s exits with %d, want %d", reason, got, want[reason])
		}
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{usagef("x"), exitUsage}, {withHint(usagef("x"), "y"), exitUsage}, {&config.InvalidError{Faults: errors.New("x")}, exitUsage},
		{&codeError{errors.New("x"), exitConflict}, exitConflict}, {context.Canceled, exitError},
		{context.DeadlineExceeded, exitUnavailable}, {errors.New("x"), exitError}, {fs.ErrNotExist, exitError},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v exits with %d, want %d", c.err, got, c.want)
		}
	}
}

func TestEveryFailureOfAnOperatorHasAHint(t *testing.T) {
	for reason, code := range codeOf {
		switch reason {
		case client.ReasonInvalidKey, client.ReasonValueTooLarge, client.ReasonCorrupt, client.ReasonInternal, client.ReasonFenced:
			continue // the server's message says what to do
		}
		if hintOf(&client.Error{Code: code, Reason: reason}) == "" && reason != client.ReasonStale {
			t.Errorf("%s has no hint", reason)
		}
	}
	if got := hintOf(fmt.Errorf("dial: %w", syscall.ECONNREFUSED)); !strings.Contains(got, "atoll demo") {
		t.Errorf("refused connection: %q", got)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 東京": "plain é 東京", "a\nb\tc": `a\nb\tc`, "\x1b[31mred": `\u001b[31mred`, "\xff\x00": `\xff\u0000`,
		"\u202eabc": `\u202eabc`, "": "", "1234567890": "1234567890", "12345678901": "1234567890…",
	} {
		if got := printable([]byte(in), 10); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	if got := printable([]byte("12345678901"), -1); got != "12345678901" {
		t.Errorf("without a limit: %q", got)
	}
}

// A figure that one partition does not know is not known for the flow.
func TestFlowsAddUpOnlyWhatIsKnown(t *testing.T) {
	n := uint64(5)
	known := &atollv1.Flow{Source: "eu", Destination: "us", LastHeard: durationpb.New(1e9), Lag: &atollv1.Lag{Time: durationpb.New(2e9), Operations: &n, Bytes: &n}}
	partly := &atollv1.Flow{Source: "eu", Destination: "us", Partition: 1, LastHeard: durationpb.New(3e9), Lag: &atollv1.Lag{Time: durationpb.New(1e9), Operations: &n}}
	unknown := &atollv1.Flow{Source: "eu", Destination: "us", Partition: 2, Lag: &atollv1.Lag{Unknown: true}}
	silent := &atollv1.Flow{Source: "ap", Destination: "us"}

	flows := summarizeFlows([]*atollv1.Flow{known, partly, silent})
	if len(flows) != 2 || flows[0].Source != "ap" || flows[1].Source != "eu" {
		t.Fatalf("got %+v", flows)
	}
	if f := flows[1]; f.Unknown || *f.LagMS != 2000 || *f.Operations != 10 || f.Bytes != nil || *f.HeardMS != 3000 {
		t.Errorf("got %+v", f)
	}
	if f := flows[0]; f.LagMS != nil || f.Operations != nil || f.HeardMS != nil {
		t.Errorf("a silent flow: %+v", f)
	}
	if f := summarizeFlows([]*atollv1.Flow{known, unknown})[0]; !f.Unknown || f.LagMS != nil || f.Operations != nil {
		t.Errorf("an unknown flow: %+v", f)
	}
}

func TestStuckFlowIsNoted(t *testing.T) {
	known := &atollv1.Flow{Source: "eu", Destination: "us"}
	stuck := &atollv1.Flow{Source: "eu", Destination: "us", Partition: 3, Lag: &atollv1.Lag{Unknown: true}, Stuck: "lost"}
	s := &summary{Flows: summarizeFlows([]*atollv1.Flow{known, stuck})}
	if note := s.flowsTable().note; note != "eu to us needs help: partition 3: lost\n" {
		t.Errorf("a stuck flow is noted as %q", note)
	}
}

func TestCompareDigests(t *testing.T) {
	reply := func(digests ...string) answer[*atollv1.DigestResponse] {
		r := &atollv1.DigestResponse{}
		for i, d := range digests {
			p := &atollv1.PartitionDigest{Partition: uint32(i), Digest: []byte(d)}
			if d == "" {
				p.Error = &atollv1.Error{Message: "no leader"}
			}
			r.Partitions = append(r.Partitions, p)
		}
		return answer[*atollv1.DigestResponse]{region: fmt.Sprint("r", len(digests)), value: r}
	}
	named := func(name string, a answer[*atollv1.DigestResponse]) answer[*atollv1.DigestResponse] {
		a.region = name
		return a
	}
	down := answer[*atollv1.DigestResponse]{region: "z", err: errors.New("down")}
	for _, c := range []struct {
		name    string
		answers []answer[*atollv1.DigestResponse]
		want    int
	}{
		{"equal", []answer[*atollv1.DigestResponse]{named("a", reply("x", "y")), named("b", reply("x", "y"))}, exitOK},
		{"one differs", []answer[*atollv1.DigestResponse]{named("a", reply("x", "y")), named("b", reply("x", "z"))}, exitConflict},
		{"one lacks a partition", []answer[*atollv1.DigestResponse]{named("a", reply("x", "y")), named("b", reply("x"))}, exitConflict},
		{"one partition not asked", []answer[*atollv1.DigestResponse]{named("a", reply("x", "y")), named("b", reply("x", ""))}, exitUnavailable},
		{"one region down", []answer[*atollv1.DigestResponse]{named("a", reply("x")), down}, exitUnavailable},
		{"no partitions", []answer[*atollv1.DigestResponse]{named("a", reply())}, exitConflict},
	} {
		d := compare(c.answers)
		got := exitOK
		if err := d.verdict(); err != nil {
			got = exitCode(err)
		}
		if got != c.want || d.Equal != (c.want == exitOK) {
			t.Errorf("%s: exit code %d, equal %v", c.name, got, d.Equal)
		}
	}
}

// Versions and the order of parts differ between regions that agree; who made a value does not.
func TestAgreement(t *testing.T) {
	counter := func(version string, parts ...*atollv1.ExplainCounterPart) answer[*atollv1.ExplainResponse] {
		return answer[*atollv1.ExplainResponse]{value: &atollv1.ExplainResponse{Objects: []*atollv1.ExplainedObject{{
			Type: atollv1.Type_TYPE_COUNTER, Version: version,
			Detail: &atollv1.ExplainedObject_Counter{Counter: &atollv1.ExplainCounter{Value: 3, Parts: parts}},
		}}}}
	}
	eu := &atollv1.ExplainCounterPart{Last: &atollv1.Event{Region: "eu", Seq: 4}, Sum: 1, Effective: 1}
	us := &atollv1.ExplainCounterPart{Last: &atollv1.Event{Region: "us", Seq: 9}, Sum: 2, Effective: 2}
	usLater := &atollv1.ExplainCounterPart{Last: &atollv1.Event{Region: "us", Seq: 10}, Sum: 2, Effective: 2}
	type answers = []answer[*atollv1.ExplainResponse]
	if !agree(answers{counter("a", eu, us), counter("b", us, eu), {err: errors.New("down")}}) {
		t.Error("the same parts do not agree")
	}
	if agree(answers{counter("a", eu, us), counter("a", eu, usLater)}) {
		t.Error("different events agree")
	}
	if agree(answers{counter("a", eu), {value: &atollv1.ExplainResponse{}}}) {
		t.Error("absent and present agree")
	}
}

// TestLoserRows: a line of an explanation says where a value was that lost, and how it comes back.
func TestLoserRows(t *testing.T) {
	event := &atollv1.Event{Region: "eu", Seq: 4}
	for want, l := range map[string]*atollv1.Loser{
		"  lost: left (atoll conflicts restore eu/1.2)":               {Value: []byte("left")},
		"  lost: f: left (atoll conflicts restore eu/1.2)":            {Value: []byte("left"), Field: []byte("f")},
		"  lost: 42/name: left (atoll conflicts restore eu/1.2)":      {Value: []byte("left"), Path: []string{"42", "name"}},
		"  lost: 42/fields f: left (atoll conflicts restore eu/1.2)":  {Value: []byte("left"), Path: []string{"42", "fields"}, Field: []byte("f")},
		"  lost: 42/scores ann: 1.5 (atoll conflicts restore eu/1.2)": {Type: atollv1.Type_TYPE_ZSET, Score: 1.5, Path: []string{"42", "scores"}, Field: []byte("ann")},
	} {
		l.Partition, l.Id, l.Lost = 1, 2, event
		rows := loserRows("eu", []*atollv1.Loser{l})
		if len(rows) != 1 || rows[0][2] != want {
			t.Errorf("%q, want %q", rows, want)
		}
	}
}
