package crdt

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/hlc"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

// hllEvent is a delete or, with registers, an add that raised them.
type hllEvent struct {
	dot       Dot
	at        hlc.Time
	registers hllRegisters
}

// hllSpec returns the registers that were raised after the latest delete.
func hllSpec(events []hllEvent, seen map[Dot]bool) (m hllMaxima) {
	var deleted hlc.Time
	for _, e := range events {
		if seen[e.dot] && len(e.registers) == 0 {
			deleted = max(deleted, e.at)
		}
	}
	for _, e := range events {
		if seen[e.dot] && e.at > deleted {
			m.raise(e.registers)
		}
	}
	return m
}

// hllRaised returns the registers of elements that are larger than m's.
func hllRaised(m hllMaxima, elements []string) (raised hllRegisters) {
	for _, element := range elements {
		hash := xxh3.HashString(element)
		r := hllRegister{uint16(hash >> 50), uint8(51 - bits.Len64(hash&(1<<50-1)))}
		if r.value > m[r.index] {
			m[r.index] = r.value
			raised = raised.join(hllRegisters{r})
		}
	}
	return raised
}

func hllMaximaOf(h HLL) (m hllMaxima) {
	for _, l := range h.layers {
		m.raise(l.registers)
	}
	return m
}

// hllCrowd returns elements that share three registers, so that few adds meet often.
func hllCrowd() (crowd []string) {
	for n := 0; len(crowd) < 12; n++ {
		if element := fmt.Sprint(n); hashElement(element).index < 3 {
			crowd = append(crowd, element)
		}
	}
	return crowd
}

// hllRun is a run of replicas of one HLL. A replica's clock is after all that it has seen.
type hllRun struct {
	*run
	clock     [3]hlc.Time
	replicas  [3]HLL
	events    []hllEvent
	states    []HLL
	deltas    []HLL
	collapsed bool
}

// horizon returns an instant up to which replica i has seen all events, for good.
func (r *hllRun) horizon(i int) hlc.Time {
	horizon := slices.Min(r.clock[:])
	for _, e := range r.events {
		if !r.seen[i][e.dot] {
			horizon = min(horizon, e.at-1)
		}
	}
	return horizon
}

func (r *hllRun) operate(t *rapid.T, i int, crowd []string) {
	h, old := &r.replicas[i], r.replicas[i].Clone()
	before := hllSpec(r.events, r.seen[i])
	r.clock[i] += hlc.Time(between(1, 3).Draw(t, "step"))
	d, _ := r.next(i)
	e := hllEvent{dot: d, at: r.clock[i]}
	var delta HLL
	if between(0, 3).Draw(t, "deletes") == 0 {
		delta = h.Delete(e.at)
		r.events = append(r.events, e)
	} else {
		elements := rapid.SliceOfN(rapid.SampledFrom(crowd), 1, 3).Draw(t, "elements")
		e.registers = hllRaised(before, elements)
		if delta = h.Add(e.at, elements...); delta.Empty() != (len(e.registers) == 0) {
			t.Fatalf("%+v is the change that raises %v", delta, e.registers)
		}
		if len(e.registers) > 0 {
			r.events = append(r.events, e)
		}
	}
	r.deltas = append(r.deltas, delta)
	roundTrip(t, delta, DecodeHLL, HLL.Equal)
	if old.Join(delta); !old.Equal(*h) {
		t.Fatalf("joining the change %+v gives %+v, not %+v", delta, old, *h)
	}
}

func TestHLL(t *testing.T) {
	crowd := hllCrowd()
	rapid.Check(t, func(t *rapid.T) {
		r := &hllRun{run: newRun(), states: []HLL{{}}}
		for range between(1, 25).Draw(t, "steps") {
			i := between(0, 2).Draw(t, "replica")
			h := &r.replicas[i]
			switch from := between(-4, 2).Draw(t, "from"); {
			case from >= 0:
				h.Join(r.replicas[from])
				r.pull(i, from)
				r.clock[i] = max(r.clock[i], r.clock[from])
			case from == -1:
				before, cut := *h, r.horizon(i)
				*h = h.Clone()
				h.Collapse(cut)
				r.collapsed = r.collapsed || !h.Equal(before)
				if !h.Maximum().Equal(before.Maximum()) {
					t.Fatalf("collapsed, %+v is %+v", before, *h)
				}
				if len(h.layers) > 1 && h.layers[1].at <= cut {
					t.Fatalf("two layers up to %d: %+v", cut, *h)
				}
			default:
				r.operate(t, i, crowd)
			}
			want := hllSpec(r.events, r.seen[i])
			if got := hllMaximaOf(*h); got != want || h.Empty() != (want == hllMaxima{}) {
				t.Fatalf("registers %v, want %v: %+v", got[:3], want[:3], *h)
			}
			roundTrip(t, *h, DecodeHLL, HLL.Equal)
			r.states = append(r.states, h.Clone())
		}
		join := func(a, b HLL) HLL {
			a = a.Clone()
			a.Join(b)
			return a
		}
		checkLaws(t, r.states, join, HLL.Equal)
		checkHLLDeltas(t, r, join)
	})
}

// checkHLLDeltas joins all changes, in any order and with repetitions, and compares with the states.
func checkHLLDeltas(t *rapid.T, r *hllRun, join func(a, b HLL) HLL) {
	all := join(join(r.replicas[0], r.replicas[1]), r.replicas[2])
	var joined HLL
	for _, delta := range slices.Concat(rapid.Permutation(r.deltas).Draw(t, "order"), r.deltas) {
		joined = join(joined, delta)
	}
	if hllMaximaOf(joined) != hllMaximaOf(all) {
		t.Fatalf("all changes give %+v, the states %+v", joined, all)
	}
	if !r.collapsed && !joined.Equal(all) {
		t.Fatalf("all changes give %+v, the states %+v", joined, all)
	}
}

// TestHLLDelete: a delete takes away what is earlier, concurrent or not, and nothing that is later.
func TestHLLDelete(t *testing.T) {
	var a, b HLL
	a.Add(1, "x", "y")
	b.Join(a)
	b.Delete(10)
	a.Add(10, "z")
	b.Join(a)
	if b.Count() != 0 || !b.Empty() || b.Latest() != 10 {
		t.Fatalf("count %d after the delete", b.Count())
	}
	a.Add(11, "w")
	b.Join(a)
	a.Join(b)
	if a.Count() != 1 || b.Count() != 1 || a.Deleted() != 10 || a.Latest() != 11 {
		t.Fatalf("count %d, deleted at %d", a.Count(), a.Deleted())
	}
}

// TestHLLCollapse: layers become one when no delete can come between them any more.
func TestHLLCollapse(t *testing.T) {
	var a, b HLL
	a.Delete(4)
	a.Add(5, "x", "y")
	b.Add(8, "y", "z")
	a.Join(b)
	if len(a.layers) != 2 || a.Count() != 3 || len(a.layers[0].registers) != 1 {
		t.Fatalf("%+v", a)
	}
	for cut, want := range map[hlc.Time]struct {
		layers  int
		deleted hlc.Time
	}{3: {2, 4}, 4: {2, 0}, 7: {2, 0}, 8: {1, 0}, 9: {1, 0}} {
		c := a.Clone()
		if c.Collect(cut); len(c.layers) != want.layers || c.Count() != 3 || c.Deleted() != want.deleted {
			t.Fatalf("up to %d: %+v", cut, c)
		}
		if c.Join(a); len(c.layers) != want.layers {
			t.Fatalf("the layers come back: %+v", c)
		}
		if c.Delete(9); !c.Empty() {
			t.Fatalf("a delete leaves %+v", c)
		}
	}
	if len(a.layers) != 2 {
		t.Fatal("a clone shares memory")
	}
}

// TestHLLError compares the count with the truth, on the way to a million elements, for five fixed
// sets of elements.
func TestHLLError(t *testing.T) {
	const seeds, standardError = 5, 1.04 / 128
	squares := map[int]float64{}
	for seed := range seeds {
		var h HLL
		added := 0
		for _, n := range []int{10, 100, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000} {
			elements := make([]string, 0, n-added)
			for ; added < n; added++ {
				elements = append(elements, fmt.Sprintf("%d/%d", seed, added))
			}
			h.Add(hlc.Time(n), elements...)
			miss := float64(h.Count())/float64(n) - 1
			if n == 10 && miss != 0 || math.Abs(miss) > 3.5*standardError {
				t.Errorf("seed %d: %d counted as %d, %+.2f %% off", seed, n, h.Count(), 100*miss)
			}
			squares[n] += miss * miss / seeds
		}
		roundTrip(t, h, DecodeHLL, HLL.Equal)
	}
	for _, n := range slices.Sorted(maps.Keys(squares)) {
		rms := math.Sqrt(squares[n])
		t.Logf("%7d elements: error %.2f %%", n, 100*rms)
		if rms > 1.5*standardError {
			t.Errorf("%d elements: error %.2f %%", n, 100*rms)
		}
	}
}

// TestHLLEstimate draws registers as n elements would leave them: a register is at most k with
// probability exp(-n / (size · 2^k)). The largest n has many registers of the largest value. The mean
// of many draws shows a bias that is smaller than the error of one.
func TestHLLEstimate(t *testing.T) {
	const draws = 16
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []float64{1e5, 1e9, 1e15, 1e17, 1e18, 3e18, 1e19} {
		mean := 0.0
		for range draws {
			var having [hllMaxValue + 1]float64
			for range hllSize {
				k := math.Ceil(math.Log2(n / hllSize / -math.Log(random.Float64())))
				having[int(min(max(k, 0), hllMaxValue))]++
			}
			mean += float64(estimate(having)) / draws
		}
		if miss := mean/n - 1; math.Abs(miss) > 0.005 {
			t.Errorf("%g counted as %g, %+.2f %% off", n, mean, 100*miss)
		}
	}
	if got := estimate([hllMaxValue + 1]float64{hllMaxValue: hllSize}); got != math.MaxUint64 {
		t.Errorf("full registers counted as %d", got)
	}
	if got := estimate([hllMaxValue + 1]float64{0: hllSize}); got != 0 {
		t.Errorf("empty registers counted as %d", got)
	}
	// With all registers in the middle range it is the raw estimate of the first paper.
	if got, raw := estimate([hllMaxValue + 1]float64{9: hllSize}), hllSize*math.Exp2(9)/(2*math.Ln2); got != uint64(math.Round(raw)) {
		t.Errorf("equal registers counted as %d, want %f", got, raw)
	}
}

// TestHLLSeries holds the two series of the estimate to equations that follow from their definitions:
// sigma(x) = x - x² + 2 sigma(x²) and tau(x) = (√x - x + tau(√x)) / 2.
func TestHLLSeries(t *testing.T) {
	for n := 1; n < hllSize; n += 111 {
		x := float64(n) / hllSize
		if got, want := estimateSigma(x), x-x*x+2*estimateSigma(x*x); math.Abs(got/want-1) > 1e-12 {
			t.Errorf("sigma(%g) is %g, want %g", x, got, want)
		}
		root := math.Sqrt(x)
		if got, want := estimateTau(x), (root-x+estimateTau(root))/2; math.Abs(got-want) > 1e-12 {
			t.Errorf("tau(%g) is %g, want %g", x, got, want)
		}
	}
}

// TestHLLForms holds the encodings at the border between sparse and dense to fixed hashes: the dense
// one is too long for the golden file.
func TestHLLForms(t *testing.T) {
	for _, c := range []struct {
		registers, size int
		hash            uint64
	}{{4095, 8202, 0xb8036acff529a5e3}, {4096, 12300, 0xcaf7200359421f98}, {hllSize, 12301, 0x4eea583ae689e4c6}} {
		l := hllLayer{at: 1}
		for i := range c.registers {
			l.registers = append(l.registers, hllRegister{uint16(i * (hllSize / c.registers)), uint8(1 + i%hllMaxValue)})
		}
		h := HLL{layers: []hllLayer{l}}
		data := h.Append(nil)
		if len(data) != c.size || xxh3.Hash(data) != c.hash {
			t.Errorf("%d registers: %d bytes, hash %#x", c.registers, len(data), xxh3.Hash(data))
		}
		roundTrip(t, h, DecodeHLL, HLL.Equal)
		if _, err := DecodeHLL(data[:len(data)-1]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d registers without the last byte: %v", c.registers, err)
		}
	}
}

// TestDecodeHLLRefuses feeds what no encoder writes.
func TestDecodeHLLRefuses(t *testing.T) {
	instant := func(n int) string { return fmt.Sprintf("%016x", n) }
	dense := strings.Repeat("041041", hllSize/4) // all registers are 1
	for _, c := range []struct{ hex, reason string }{
		{"", "ends early"},
		{"0200", "unknown version"},
		{"0102", "unknown flags"},
		{"0101" + instant(0), "flagged but 0"},
		{"0100" + "000000", "ends early"},
		{"0100" + instant(1), "bad varint"},
		{"0100" + instant(1) + "00", "without registers"},
		{"0100" + instant(1) + "818001", "over the limit"},
		{"0100" + instant(1) + "02" + "0001", "bad varint"},
		{"0100" + instant(1) + "01" + "00", "ends early"},
		{"0100" + instant(1) + "01" + "0000", "register value 0"},
		{"0100" + instant(1) + "01" + "0034", "register value 52"},
		{"0100" + instant(1) + "01" + "80800101", "over the limit"},
		{"0100" + instant(1) + "02" + "ff7f01" + "0001", "more registers"},
		{"0100" + instant(2) + "01" + "0001" + instant(1) + "01" + "0002", "out of order"},
		{"0100" + instant(1) + "01" + "0001" + instant(1) + "01" + "0001", "out of order"},
		{"0100" + instant(1) + "01" + "0001" + instant(2) + "01" + "0001", "void"},
		{"0101" + instant(2) + instant(2) + "01" + "0001", "void"},
		{"0100" + instant(1) + "808001" + dense[2:], "ends early"},
		{"0100" + instant(1) + "ff7f" + dense, "16384 registers instead of 16383"},
		{"0100" + instant(1) + "808001" + "d00000" + dense[6:], "register value 52"},
	} {
		data, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		_, err = DecodeHLL(data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%.60s: %v, want %s", c.hex, err, c.reason)
		}
	}
}
