package figures

import "fmt"

// The contenders.
const (
	Atoll      = "atoll"
	AtollUnary = "atoll unary"
	Etcd       = "etcd"
	NATS       = "nats"
)

// Ours reports whether a contender is Atoll, by whichever client.
func Ours(contender string) bool { return contender == Atoll || contender == AtollUnary }

// Measure is what a target is about.
type Measure int

// The measures.
const (
	// Throughput is operations per second, as a multiple of a peer's.
	Throughput Measure = iota
	// TailShare is the 95th percentile of latency, as a share of a peer's.
	TailShare
	// Tail is the 95th percentile of latency in milliseconds.
	Tail
)

// Target is one thing that Atoll has to reach.
type Target struct {
	Row
	Contender, Peer string // no peer if the figure stands alone
	Measure         Measure
	// Bound is the least throughput ratio, or the largest latency.
	Bound float64
}

// Targets are those of the region's data plane.
func Targets() []Target {
	put16 := Row{Put, 256, 16}
	put256 := Row{Put, 256, 256}
	return []Target{
		{put256, Atoll, Etcd, Throughput, 4},
		{put256, Atoll, NATS, Throughput, 2},
		{put16, Atoll, "", Tail, 10},
		{put16, Atoll, Etcd, TailShare, 0.5},
		{Row{Get, 256, 256}, Atoll, Etcd, Throughput, 3},
		{Row{Eventual, 256, 64}, Atoll, Etcd, Throughput, 4},
		{put256, AtollUnary, Etcd, Throughput, 1.5},
	}
}

// String says what is to be reached.
func (t Target) String() string {
	switch t.Measure {
	case Throughput:
		return fmt.Sprintf("%s, %s: ≥ %g× %s", t.Contender, t.Row, t.Bound, t.Peer)
	case TailShare:
		return fmt.Sprintf("%s, %s: p95 ≤ %g of %s's", t.Contender, t.Row, t.Bound, t.Peer)
	default:
		return fmt.Sprintf("%s, %s: p95 < %g ms", t.Contender, t.Row, t.Bound)
	}
}

// Verdict says whether a target is reached.
type Verdict string

// The verdicts.
const (
	Pass      Verdict = "PASS"
	Miss      Verdict = "MISS"
	NotTested Verdict = "not run"
)

// Judged is a target and what was measured.
type Judged struct {
	Target
	Got     Spread
	Verdict Verdict
}

// Judge compares results with targets. The median decides; a contender with errors or wrong reads
// misses its targets, whatever its speed.
func (r Results) Judge(targets []Target) []Judged {
	judged := make([]Judged, len(targets))
	for i, t := range targets {
		judged[i] = r.judge(t)
	}
	return judged
}

func (r Results) judge(t Target) Judged {
	j := Judged{Target: t, Verdict: NotTested}
	own := r.Summary(t.Row, t.Contender)
	if own.Rounds == 0 {
		return j
	}
	reached := false
	if t.Measure == Tail {
		j.Got = own.P95
		reached = j.Got.Median < t.Bound
	} else {
		ratios, ok := r.Ratios(t.Row, t.Contender, t.Peer)
		if !ok {
			return j
		}
		if t.Measure == Throughput {
			j.Got = ratios.PerSecond
			reached = j.Got.Median >= t.Bound
		} else {
			j.Got = ratios.P95
			reached = j.Got.Median <= t.Bound
		}
	}
	j.Verdict = Miss
	if reached && own.Errors == 0 && own.Wrong == 0 {
		j.Verdict = Pass
	}
	return j
}
