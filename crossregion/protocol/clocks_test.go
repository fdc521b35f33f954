package protocol

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/hlc"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

// TestClocksAreMeasured: whatever the delays each way are, the offset is within the uncertainty of the truth, and that
// is at most the delays' mean.
func TestClocksAreMeasured(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		skew := time.Duration(rapid.Int64Range(-int64(10*365*24*time.Hour), int64(10*365*24*time.Hour)).Draw(t, "skew"))
		elapsed := time.Duration(0)
		at := func(off, since time.Duration) hlc.Reading {
			return hlc.Reading{Wall: start.Add(elapsed + off), Elapsed: elapsed + since}
		}
		us, eu := func() hlc.Reading { return at(0, time.Hour) }, func() hlc.Reading { return at(skew, 0) }
		a, b := NewClocks(1, "us-1"), NewClocks(2, "eu-1")
		for range rapid.IntRange(3, 20).Draw(t, "beats") {
			there := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "there"))
			back := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "back"))
			beat := a.Reading(us())
			elapsed += there
			b.Heard(1, "us-1", beat, eu())
			elapsed += time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "held"))
			answer := b.Reading(eu())
			elapsed += back
			a.Heard(2, "eu-1", answer, us())
			got := a.Offsets(us())
			if len(got) != 1 || got[0].Region != 2 || got[0].Node != "eu-1" {
				t.Fatalf("offsets %+v", got)
			}
			const rounding = 2 * time.Microsecond
			wrong := got[0].Ahead - skew
			if max(wrong, -wrong) > got[0].Uncertainty+rounding || got[0].Uncertainty > (there+back)/2+rounding {
				t.Fatalf("%+v with a skew of %v, %v there, %v back", got[0], skew, there, back)
			}
		}
	})
}

func TestUnmeasuredClocksAreUnknown(t *testing.T) {
	at := func(d time.Duration) hlc.Reading { return hlc.Reading{Wall: start.Add(d), Elapsed: d} }
	a := NewClocks(1, "us-1")
	a.Heard(2, "eu-1", nil, at(0)) // of an older program
	a.Heard(2, "eu-2", &crossregionv1.ClockReading{WallUs: start.UnixMicro()}, at(0))
	if got := a.Offsets(at(0)); len(got) != 0 {
		t.Errorf("one way alone measures %+v", got)
	}
	// An answer to what was never sent, or to somebody else, or that was held for longer than it was on its way.
	sent := a.Reading(at(time.Second))
	for _, e := range []*crossregionv1.ClockEcho{
		{Region: 1, Node: "us-1", WallUs: sent.WallUs + 1}, {Region: 1, Node: "us-2", WallUs: sent.WallUs},
		{Region: 3, Node: "us-1", WallUs: sent.WallUs}, {Region: 1, Node: "us-1", WallUs: sent.WallUs, HeldUs: ^uint64(0)},
	} {
		a.Heard(2, "eu-2", &crossregionv1.ClockReading{WallUs: 1, Echoes: []*crossregionv1.ClockEcho{e}}, at(2*time.Second))
	}
	if got := a.Offsets(at(2 * time.Second)); len(got) != 0 {
		t.Errorf("measured %+v", got)
	}
	a.Heard(2, "eu-2", &crossregionv1.ClockReading{WallUs: start.UnixMicro(), Echoes: []*crossregionv1.ClockEcho{{Region: 1, Node: "us-1", WallUs: sent.WallUs}}}, at(2*time.Second))
	if got := a.Offsets(at(12 * time.Second)); len(got) != 1 {
		t.Errorf("measured %+v", got)
	}
	if got := a.Offsets(at(13 * time.Second)); len(got) != 0 {
		t.Errorf("what is old is still told: %+v", got)
	}
}

func TestClocksAreBounded(t *testing.T) {
	a := NewClocks(1, "us-1")
	now := hlc.Reading{Wall: start}
	for i := range 10 * clocksKept {
		a.Heard(2, topology.NodeID(fmt.Sprint("n", i)), &crossregionv1.ClockReading{WallUs: 1}, now)
	}
	for range 100 {
		now.Elapsed += time.Millisecond
		now.Wall = now.Wall.Add(time.Millisecond)
		a.Reading(now)
	}
	if len(a.heard) > clocksKept || len(a.sent) > clocksSent || len(a.sentOrder) > clocksSent || len(a.Reading(now).Echoes) > clocksKept {
		t.Errorf("%d are heard, %d sent", len(a.heard), len(a.sent))
	}
	now.Elapsed += time.Minute
	a.Heard(3, "new", &crossregionv1.ClockReading{WallUs: 1}, now)
	if len(a.heard) != 1 {
		t.Errorf("%d are remembered for ever", len(a.heard))
	}
}
