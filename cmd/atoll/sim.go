package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/sim/world"
)

type simFlags struct {
	seed, schedules uint64
	parallel        int
	reduce          string
	verbose         bool
	netsplit        time.Duration
}

// simCollect makes the collector run seldom: a run leaves much behind, and keeps little.
const simCollect = 400

func newSim(a *app) *cobra.Command {
	var f simFlags
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run simulated regions while everything goes wrong, and check that nothing is lost",
		Long: `Run the code that replicates between regions, and everything below it, in simulated worlds of two to
five regions: links lose, repeat and damage what they carry, streams lose what they acknowledged, nodes
crash, clocks jump. After every step the regions are held against what truly happened.

A seed decides everything. With --schedules, runs that many seeds from --seed on; a seed that fails is
shrunk and told, and the exit code is 1. Without it, tells what happens in the run of one seed.`,
		Example: `  atoll sim --seed 7
  atoll sim --schedules 10000
  atoll sim --seed 7 --reduce 'keep=3,9-12;regions=2' --verbose
  atoll sim --netsplit 72h`,
		Args: wants(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer debug.SetGCPercent(debug.SetGCPercent(simCollect))
			if f.netsplit != 0 {
				return a.runNetsplit(&f)
			}
			if cmd.Flags().Changed("schedules") {
				return a.runSweep(cmd.Context(), &f)
			}
			return a.runSeed(&f)
		},
	}
	c.Flags().Uint64Var(&f.seed, "seed", 1, "the seed, or the first of them")
	c.Flags().Uint64Var(&f.schedules, "schedules", 0, "run so many seeds")
	c.Flags().IntVar(&f.parallel, "parallel", runtime.NumCPU(), "how many seeds to run at once")
	c.Flags().StringVar(&f.reduce, "reduce", "", "leave out parts of the run, as a failing one's report says")
	c.Flags().DurationVar(&f.netsplit, "netsplit", 0, "instead, cut three regions off from each other for so long, and write in all of them")
	c.Flags().BoolVar(&f.verbose, "verbose", false, "tell of every write and every leader, too")
	return c
}

var errSimFailed = errors.New("an invariant did not hold")

// runSeed tells one run.
func (a *app) runSeed(f *simFlags) error {
	reduction, err := world.ParseReduction(f.reduce)
	if err != nil {
		return usagef("--reduce: %w", err)
	}
	runner, err := world.NewRunner()
	if err != nil {
		return err
	}
	plan := world.Draw(f.seed)
	res, err := runner.Tell(a.stdout, reduction.Apply(plan), f.verbose)
	if err != nil || res.Failure == nil {
		return err
	}
	if f.reduce == "" {
		if err := runner.Blame(a.stdout, plan, res.Failure); err != nil {
			return err
		}
	}
	return errSimFailed
}

// netsplitWrites is how often somewhere is written in a long netsplit.
const netsplitWrites = 20 * time.Second

// runNetsplit plays one long netsplit.
func (a *app) runNetsplit(f *simFlags) error {
	if f.netsplit < time.Minute || f.netsplit > 1000*time.Hour {
		return usagef("--netsplit must be between a minute and 1000 hours")
	}
	runner, err := world.NewRunner()
	if err != nil {
		return err
	}
	res := runner.RunNetsplit(world.Netsplit{Seed: f.seed, Regions: 3, Length: f.netsplit, Every: netsplitWrites}, nil)
	if res.Failure != nil {
		return fmt.Errorf("%w: %w", errSimFailed, res.Failure)
	}
	_, err = fmt.Fprintln(a.stdout, &res)
	return err
}

// runSweep runs many seeds.
func (a *app) runSweep(ctx context.Context, f *simFlags) error {
	if f.parallel < 1 || f.schedules < 1 {
		return usagef("--parallel and --schedules must be at least 1")
	}
	if f.reduce != "" {
		return usagef("--reduce is for one seed")
	}
	began := a.clock()
	told := began
	sweep := world.Sweep{First: f.seed, Count: f.schedules, Workers: f.parallel, Progress: func(c world.Counts) {
		if now := a.clock(); now.Sub(told) >= plainEvery {
			told = now
			rate := float64(c.Schedules) / now.Sub(began).Seconds()
			fmt.Fprintf(a.stderr, "%d of %d schedules, %.0f a second, %d events, 0 failures\n", c.Schedules, f.schedules, rate, c.Events)
		}
	}}
	counts, failure, err := sweep.Run(ctx)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%sin %v\n", counts.Summary(), a.clock().Sub(began).Round(time.Millisecond))
	if _, err := io.WriteString(a.stdout, text); err != nil || failure == nil {
		return err
	}
	runner, err := world.NewRunner()
	if err != nil {
		return err
	}
	if err := runner.Blame(a.stdout, world.Draw(failure.Seed), failure.Failure); err != nil {
		return err
	}
	return errSimFailed
}
