package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
)

var errUsage = errors.New("wrong usage")

// settings are what is to be measured.
type settings struct {
	rounds int
	// budget is how long a case runs before it ends with its present batch.
	budget time.Duration
	dir    string
	out    string
	// profiles is where CPU profiles go, if anywhere.
	profiles string
	only     *regexp.Regexp
	quick    bool

	// large is the largest set; small are those that the other contenders have, too.
	large   int
	small   []int
	batches []int
	// grouped is how many adds there are between two flushes, as a region has it; at most so many
	// elements are added by any case.
	grouped int
	// merged is how many items a merge case merges, mergeBatch how many at once, into a set of
	// mergeInto elements where all is in memory.
	merged, mergeBatch, mergeInto int
	// stored is how many keys and elements are counted in bytes.
	stored int
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{
		large: replica.MaxSetElements, small: []int{1_000, 10_000, 100_000}, batches: []int{1, 100, 1000},
		grouped: 10_000, merged: 50_000, mergeBatch: 1000, mergeInto: 100_000, stored: 200_000,
	}
	flags := flag.NewFlagSet("types", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&s.rounds, "rounds", 3, "how many times each case is measured")
	flags.DurationVar(&s.budget, "budget", 300*time.Millisecond, "how long a case adds, tests or removes in a round")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "where a directory for the data is made; not one in memory")
	flags.StringVar(&s.out, "out", "results", "where types.md and types.json are written")
	flags.StringVar(&s.profiles, "profile", "", "a directory for a CPU profile of each case, which disturbs the figures")
	only := flags.String("only", "", "a regular expression: measure only the cases whose name matches")
	flags.BoolVar(&s.quick, "quick", false, "small sets and one short round: tests that everything runs, measures nothing")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return nil, fmt.Errorf("%w: -only: %w", errUsage, err)
	}
	if flags.NArg() > 0 || s.rounds < 1 || s.budget <= 0 {
		return nil, fmt.Errorf("%w: no arguments are expected, and -rounds and -budget are more than 0", errUsage)
	}
	if s.quick {
		s.rounds, s.budget = 1, 5*time.Millisecond
		s.large, s.small, s.batches = 5_000, []int{200, 1_000}, []int{1, 100}
		s.grouped, s.merged, s.mergeBatch, s.mergeInto, s.stored = 500, 1_000, 250, 1_000, 2_000
	}
	return s, nil
}

// sizes returns the sizes of all sets, ascending.
func (s *settings) sizes() []int { return append(append([]int(nil), s.small...), s.large) }

// held returns how many elements the set of a size begins with: the largest leaves room for what is
// added, because a region refuses to add more than replica.MaxSetElements.
func (s *settings) held(size int) int {
	if size == s.large {
		return size - s.grouped
	}
	return size
}
