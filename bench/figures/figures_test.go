package figures

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the golden files")

var (
	put256 = Row{Put, 256, 256}
	put16  = Row{Put, 256, 16}
)

// sample returns one of a second, with all latencies the same.
func sample(contender string, row Row, round int, ops int64, ms float64) Sample {
	s := Sample{
		Row: row, Contender: contender, Round: round, Seconds: 1, Ops: ops,
		ServerCPU: 1.5, ClientCPU: 0.5, Written: ops * 1000, Resident: 64 << 20,
	}
	for range Percentiles() {
		s.Millis = append(s.Millis, ms)
	}
	return s
}

// results has three rounds, in which the machine halves its speed once.
func results() Results {
	var r Results
	for round, speed := range []float64{1, 0.5, 1} {
		for _, of := range []struct {
			contender string
			ops, ms   float64
		}{{Atoll, 40000, 8}, {AtollUnary, 10000, 20}, {Etcd, 8000, 30}, {NATS, 30000, 9}} {
			r = append(r, sample(of.contender, put256, round+1, int64(of.ops*speed), of.ms/speed))
		}
		r = append(r, sample(Atoll, put16, round+1, int64(4000*speed), 4/speed), sample(Etcd, put16, round+1, int64(2000*speed), 7/speed))
	}
	return r
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestSpread(t *testing.T) {
	equal(t, "of nothing", SpreadOf(nil), Spread{})
	equal(t, "of an odd number", SpreadOf([]float64{9, 1, 4}), Spread{4, 1, 9})
	equal(t, "of an even number", SpreadOf([]float64{9, 1, 4, 2}), Spread{3, 1, 9})
}

func TestHistogramsAreMerged(t *testing.T) {
	fast, slow := NewHistogram(), NewHistogram()
	for range 98 {
		Record(fast, time.Millisecond)
	}
	Record(slow, 100*time.Millisecond)
	Record(slow, 2*time.Hour)
	var s Sample
	s.SetLatencies([]*hdrhistogram.Histogram{fast, slow})
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > want/500 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("p50", s.Latency(50), 1)
	near("p99", s.Latency(99), 100)
	near("the largest, which is beyond the bounds,", s.MaxMillis, 60_000)
	equal(t, "a percentile that is not kept", s.Latency(42), 0)
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := results()
	ratios, ok := r.Ratios(put256, Atoll, Etcd)
	if !ok {
		t.Fatal("no ratios")
	}
	// The slow round is as slow for both.
	equal(t, "throughput", ratios.PerSecond, Spread{5, 5, 5})
	equal(t, "CPU per operation", ratios.CPU, Spread{0.2, 0.2, 0.2})
	if _, ok := r.Ratios(put16, Atoll, NATS); ok {
		t.Error("a ratio to a contender that did not take part")
	}
	equal(t, "the number of comparisons", len(r.Compare(Ours)), 5)
}

func TestSummary(t *testing.T) {
	r := results()
	r[0].Errors, r[6].Wrong = 2, 1
	s := r.Summary(put256, Atoll)
	equal(t, "throughput", s.PerSecond, Spread{40000, 20000, 40000})
	equal(t, "p95", s.P95, Spread{8, 8, 16})
	equal(t, "server CPU", s.ServerMicros, Spread{37.5, 37.5, 75})
	equal(t, "bytes written", s.WrittenPerOp, Spread{1000, 1000, 1000})
	equal(t, "errors", s.Errors, 2)
	equal(t, "wrong reads", s.Wrong, 1)
}

func verdicts(r Results) map[string]Verdict {
	v := map[string]Verdict{}
	for _, j := range r.Judge(Targets()) {
		v[j.Target.String()] = j.Verdict
	}
	return v
}

func TestVerdicts(t *testing.T) {
	v := verdicts(results())
	for target, want := range map[string]Verdict{
		"atoll, put 256 B, 256 clients: ≥ 4× etcd":          Pass,
		"atoll, put 256 B, 256 clients: ≥ 2× nats":          Miss,
		"atoll, put 256 B, 16 clients: p95 < 10 ms":         Pass,
		"atoll, put 256 B, 16 clients: p95 ≤ 0.5 of etcd's": Miss,
		"atoll, get 256 B, 256 clients: ≥ 3× etcd":          NotTested,
		"atoll, eventual get 256 B, 64 clients: ≥ 4× etcd":  NotTested,
		"atoll unary, put 256 B, 256 clients: ≥ 1.5× etcd":  Miss,
	} {
		equal(t, target, v[target], want)
	}
	equal(t, "the number of targets", len(v), 7)
}

func TestErrorsMissTargets(t *testing.T) {
	for what, spoil := range map[string]func(*Sample){
		"an error":     func(s *Sample) { s.Errors = 1 },
		"a wrong read": func(s *Sample) { s.Wrong = 1 },
	} {
		r := results()
		spoil(&r[0])
		equal(t, what, verdicts(r)["atoll, put 256 B, 256 clients: ≥ 4× etcd"], Miss)
	}
}

func TestDigits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.0123: "0.01", 1.234: "1.23", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 123.4: "123",
		1234: "1 230", 56789: "56 800", 1234567: "1 230 000", -4567: "-4 570",
	} {
		equal(t, "print", Digits(v), want)
	}
}

func TestSizesAsPeopleWriteThem(t *testing.T) {
	for n, want := range map[int]string{256: "256 B", 4096: "4 KiB", 65536: "64 KiB", 1 << 20: "1 MiB", 1500: "1500 B"} {
		equal(t, "size", Size(n), want)
	}
}

func TestMarkdown(t *testing.T) { golden(t, "report.md", results().Markdown(Targets())) }

func TestPlot(t *testing.T) {
	svg := Plot(results())
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal("not well-formed:", err)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("the plot has coordinates that are no numbers")
	}
	golden(t, "plot.svg", svg)
}

// TestPlotOfAlmostNothing draws what a broken run may leave.
func TestPlotOfAlmostNothing(t *testing.T) {
	for _, r := range []Results{nil, {{Row: put16, Contender: Etcd}}, {sample(Atoll, put16, 1, 1, 0)}} {
		svg := Plot(r)
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("%v: coordinates that are no numbers", r)
		}
	}
}

func TestTicks(t *testing.T) {
	for most, want := range map[float64]float64{0: 1, 3240: 1000, 40000: 10000, 100: 20, 610: 200} {
		equal(t, "step", niceStep(most), want)
	}
}

func TestJSONKeepsTheRow(t *testing.T) {
	text, err := json.Marshal(sample(Atoll, put16, 2, 7, 1))
	if err != nil {
		t.Fatal(err)
	}
	var back Sample
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	equal(t, "row", back.Row, put16)
	equal(t, "ops", back.Ops, 7)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", name, got, want)
	}
}
