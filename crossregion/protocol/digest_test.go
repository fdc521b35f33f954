package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/topology"
)

// TestDigestsAreOfQuietPartitionsAndSeldom runs a plan over partitions of which one is always written, one never, one
// at first, and one is not led any more.
func TestDigestsAreOfQuietPartitionsAndSeldom(t *testing.T) {
	tuning := DefaultTuning()
	d := NewDigestPlan(tuning)
	var log []string
	busy := time.Duration(0)
	for tick := range time.Duration(1000) {
		now := after(tick * time.Second)
		d.Note(0, vectorOf(uint64(tick+1)), now)
		d.Note(1, vectorOf(), now)
		d.Note(2, vectorOf(min(uint64(tick+1), 5)), now)
		if tick < 10 {
			d.Note(3, vectorOf(1), now)
		} else {
			d.Forget(3)
		}
		if p, due := d.Due(now); due {
			took := 400 * time.Millisecond
			busy += took
			log = append(log, fmt.Sprint(p, " at ", int(tick)))
			d.Computed(p, d.partitions[p].vector, took, now)
		}
	}
	want := "[3 at 2 2 at 22 2 at 622]"
	if got := fmt.Sprint(log); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if share := float64(busy) / float64(1000*time.Second); share > 1/float64(tuning.DigestShare) {
		t.Errorf("%.1f %% of a CPU", 100*share)
	}
}

// TestDigestsOfChangingPartitionsKeepTheirDistance: a partition that is quiet for a moment, over and over.
func TestDigestsOfChangingPartitionsKeepTheirDistance(t *testing.T) {
	d := NewDigestPlan(DefaultTuning())
	var last time.Time
	n := 0
	for tick := range time.Duration(600) {
		now := after(tick * time.Second)
		d.Note(0, vectorOf(uint64(tick/4+1)), now)
		if p, due := d.Due(now); due {
			if n++; !last.IsZero() && now.Sub(last) < d.tuning.DigestEvery {
				t.Fatalf("%v after the last", now.Sub(last))
			}
			last = now
			d.Computed(p, d.partitions[p].vector, time.Millisecond, now)
		}
	}
	if n < 40 {
		t.Errorf("%d digests in ten minutes", n)
	}
}

func TestDigestsOfEqualVectorsMustBeEqual(t *testing.T) {
	digest := func(sum byte, seqs ...uint64) Digest { return Digest{vectorOf(seqs...), [16]byte{sum}} }
	var c Comparison
	step := func(what string, changed bool, want ...topology.RegionID) {
		t.Helper()
		var diverged []topology.RegionID
		for region := topology.RegionID(2); region < 5; region++ {
			if c.Diverged(region) != "" {
				diverged = append(diverged, region)
			}
		}
		if fmt.Sprint(diverged) != fmt.Sprint(want) || !changed {
			t.Errorf("%s: %v diverged", what, diverged)
		}
	}
	step("before anything was told", !c.Of(2, digest(1, 5, 5)))
	step("of no state", c.Own(Digest{}) == nil)
	step("of other vectors", c.Own(digest(2, 5, 4)) == nil)
	step("equal", c.Own(digest(1, 5, 5)) == nil)
	step("another region's differs", c.Of(3, digest(2, 5, 5)), 3)
	step("and is told again", !c.Of(3, digest(2, 5, 5)), 3)
	step("and goes on", !c.Of(3, digest(4, 5, 6)), 3) // which proves nothing
	step("and ours differs from all", fmt.Sprint(c.Own(digest(9, 5, 5))) == "[2]", 2, 3)
	step("and is mended", fmt.Sprint(c.Own(digest(1, 5, 5))) == "[2]", 3)
	step("and the other is", c.Of(3, digest(1, 5, 5)))
}
