// Command chaos runs Atoll's nine example nodes as real processes, does them harm while they are
// written to, and checks that nothing was lost. It ends with a table of figures and PASS or FAIL.
//
// Two scenarios:
//
//   - kill: a public dataset is imported into one region while kill -9 hits one node per region in
//     turn, leaders first, and one region is stopped, its JetStream deleted, and started again.
//   - netsplit: one region is cut off for a while, and all regions go on writing.
//
// Afterwards all regions must have equal digests, and every acknowledged write must be in all of
// them. What must be there is worked out here from the dataset and from what was acknowledged, by
// code that shares nothing with the servers.
//
//   - deployment.go, process.go: the nodes, made of examples/three-regions
//   - writers.go, lag.go: the load and its ledger
//   - kill.go, netsplit.go: the scenarios
//   - expect.go, verify.go: what must be there, and whether it is
//   - report.go: figures and checks
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
	"time"
)

// settings are what the command line says.
type settings struct {
	atoll, configs, cities string
	scenario               string
	dir, logLevel          string
	keep, quick            bool
	records                int
	cut, delay             time.Duration
	maxUnavailable         time.Duration
}

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 for PASS, 1 for FAIL, 2 for wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := parse(args, stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, "chaos:", err)
		}
		return 2
	}
	out := &report{out: stdout, begin: time.Now()}
	err = play(ctx, s, out)
	if err != nil {
		out.check("the run came to its end", err)
	}
	if !out.finish() {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.scenario, "scenario", "kill", "kill or netsplit")
	flags.StringVar(&s.atoll, "atoll", "bin/atoll", "the program to run")
	flags.StringVar(&s.configs, "configs", "examples/three-regions", "directory of the nodes' configurations")
	flags.StringVar(&s.cities, "cities", "data/cities.json", "the dataset to import, a JSON array")
	flags.StringVar(&s.dir, "dir", "", "directory for data and logs; empty means a temporary one")
	flags.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error instead of what the configurations say")
	flags.BoolVar(&s.keep, "keep", false, "keep the directory even if all is well")
	flags.BoolVar(&s.quick, "quick", false, "20 000 records and a cut of 10 s")
	flags.IntVar(&s.records, "records", 0, "import only so many records; 0 means all")
	flags.DurationVar(&s.cut, "cut", 2*time.Minute, "how long the netsplit lasts")
	flags.DurationVar(&s.delay, "delay", 40*time.Millisecond, "one-way delay between regions in the netsplit scenario")
	flags.DurationVar(&s.maxUnavailable, "max-unavailable", 3*time.Second, "how long writes may fail after a kill")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.scenario != "kill" && s.scenario != "netsplit" {
		return nil, fmt.Errorf("unknown scenario %q: want kill or netsplit", s.scenario)
	}
	if s.quick {
		s.records, s.cut = 20_000, 10*time.Second
	}
	return s, nil
}

// play sets the stage, plays the scenario, and clears the stage.
func play(ctx context.Context, s *settings, out *report) (err error) {
	dir := s.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "atoll-chaos-"); err != nil {
			return err
		}
	}
	d, err := newDeployment(ctx, s, dir)
	if err != nil {
		return err
	}
	out.note("data and logs are in %s", dir)
	err = d.run(ctx, func(ctx context.Context) error {
		stage := &stage{settings: s, deployment: d, out: out}
		if s.scenario == "netsplit" {
			return stage.netsplit(ctx)
		}
		return stage.kill(ctx)
	})
	d.stopAll(out)
	if err == nil && !out.failed && !s.keep && s.dir == "" {
		return os.RemoveAll(dir)
	}
	return err
}
