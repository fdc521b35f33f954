package main

import (
	"context"
	"fmt"
	"os"
	"testing"

	"connectrpc.com/connect/v2"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/atolldb/atoll/client"
)

// leakChecked runs the tests and then looks for goroutines that they left.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"atoll": func() { os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		// code runs atoll and prints its exit code, which testscript itself does not compare.
		"code": func() {
			args := append([]string{"atoll"}, os.Args[1:]...)
			fmt.Fprintf(os.Stderr, "exit code %d\n", run(context.Background(), args, os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs testdata/*.txtar against fake deployments:
//
//	ATOLL_SERVER  regions eu and us that hold the same
//	APART         regions eu and us that know nothing of each other
//	DENIED        a region that allows nothing
//	LEADERLESS    a region without a leader
//	DEAD          an address where nothing listens
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: false,
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

type deferring struct{ *testscript.Env }

func (d deferring) Cleanup(f func()) { d.Defer(f) }
