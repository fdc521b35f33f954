package world

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var transferSchedules = flag.Uint64("transfers", 40, "how many schedules to run in which regions are evicted")

// A region that is away for longer than outboxes keep takes over the state of another region, whatever else goes
// wrong: leaders change, donors crash half-way, frames are lost.
func TestEvictedRegionsTakeOverStates(t *testing.T) {
	r := newRunner(t)
	var c Counts
	for seed := range *transferSchedules {
		p := Draw(*firstSeed + seed)
		rng := rand.New(rand.NewPCG(seed, 6))
		p.Quota = 200 + uint64(rng.IntN(800))
		for range 1 + rng.IntN(3) {
			h := p.drawHappening(rng, Isolate)
			h.For = 2*time.Second + time.Duration(rng.Int64N(int64(p.Length)))
			p.Happenings = append(p.Happenings, h)
			for range rng.IntN(8) { // while it takes over the state
				h := p.drawHappening(rng, []Kind{ChangeLeader, Crash, Cut, FallBehind, InstallSnapshot}[rng.IntN(5)])
				p.Happenings = append(p.Happenings, h)
			}
		}
		slices.SortStableFunc(p.Happenings, func(a, b Happening) int { return int(a.At - b.At) })
		res := r.Run(p, nil)
		if res.Failure != nil {
			t.Fatalf("seed %d: %v", *firstSeed+seed, res.Failure)
		}
		c.Add(&res.Counts)
	}
	t.Logf("%d evictions, %d transfers", c.Evictions, c.Transfers)
	if c.Evictions < *transferSchedules/2 || c.Transfers < *transferSchedules/2 {
		t.Errorf("%d schedules have %d evictions and %d transfers", *transferSchedules, c.Evictions, c.Transfers)
	}
}
