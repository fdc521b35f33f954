package world

import (
	"flag"
	"testing"
)

var memberships = flag.Uint64("memberships", 40, "how many schedules to run in which regions are given up and come back")

// Regions are given up while others are away, are closed at what the others have, and come back with nothing.
func TestRegionsComeAndGo(t *testing.T) {
	c := runOnly(t, *memberships, func(p *Plan) bool { return p.Membership })
	t.Logf("%d fences, %d drains, %d closings, %d releases, %d regions begun anew, %d joins, %d states taken over by those that join, %d late frames refused, %d events given up",
		c.Fences, c.Drains, c.Closings, c.Releases, c.Rejoins, c.Joins, c.JoinTransfers, c.LateFrames, c.GivenUp)
	least := *memberships / 2
	if c.Fences < least || c.Closings < least || c.Releases < least || c.Rejoins < least || c.Joins < least || c.JoinTransfers < least ||
		c.LateFrames < least || c.GivenUp < least {
		t.Errorf("%d schedules are too easy: %+v", *memberships, c)
	}
}
