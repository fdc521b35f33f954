package world

import (
	"flag"
	"testing"
)

var homeSchedules = flag.Uint64("homes", 60, "how many schedules to run in which a namespace has a home")

// Homes move, and are taken over, while writes go to them and beside them.
func TestHomesAreOneCopy(t *testing.T) {
	c := runOnly(t, *homeSchedules, func(p *Plan) bool { return p.Homes })
	t.Logf("%d writes, %d reads, %d refused by condition, %d elsewhere, %d moves, %d refused, %d takeovers, %d late, %d given up",
		c.HomeWrites, c.HomeReads, c.HomeConditions, c.HomeRefused, c.HomeMoves, c.HomeUnmoved, c.HomeTakes, c.HomeLate, c.HomeGivenUp)
	n := *homeSchedules
	if c.HomeWrites < 10*n || c.HomeReads < n || c.HomeConditions < n || c.HomeRefused < n || c.HomeMoves < n/2 || c.HomeUnmoved < n ||
		c.HomeTakes < n/20 || c.HomeLate < n/20 || c.HomeGivenUp < n/20 {
		t.Errorf("%d schedules are too easy: %+v", n, c)
	}
}

// A part of the plans is about homes, and the others are not changed by that.
func TestPlansWithoutHomes(t *testing.T) {
	homes, members := 0, 0
	for seed := range uint64(1000) {
		p := Draw(seed)
		if p.Homes {
			if homes++; p.Membership {
				members++
			}
			p.omitHomes()
		}
		for i := range p.Happenings {
			if k := p.Happenings[i].Kind; k == WriteHome || k == MoveHome {
				t.Fatalf("seed %d has a %v, and no homes", seed, k)
			}
		}
	}
	if homes < 150 || homes > 250 || members < 50 {
		t.Errorf("of 1000 plans %d have homes, %d of these members that come and go", homes, members)
	}
}
