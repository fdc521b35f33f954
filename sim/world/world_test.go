package world

import (
	"flag"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
	"github.com/atolldb/atoll/region"
)

// usual is how many schedules are enough to need every mechanism.
const usual = 200

var (
	schedules = flag.Uint64("schedules", usual, "how many schedules to run")
	firstSeed = flag.Uint64("seed", 1, "the first one's seed")
	replays   = flag.Uint64("replays", 20, "how many schedules to run twice")
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestSchedules(t *testing.T) {
	sweep := Sweep{First: *firstSeed, Count: *schedules, Workers: runtime.GOMAXPROCS(0)}
	c, failure, err := sweep.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if failure != nil {
		t.Fatalf("seed %d: %v", failure.Seed, failure.Failure)
	}
	t.Logf("%+v", c)
	if *schedules < usual {
		return
	}
	for k := ChangeLeader; k < kinds; k++ {
		if c.Faults[k] == 0 {
			t.Errorf("no %v happened", k)
		}
	}
	for i, n := range c.numbers() {
		if *n == 0 {
			t.Errorf("a mechanism was never needed: number %d of %+v", i, c)
		}
	}
}

// The same plan has the same run, bit for bit, whatever ran before.
func TestSameSeedSameTrace(t *testing.T) {
	a, b := newRunner(t), newRunner(t)
	traces := map[uint64]uint64{}
	for i := range *replays {
		seed := *firstSeed + i
		first := a.Run(Draw(seed), nil)
		traces[first.Trace]++
		b.Run(Draw(seed+1), nil)
		told := 0
		second := b.Run(Draw(seed), func(time.Duration, string, bool) { told++ })
		if first.Trace != second.Trace || first.Counts != second.Counts {
			t.Fatalf("seed %d: %x and %x, %+v and %+v", seed, first.Trace, second.Trace, first.Counts, second.Counts)
		}
		if told == 0 {
			t.Errorf("seed %d: nothing is told", seed)
		}
	}
	if uint64(len(traces)) != *replays {
		t.Errorf("%d seeds have %d traces", *replays, len(traces))
	}
}

func newRunner(t *testing.T) *Runner {
	t.Helper()
	r, err := NewRunner()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// runOnly runs so many plans of a kind, all of which must hold, and returns what happened in them.
func runOnly(t *testing.T, schedules uint64, of func(*Plan) bool) (c Counts) {
	t.Helper()
	r := newRunner(t)
	for seed, ran := *firstSeed, uint64(0); ran < schedules; seed++ {
		p := Draw(seed)
		if !of(p) {
			continue
		}
		ran++
		res := r.Run(p, nil)
		if res.Failure != nil {
			t.Fatalf("seed %d: %v", seed, res.Failure)
		}
		c.Add(&res.Counts)
	}
	return c
}

func TestReductionsAreWrittenAndRead(t *testing.T) {
	for _, text := range []string{"", "keep=", "keep=1,4,9-12", "keep=0-3;regions=2;nodes=1;calm=loss,flip;length=2.5s"} {
		r, err := ParseReduction(text)
		if err != nil || r.String() != text {
			t.Errorf("%q is read as %q, %v", text, r, err)
		}
	}
	for _, text := range []string{"keep=x", "regions=1", "keep=1-99999999", "what=3", "length=x", "nodes=-1"} {
		if r, err := ParseReduction(text); err == nil {
			t.Errorf("%q is read as %v", text, r)
		}
	}
	p := Draw(3)
	if q := (&Reduction{}).Apply(p); len(q.Happenings) != len(p.Happenings) || q.Rates != p.Rates || !slices.Equal(q.Core, p.Core) {
		t.Errorf("nothing is left out, and yet %+v of %+v", q, p)
	}
	p.Quota, p.Fold, p.Relay, p.Homes = 1, &region.FoldBounds{}, true, true
	p.Happenings = append(p.Happenings, Happening{Kind: WriteHome}, Happening{Kind: MoveHome})
	q := (&Reduction{Calm: []string{"quota", "folding", "relay", "homes"}}).Apply(p)
	if q.Quota > 0 || q.Fold != nil || q.Relay || q.Homes || !p.Homes || len(q.Happenings) != len(p.Happenings)-2 {
		t.Errorf("every mechanism is left out, and yet %+v", q)
	}
}

// A run that fails is shrunk to one that fails alike, and that is told.
func TestAFailureIsShrunkAndTold(t *testing.T) {
	r := newRunner(t)
	r.lies = true
	var failed *Failure
	seed := uint64(1)
	for ; failed == nil; seed++ {
		if seed > 20 {
			t.Fatal("watermarks lie, and nothing notices")
		}
		failed = r.Run(Draw(seed), nil).Failure
	}
	seed--
	var told strings.Builder
	if err := r.Blame(&told, Draw(seed), failed); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(told.String(), "--reduce '")
	text, _, found := strings.Cut(rest, "'")
	if !found || !strings.Contains(told.String(), "NOT SO: "+failed.Invariant) {
		t.Fatalf("told is\n%s", told.String())
	}
	reduction, err := ParseReduction(text)
	if err != nil {
		t.Fatal(err)
	}
	small := reduction.Apply(Draw(seed))
	if again := r.Run(small, nil).Failure; again == nil || again.Invariant != failed.Invariant {
		t.Errorf("the reduced run ends with %v, not with %v", again, failed)
	}
	if n := len(small.Happenings); n > 4 || small.Regions != 2 {
		t.Errorf("%d happenings in %d regions are left: %s", n, small.Regions, text)
	}
}

// Regions that have everything send each other ticks and watermarks, and nothing else.
func TestNothingMovesWithoutNeed(t *testing.T) {
	r := newRunner(t)
	p := Draw(1)
	p.Rates, p.Skew, p.Core = Rates{}, 0, nil
	for i := range p.Regions {
		p.Core = append(p.Core, i)
	}
	p.Happenings = slices.DeleteFunc(p.Happenings, func(h Happening) bool { return h.Kind != Write })
	w := newWorld(p, r.mouths, nil)
	w.play()
	if w.failure != nil {
		t.Fatal(w.failure)
	}
	before := w.counts
	w.run(w.now + 10*time.Minute)
	if w.failure != nil {
		t.Fatal(w.failure)
	}
	if c := w.counts; c.Published != before.Published || c.Events != before.Events || c.Fetches != before.Fetches || c.Applied > before.Applied+10 {
		t.Errorf("while idle %+v came out of %+v", c, before)
	}
	if before.Published == 0 || before.Gaps != 0 {
		t.Errorf("a run without faults: %+v", before)
	}
}
