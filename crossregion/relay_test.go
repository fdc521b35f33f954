package crossregion_test

import (
	"fmt"
	"testing"
)

// TestWritesSurviveTheirOrigin: of three regions one is cut off from the first while that writes; then the first is
// gone for good. What the second has, the third gets from it.
func TestWritesSurviveTheirOrigin(t *testing.T) {
	d := deploy(t, 3)
	d.write(60)
	d.converge()
	d.memory.Cut(1, 3, true)
	for i := range 40 {
		d.regions[0].Write(2, fmt.Appendf(nil, "late %d", i))
	}
	d.until("the second region has all", func() bool { return d.regions[1].Missing(d.regions[0]) == 0 })
	d.memory.Cut(1, 2, true)
	d.until("the third has it from the second", func() bool { return d.regions[2].Missing(d.regions[0]) == 0 })
	if faults := d.regions[2].Faults(d.regions[0]); len(faults) > 0 {
		t.Error(faults)
	}
	relayed := uint64(0)
	for _, r := range d.replicators {
		relayed += r.Stats().Relayed
	}
	if relayed == 0 {
		t.Error("nothing was passed on")
	}
	d.memory.Cut(1, 2, false)
	d.memory.Cut(1, 3, false)
	d.write(60)
	d.converge()
}
