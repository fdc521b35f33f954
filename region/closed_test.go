package region_test

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

func TestWhenAnActorIsClosedHere(t *testing.T) {
	old, actor, next := topology.Actor(testUS, 1), topology.Actor(testUS, 2), topology.Actor(testUS, 3)
	view := func(state region.ActorState, cut, applied uint64) *region.MachineView {
		v := &region.MachineView{HLCs: map[crdt.Actor]hlc.Time{old: 50, actor: 70}}
		v.Vector.Set(actor, applied)
		v.Facts = region.Facts{Epoch: 1, Facts: []region.Fact{{Region: testUS, Actor: actor, State: state, Cut: cut}}}
		return v
	}
	for _, c := range []struct {
		name   string
		view   *region.MachineView
		actor  crdt.Actor
		last   hlc.Time
		closed bool
	}{
		{"open", view(region.ActorOpen, 0, 5), actor, 70, false},
		{"fenced, and not agreed where it ends", view(region.ActorFenced, 0, 5), actor, 70, false},
		{"closed, some of it still to come", view(region.ActorClosed, 6, 5), actor, 70, false},
		{"closed, and all of it here", view(region.ActorClosed, 5, 5), actor, 70, true},
		{"of an earlier epoch than any known", view(region.ActorOpen, 0, 5), old, 50, true},
		{"of a later epoch", view(region.ActorClosed, 5, 5), next, 0, false},
		{"of another region", view(region.ActorClosed, 5, 5), topology.Actor(testAP, 0), 0, false},
		{"nothing is known of the membership", &region.MachineView{}, actor, 0, false},
	} {
		if last, closed := c.view.Closed(c.actor); closed != c.closed || last != c.last {
			t.Errorf("%s: %v, %v, want %v, %v", c.name, last, closed, c.last, c.closed)
		}
	}
}
