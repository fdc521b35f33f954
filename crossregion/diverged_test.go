package crossregion_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atolldb/atoll/topology"
)

// divergedFlows returns which flows tell that their ends differ.
func (d *deployment) divergedFlows() (names []string) {
	for _, r := range d.replicators {
		for _, f := range r.Flows() {
			if f.Diverged != "" {
				names = append(names, fmt.Sprintf("%d to %d of partition %d", f.Source, f.Destination, f.Partition))
			}
		}
	}
	return names
}

// TestCorruptedStateIsNoticed: one region's state changes behind everybody's back. All others say so of that region and
// partition, it says so of them, and of no other partition anybody says anything; until it is mended.
func TestCorruptedStateIsNoticed(t *testing.T) {
	d := deploy(t, 3)
	d.write(60)
	d.converge()
	d.until("all have computed digests", func() bool {
		for _, r := range []int{0, 2, 4} {
			if d.replicators[r].Stats().Digests < 2*testPartitions {
				return false
			}
		}
		return true
	})
	if names := d.divergedFlows(); len(names) > 0 {
		t.Fatalf("without any fault: %v", names)
	}
	const partition topology.PartitionID = 2
	d.regions[1].Rot(partition, "a flipped bit")
	want := "[2 to 1 of partition 2 1 to 2 of partition 2 3 to 2 of partition 2 2 to 3 of partition 2]"
	d.until("the corruption is seen by all", func() bool { return fmt.Sprint(d.divergedFlows()) == want })
	if s := d.replicators[2].Stats(); s.Diverged < 2 {
		t.Errorf("%+v", s)
	}
	for _, f := range d.replicators[0].Flows() {
		if f.Diverged != "" && !strings.Contains(f.Diverged, "digest") {
			t.Errorf("%q does not name the digests", f.Diverged)
		}
	}
	d.regions[1].Rot(partition, "")
	d.until("it is mended", func() bool { return len(d.divergedFlows()) == 0 })
}
