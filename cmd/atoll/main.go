// Command atoll is Atoll's one binary: the server, a demo of a whole deployment, and the tools that
// read, write, import, export and inspect.
//
// Results go to stdout, messages to stderr, and the exit code says what kind of failure it was; see
// `atoll help exit-codes`.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the program. The first interrupt ends ctx; the second ends the process at once.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, clock: time.Now}
	return a.execute(ctx, args[1:])
}

// execute runs the command that args name, and returns its exit code.
func (a *app) execute(ctx context.Context, args []string) (code int) {
	defer func() {
		if err := a.close(); err != nil && code == exitOK {
			a.printError(err)
			code = exitCode(err)
		}
	}()
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	// fang styles the help; the error handler does nothing because the exit code needs the error anyway.
	err := fang.Execute(ctx, root, fang.WithErrorHandler(func(io.Writer, fang.Styles, error) {}), fang.WithVersion(buildInfo().Version))
	if err == nil {
		return exitOK
	}
	if !a.began {
		err = &usageError{err: err, command: calledCommand(root, args)}
	}
	a.printError(err)
	return exitCode(err)
}

// calledCommand returns the path of the command that args name.
func calledCommand(root *cobra.Command, args []string) string {
	c, _, err := root.Find(args)
	if err != nil {
		return root.CommandPath()
	}
	return c.CommandPath()
}
