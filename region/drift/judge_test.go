package drift

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

const testBound = 500 * time.Millisecond

// region is some nodes whose clocks are off by so much each, in a time of its own.
type region struct {
	elapsed time.Duration
	off     []time.Duration
	judges  []*judge
	steady  []*hlc.Steady
	cut     map[int]bool
}

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newRegion(off ...time.Duration) *region {
	r := &region{off: off, cut: map[int]bool{}, elapsed: time.Minute}
	for i := range off {
		r.judges = append(r.judges, newJudge(testBound, len(off)-1, r.read(i)))
		r.steady = append(r.steady, hlc.NewSteady(func() hlc.Reading { return r.read(i) }, testBound))
	}
	return r
}

func (r *region) read(i int) hlc.Reading {
	return hlc.Reading{Wall: epoch.Add(r.elapsed + r.off[i]), Elapsed: r.elapsed + time.Duration(i)*time.Hour}
}

// measure has each node ask each other, and every answer takes roundTrip.
func (r *region) measure(roundTrip time.Duration) {
	for i, j := range r.judges {
		for k := range r.judges {
			if k == i || r.cut[i] || r.cut[k] {
				continue
			}
			r.elapsed += roundTrip / 2
			wall := r.read(k).Wall
			r.elapsed += roundTrip - roundTrip/2
			j.measured(topology.NodeID(fmt.Sprint("n", k)), wall, roundTrip, r.read(i))
		}
	}
}

func (r *region) decide(i int) Verdict {
	v := r.judges[i].decide(r.read(i), r.steady[i].Jump(), nil)
	if v.confirmed && r.steady[i].Jump() > 0 {
		r.steady[i].Accept()
	}
	return v
}

// pass lets seconds go by, with a measurement in each.
func (r *region) pass(seconds int) {
	for range seconds {
		r.elapsed += time.Second
		r.measure(2 * time.Millisecond)
		for i := range r.judges {
			r.decide(i)
		}
	}
}

// unsafe returns the nodes that are, as digits.
func (r *region) unsafe() (who string) {
	for i := range r.judges {
		if r.decide(i).Unsafe {
			who += fmt.Sprint(i)
		}
	}
	return who
}

func TestOnlyTheMinorityIsUnsafe(t *testing.T) {
	const hour, decade = time.Hour, 10 * 365 * 24 * time.Hour
	for _, c := range []struct {
		off  []time.Duration
		want string
	}{
		{[]time.Duration{0, 0, 0}, ""},
		{[]time.Duration{hour, 0, 0}, "0"},
		{[]time.Duration{0, -hour, 0}, "1"},
		{[]time.Duration{0, 0, decade}, "2"},
		{[]time.Duration{0, 5 * time.Second, 0}, "1"},
		{[]time.Duration{0, 390 * time.Millisecond, 0}, ""}, // below 0.8 of the bound
		{[]time.Duration{0, 410 * time.Millisecond, 0}, "1"},
		{[]time.Duration{0, 410 * time.Millisecond, 200 * time.Millisecond}, ""},
		{[]time.Duration{hour, 2 * hour, 0}, "012"}, // nobody knows
		{[]time.Duration{hour, 0}, "01"},            // nor here
		{[]time.Duration{hour}, ""},                 // nobody to ask
		{[]time.Duration{hour, hour, 0, 0, 0}, "01"},
		{[]time.Duration{hour, -hour, 0, 0, 0}, "01"},
		{[]time.Duration{hour, hour, 0, 0}, "0123"},
		{[]time.Duration{0, 0, 0, -decade}, "3"},
	} {
		r := newRegion(c.off...)
		r.pass(5)
		if got := r.unsafe(); got != c.want {
			t.Errorf("%v: nodes %q are unsafe, not %q", c.off, got, c.want)
		}
	}
}

func TestUnsafeClockReturnsBySelf(t *testing.T) {
	r := newRegion(0, 0, 0)
	r.pass(3)
	r.off[1] = -time.Hour // behind: no jump forward, but others disagree
	if r.unsafe() != "1" {
		t.Fatal("an hour behind is not noticed at once")
	}
	if v := r.decide(1); v.Drift.Round(time.Second) != -time.Hour || v.Why == "" {
		t.Errorf("%+v", v)
	}
	r.off[1] = -300 * time.Millisecond // within the bound, not within the lower one
	r.pass(10)
	if r.unsafe() != "1" {
		t.Error("it is safe again too early")
	}
	r.off[1] = -100 * time.Millisecond
	r.pass(1)
	if r.unsafe() != "1" {
		t.Error("it is safe again at once")
	}
	r.pass(3)
	if r.unsafe() != "" || r.decide(1).Drift.Round(time.Millisecond) != -100*time.Millisecond {
		t.Errorf("it stays unsafe: %+v", r.decide(1))
	}
	r.off[1] = -300 * time.Millisecond // and what would not let it in does not throw it out
	r.pass(10)
	if r.unsafe() != "" {
		t.Error("it flaps")
	}
}

func TestForwardJumpIsUnsafeAtOnce(t *testing.T) {
	for _, nodes := range []int{1, 2, 3} {
		for _, jump := range []time.Duration{501 * time.Millisecond, 5 * time.Second, time.Hour, 10 * 365 * 24 * time.Hour} {
			r := newRegion(make([]time.Duration, nodes)...)
			r.pass(5)
			if r.unsafe() != "" {
				t.Fatal("unsafe from the beginning")
			}
			r.off[0] = jump
			if v := r.decide(0); !v.Unsafe || v.Drift.Round(time.Second) != jump.Round(time.Second) {
				t.Errorf("%d nodes, %v: %+v", nodes, jump, v)
			}
			r.pass(30)
			if !r.decide(0).Unsafe || r.steady[0].Jump() == 0 {
				t.Errorf("%d nodes, %v: half a minute makes it safe", nodes, jump)
			}
			r.off[0] = 0
			r.pass(4)
			if r.unsafe() != "" {
				t.Errorf("%d nodes, %v: back again, it stays unsafe", nodes, jump)
			}
		}
	}
}

// TestRightfulJump: a clock that was behind is set right, or a machine was suspended.
func TestRightfulJump(t *testing.T) {
	r := newRegion(-5*time.Second, 0, 0)
	r.pass(5)
	if r.unsafe() != "0" {
		t.Fatal("five seconds behind is safe")
	}
	r.off[0] = 0
	r.pass(4)
	if r.unsafe() != "" || r.steady[0].Jump() != 0 || !r.steady[0].Wall().Equal(r.read(0).Wall) {
		t.Errorf("set right, it stays unsafe or is not believed")
	}
}

func TestUnmeasuredClock(t *testing.T) {
	r := newRegion(0, 0, 0)
	if r.unsafe() != "012" {
		t.Error("a node that has just started is safe before it has asked")
	}
	r.measure(time.Millisecond)
	if r.unsafe() != "" {
		t.Error("a first measurement does not suffice")
	}
	alone := newRegion(0, 0)
	alone.cut[1] = true
	alone.pass(1)
	if alone.decide(0).Unsafe != true {
		t.Error("after a second without an answer it is safe")
	}
	alone.pass(1)
	if alone.decide(0).Unsafe {
		t.Error("nobody answers, and it waits for ever")
	}
	// What is known is forgotten.
	r.cut = map[int]bool{0: true, 1: true, 2: true}
	r.off[0] = -time.Hour
	r.pass(11)
	if r.decide(0).Unsafe && len(r.judges[0].offsets(r.read(0))) > 0 {
		t.Error("it is judged by old measurements")
	}
}

func TestSlowAnswersTellNothing(t *testing.T) {
	r := newRegion(0, 300*time.Millisecond, 300*time.Millisecond)
	r.elapsed += time.Second
	r.measure(800 * time.Millisecond)
	if r.unsafe() != "" {
		t.Error("an offset that may be a delay makes a clock unsafe")
	}
}

// TestMajorityIsNeverUnsafe: whatever the clocks of a minority do, and however they are asked, nodes of a majority whose
// clocks agree stay safe once measured, and none that is far off stays so.
func TestMajorityIsNeverUnsafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := 2*rapid.IntRange(1, 3).Draw(t, "half") + 1
		r := newRegion(make([]time.Duration, n)...)
		r.pass(1)
		bad := rapid.IntRange(0, n/2).Draw(t, "bad")
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			for i := range bad {
				r.off[i] = time.Duration(rapid.SampledFrom([]int64{-3600, -5, 0, 5, 3600, 315360000}).Draw(t, "off")) * time.Second
			}
			r.pass(rapid.IntRange(0, 3).Draw(t, "pass"))
			for i := range r.judges {
				v := r.decide(i)
				if i >= bad && v.Unsafe {
					t.Fatalf("node %d of the majority: %+v, clocks %v", i, v, r.off)
				}
				if i < bad && r.off[i] != 0 && !v.Unsafe {
					t.Fatalf("node %d is off by %v and safe: %+v", i, r.off[i], v)
				}
			}
		}
	})
}

func TestAnswersThatCannotBe(t *testing.T) {
	for _, b := range [][]byte{nil, {1}, {1, 2, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8}} {
		if _, err := decodeAnswer(b); err == nil {
			t.Errorf("%v is read", b)
		}
	}
	if checkQuestion(nil) == nil || checkQuestion([]byte{0}) == nil {
		t.Error("a bad question is answered")
	}
	newer := append(encodeAnswer(epoch), 7)
	newer[0] = 2
	if got, err := decodeAnswer(newer); err != nil || !got.Equal(epoch) {
		t.Errorf("a newer answer is %v, %v", got, err)
	}
	if checkQuestion([]byte{2, 5}) != nil {
		t.Error("a newer question is refused")
	}
}

// TestWitnessesConfirmAJump: of a machine that was suspended, say.
func TestWitnessesConfirmAJump(t *testing.T) {
	sure := func(ahead ...time.Duration) (all []Offset) {
		for _, a := range ahead {
			all = append(all, Offset{Ahead: a, Uncertainty: 50 * time.Millisecond})
		}
		return all
	}
	for _, c := range []struct {
		nodes     int
		witnesses []Offset
		unsafe    bool
	}{
		{1, nil, true},
		{1, sure(0), false},
		{1, sure(-time.Hour), true},
		{1, sure(0, -time.Hour), true}, // no majority
		{1, sure(0, 0, -time.Hour), false},
		{1, []Offset{{Ahead: 0, Uncertainty: time.Hour}}, true}, // they know nothing
		{3, sure(0, 0), true},                                   // its own region knows better
	} {
		r := newRegion(make([]time.Duration, c.nodes)...)
		r.pass(3)
		r.off[0] = time.Hour
		for range 2 { // with the witnesses' word the jump is believed, which takes two seconds
			v := r.judges[0].decide(r.read(0), r.steady[0].Jump(), c.witnesses)
			if v.confirmed && !v.Unsafe {
				r.steady[0].Accept()
			}
			if v.Unsafe != c.unsafe {
				t.Errorf("%d nodes, witnesses %+v: %+v", c.nodes, c.witnesses, v)
			}
		}
	}
}
