package membership

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// A region has joined when it has, of every actor and in every partition, what another had.
func TestARegionHasJoinedWhenItHasAll(t *testing.T) {
	led := func(taken uint64, seqs ...uint64) map[topology.PartitionID]Led {
		m := map[topology.PartitionID]Led{}
		for i, seq := range seqs {
			m[topology.PartitionID(i)] = Led{Partition: topology.PartitionID(i), Taken: taken, Applied: []crdt.Dot{
				{Actor: topology.Actor(1, 0), Seq: seq}, {Actor: topology.Actor(3, 0), Seq: 2 * seq},
			}}
		}
		return m
	}
	goal := &Standing{Of: 1, Led: led(7, 5, 9)}
	goal.Led[1] = Led{Partition: 1, Taken: 6, Applied: goal.Led[1].Applied}
	if taken := goal.Taken(); taken != 6 {
		t.Errorf("taken is %d", taken)
	}
	less := led(7, 5, 9)
	less[1].Applied[1].Seq-- // of an actor that is closed
	none := led(7, 5, 9)
	none[0] = Led{Applied: none[0].Applied[:1]}
	for name, c := range map[string]struct {
		led  map[topology.PartitionID]Led
		want bool
	}{
		"the same": {led(0, 5, 9), true}, "more": {led(0, 6, 10), true}, "less in one partition": {led(0, 6, 8), false},
		"less of one actor": {less, false}, "nothing of one": {none, false}, "a partition missing": {led(0, 5), false},
	} {
		if got := goal.Reached(&Standing{Led: c.led}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
