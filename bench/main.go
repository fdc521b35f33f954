// Command bench measures Atoll against etcd and NATS on one machine: three server processes of each,
// one client process, the same keys, values, clients and disks, in alternating rounds. It prints a
// Markdown report with ratios and verdicts, and writes it with the raw figures and a plot.
//
// The peers come as Go modules: their server processes are this program, started again. README.md says
// what is measured, what is done to be fair, and how to read the result.
//
//   - settings.go: the command line and what is to be run
//   - play.go: from start to end
//   - server.go, usage.go: processes, and what they use
//   - cluster.go, atoll.go, etcd.go, nats.go: the systems, and their clients
//   - keys.go: keys and values that can be verified
//   - load.go: closed-loop clients
//   - profile.go: CPU profiles during the measurement
//   - report.go, machine.go: what comes out
//   - figures/: medians, ratios, tables and plots
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == servePeer {
		runPeer(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 if all was measured, 1 if something went wrong or a read was, 2 for
// wrong usage. A target that is missed is a result, not a failure.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if err := play(ctx, s, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}
