package region_test

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// What Steps propose does, applied by hand, what a partition that runs does.
func TestStepsProposeWhatThePartitionWould(t *testing.T) {
	wall := func() time.Time { return time.Unix(1_700_000_000, 0) }
	clock := hlc.NewClock(wall)
	machine, err := region.NewMachine(actorOf(testEU), openStore(t, filepath.Join(t.TempDir(), "p.db")), clock)
	if err != nil {
		t.Fatal(err)
	}
	group := newFakeGroup(machine)
	steps := region.NewSteps(region.NewPartition(region.PartitionConfig{
		Machine: machine, Group: group, Clock: clock, Wall: wall, Proposer: 7, Logger: slog.New(slog.DiscardHandler),
	}))
	index := uint64(0)
	run := func(c *logv1.Command) (results []region.StepResult) {
		t.Helper()
		index++
		proposal, data, err := steps.Entry([]*logv1.Command{c})
		if err != nil {
			t.Fatal(err)
		}
		steps.Expect(proposal, func(r []region.StepResult) { results = r })
		if err := machine.Apply([]region.Entry{{Index: index, Term: 1, Data: data}}); err != nil {
			t.Fatal(err)
		}
		return results
	}
	for i, repeated := range []bool{false, true} {
		command, err := steps.Write("id", []replica.Op{add("n", 3)})
		if err != nil {
			t.Fatal(err)
		}
		r := run(command)
		if len(r) != 1 || r[0].Err != nil || r[0].Repeated != repeated || r[0].Outcomes[0].Counter != 3 {
			t.Errorf("write %d answers %+v", i, r)
		}
	}
	nothingToPropose(t, steps)
	group.set(func() { group.leading = false })
	if _, err := steps.Write("", []replica.Op{add("n", 1)}); err == nil {
		t.Error("a follower proposes a write")
	}
}

func nothingToPropose(t *testing.T, steps *region.Steps) {
	t.Helper()
	if c, err := steps.Acknowledge(nil); c != nil || err != nil {
		t.Errorf("nothing to acknowledge makes %v, %v", c, err)
	}
	if c, err := steps.Expire(); c != nil || err != nil {
		t.Errorf("nothing to expire makes %v, %v", c, err)
	}
	if c := steps.Tick(); c != nil {
		t.Errorf("nobody waits, and yet %v", c)
	}
}
