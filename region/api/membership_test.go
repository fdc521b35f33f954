package api

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// fakeVote is the vote of a region's first node.
type fakeVote struct {
	votes  bool
	answer error
	asked  []Change
}

func (f *fakeVote) Members() *atollv1.Membership { return &atollv1.Membership{Epoch: 7} }
func (f *fakeVote) Fenced() string               { return "why" }

func (f *fakeVote) Change(_ context.Context, c Change) (*atollv1.RegionPlan, error) {
	if !f.votes {
		return nil, ErrNoVote
	}
	f.asked = append(f.asked, c)
	if f.answer != nil {
		return nil, f.answer
	}
	return &atollv1.RegionPlan{Region: c.Region, Epoch: uint32(c.Epoch)}, nil
}

// voting gives every node a vote or none, and returns the first's.
func voting(t *testing.T) (*testRegion, *fakeVote) {
	first := &fakeVote{votes: true}
	r := setup(t, 3, 2, 1, func(c *Config) {
		c.Votes = &fakeVote{}
		if c.Self == "eu-0" {
			c.Votes = first
		}
	})
	return r, first
}

// Every change goes to the region's first node, whole, whichever was asked.
func TestChangesOfTheRegionsGoToTheVote(t *testing.T) {
	r, vote := voting(t)
	ctx, regions := testContext(t), r.regions("eu-2")
	_, err := regions.Add(ctx, &atollv1.AddRequest{Region: "ap", Id: 4, Epoch: 2, Address: "a:1", DryRun: true})
	noError(t, err)
	_, err = regions.Drain(ctx, &atollv1.DrainRequest{Region: "us"})
	noError(t, err)
	_, err = regions.Fence(ctx, &atollv1.FenceRequest{Region: "us", Note: "n"})
	noError(t, err)
	_, err = regions.Remove(ctx, &atollv1.RemoveRequest{Region: "us", DryRun: true})
	noError(t, err)
	res, err := regions.Rejoin(ctx, &atollv1.RejoinRequest{Region: "us", Epoch: 3, Address: "a:2"})
	noError(t, err)
	equal(t, "epoch in the plan", res.GetPlan().GetEpoch(), 3)
	_, err = regions.NameHeir(ctx, &atollv1.NameHeirRequest{Region: "us", Heir: "eu", DryRun: true})
	noError(t, err)
	_, err = regions.NameHeir(ctx, &atollv1.NameHeirRequest{Region: "us"})
	wantReason(t, err, reasonInvalidArgument)
	want := []Change{
		{Kind: AddRegion, Region: "ap", ID: 4, Epoch: 2, Address: "a:1", DryRun: true}, {Kind: DrainRegion, Region: "us"},
		{Kind: FenceRegion, Region: "us", Note: "n"}, {Kind: RemoveRegion, Region: "us", DryRun: true},
		{Kind: RejoinRegion, Region: "us", Epoch: 3, Address: "a:2"}, {Kind: NameRegionHeir, Region: "us", Heir: "eu", DryRun: true},
	}
	for i := range vote.asked {
		vote.asked[i].Unshipped, vote.asked[i].Reachable = nil, nil
	}
	if !reflect.DeepEqual(vote.asked, want) {
		t.Errorf("asked %+v, want %+v", vote.asked, want)
	}
	status, err := regions.Status(ctx, &atollv1.StatusRequest{})
	noError(t, err)
	equal(t, "membership and fence", fmt.Sprint(status.GetMembership().GetEpoch())+status.GetFenced(), "7why")
}

func TestChangesOfTheRegionsThatAreNotMade(t *testing.T) {
	r, vote := voting(t)
	fence := func(node topology.NodeID, name string) error {
		_, err := r.regions(node).Fence(testContext(t), &atollv1.FenceRequest{Region: name})
		return err
	}
	for want, answer := range map[reason]error{
		reasonRegionRefused: &RegionRefusedError{&atollv1.RegionRefusal{Code: "WAITING", Waiting: []string{"ap", "us"}, Why: "w", Do: "d"}},
		reasonNoQuorum:      fmt.Errorf("%w: %w", ErrNoMajority, errors.New("x")), reasonOutcomeUnknown: region.ErrOutcomeUnknown,
	} {
		vote.answer = answer
		for _, node := range []topology.NodeID{"eu-0", "eu-1"} {
			f := wantReason(t, fence(node, "us"), want)
			if want == reasonRegionRefused {
				equal(t, "refusal", fmt.Sprint(f.message, f.metadata), "w (ap, us); dmap[code:WAITING do:d waiting:ap,us]")
			}
		}
	}
	wantReason(t, fence("eu-0", ""), reasonInvalidArgument)
	r.web["eu-0"].Close()
	wantReason(t, fence("eu-1", "us"), reasonNoQuorum)
	wantReason(t, func() error {
		_, err := setup(t, 1, 1, 1).regions("eu-0").Drain(testContext(t), &atollv1.DrainRequest{Region: "us"})
		return err
	}(), reasonUnimplemented)
}

// What a plan says of losses rests on what is known: a figure that any partition does not know is not given.
func TestPlansRestOnWhatIsKnown(t *testing.T) {
	s := setup(t, 1, 2, 1).servers["eu-0"]
	four := uint64(4)
	flow := func(from string, n *uint64) *atollv1.Flow {
		return &atollv1.Flow{Source: from, Lag: &atollv1.Lag{Operations: n, Unknown: n == nil}}
	}
	var c Change
	s.survey(&c, &atollv1.StatusResponse{
		Flows: []*atollv1.Flow{flow("eu", &four), flow("eu", &four), flow("us", &four), flow("us", nil), flow("xx", &four)},
		Regions: []*atollv1.Region{
			{Id: 1, State: atollv1.RegionState_REGION_STATE_ACTIVE}, {Id: 2, State: atollv1.RegionState_REGION_STATE_UNREACHABLE},
		},
	})
	equal(t, "survey", fmt.Sprint(c.Unshipped, c.Reachable), "map[1:8] [1]")
}
