package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

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
	out.note("scenario %s, seed %d; data and logs are in %s", s.scenario.name, s.seed, dir)
	err = d.run(ctx, func(ctx context.Context) error {
		if err := s.buildMustFail(ctx, dir); err != nil {
			return err
		}
		return s.scenario.play(&stage{settings: s, deployment: d, out: out, random: rand.New(rand.NewPCG(s.seed, 0))}, ctx)
	})
	d.stopAll(out)
	if err == nil && !out.failed && !s.keep && s.dir == "" {
		return os.RemoveAll(dir)
	}
	return err
}
