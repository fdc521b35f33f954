package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestScripts runs testdata/*.txtar against fake deployments:
//
//	ATOLL_SERVER  regions eu and us that hold the same
//	APART         regions eu and us that know nothing of each other
//	DENIED        a region that allows nothing
//	LEADERLESS    a region without a leader
//	DEAD          an address where nothing listens
//
// `atoll ARGS...` runs in this process, with stdin from FILE if the last argument is <FILE. `exits N
// ARGS...` does so too, and wants the exit code N. Files are named by their whole path.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"atoll": func(ts *testscript.TestScript, _ bool, args []string) { script(ts, exitOK, args) },
			"exits": func(ts *testscript.TestScript, _ bool, args []string) {
				code, err := strconv.Atoi(args[0])
				ts.Check(err)
				script(ts, code, args[1:])
			},
		},
		Setup: func(e *testscript.Env) error {
			same := newStore()
			cleanup := deferring{e}
			e.Setenv("ATOLL_SERVER", deployment(cleanup, map[string]*fakeStore{"eu": same, "us": same}, nil))
			e.Setenv("APART", deployment(cleanup, map[string]*fakeStore{"eu": newStore(), "us": newStore()}, nil))
			e.Setenv("DENIED", deployment(cleanup, map[string]*fakeStore{"eu": newStore()}, refusal(connect.CodePermissionDenied, client.ReasonDenied, nil)))
			e.Setenv("LEADERLESS", deployment(cleanup, map[string]*fakeStore{"eu": newStore()}, refusal(connect.CodeUnavailable, client.ReasonNoLeader, nil)))
			e.Setenv("DEAD", deadAddress())
			return nil
		},
	})
}

func script(ts *testscript.TestScript, want int, args []string) {
	var stdin io.Reader = strings.NewReader("")
	if last := len(args) - 1; last >= 0 && strings.HasPrefix(args[last], "<") {
		stdin, args = strings.NewReader(ts.ReadFile(args[last][1:])), args[:last]
	}
	a := &app{stdin: stdin, stdout: ts.Stdout(), stderr: ts.Stderr(), getenv: ts.Getenv, clock: time.Now}
	if got := a.execute(context.Background(), args); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

type deferring struct{ *testscript.Env }

func (d deferring) Cleanup(f func()) { d.Defer(f) }
