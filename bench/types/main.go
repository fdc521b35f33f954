// Command types measures Atoll's data types where their size matters: adding to a set of a million
// elements on disk, reading and clearing it, merging what other regions did, and what it all takes in
// bytes. Beside it, on the same elements, stand the naive form (the whole set as one value) and
// automerge-go. It prints a Markdown report with ratios and verdicts, and writes the raw figures.
//
// What is measured is processor time, of the whole process: of everything that a figure on a shared
// machine can be, it is disturbed least. Cases take turns, round by round, and ratios are formed within
// a round. README.md of the parent directory says how to read the result.
//
//   - settings.go: the command line and what is to be run
//   - play.go: rounds, cases, meters
//   - elements.go: keys and elements that need no memory
//   - sets.go: adding, testing and removing, the same for every contender
//   - atoll.go: Atoll's sets in its store
//   - naive.go, automerge.go: the other contenders
//   - merge.go: runs of deltas of other regions
//   - clear.go: a clear, and the sweep after it
//   - bytes.go, runs.go: what is stored and what is sent
//   - sample.go, report.go, goals.go, host.go: what comes out
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// collectAt is at how much more than what is live, in percent, a server collects its heap.
const collectAt = 300

// run returns the exit code: 0 if all was measured, 1 if something went wrong, 2 for wrong usage. A goal
// that is missed is a result, not a failure.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		if err = play(ctx, s, stdout, stderr); err == nil {
			return 0
		}
	}
	fmt.Fprintln(stderr, "types:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}
