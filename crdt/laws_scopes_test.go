package crdt

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	lawCases = flag.Int("laws", 2000, "check each law of each type in so many cases that differ from each other")
	lawSeed  = flag.Uint64("laws.seed", 1, "seed of the first run of each type; later ones have the numbers after it")
)

// TestLaws holds every type to the same laws, over random runs of its scope that are longer than those
// of TestExhaustive: joins are commutative, associative, idempotent and monotone; to join a change is to
// do the operation; the changes that a replica has are its state, in any order; and what is decoded is
// what was encoded, with its causal context. The tests of the types do so with more operations, but not
// all of them check all of it.
func TestLaws(t *testing.T) {
	for _, s := range scopes() {
		t.Run(s.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				choose := func(n int) int { return between(0, n-1).Draw(t, "choice") }
				if err := s.law(choose, nil); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// TestLawsAtLength does the same with a plain generator, which is many times faster, until there are as
// many cases of each law as -laws says, all of which differ. A run that fails is run again alone with its
// seed and -laws=1.
func TestLawsAtLength(t *testing.T) {
	for _, s := range scopes() {
		t.Run(s.String(), func(t *testing.T) {
			start, runs := time.Now(), 0
			count := &lawCounts{goal: *lawCases}
			// A run has many cases of all laws, so a type that needs many more runs has not enough states.
			for ; !count.done() && runs <= 4**lawCases; runs++ {
				seed := *lawSeed + uint64(runs)
				if err := s.law(rand.New(rand.NewPCG(seed, 0)).IntN, count); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if !count.done() {
				t.Errorf("only %v different cases of the laws in %d runs", count.cases, runs)
			}
			t.Logf("%d cases of each of %d laws, from %d runs in %v", *lawCases, lawsOfAll, runs, time.Since(start).Round(time.Millisecond))
		})
	}
}

// TestLawsCatch: the laws find joins that are wrong.
func TestLawsCatch(t *testing.T) {
	for _, s := range brokenScopes() {
		caught := false
		for seed := range uint64(20_000) {
			if caught = s.law(rand.New(rand.NewPCG(seed, 0)).IntN, nil) != nil; caught {
				t.Logf("%s: caught by run %d", s, seed)
				break
			}
		}
		if !caught {
			t.Errorf("%s: not caught", s)
		}
	}
}
