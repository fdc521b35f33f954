package figures

import (
	"cmp"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Work is a kind of operation.
type Work string

// The kinds of work.
const (
	Put      Work = "put"
	Get      Work = "get"
	Eventual Work = "eventual get"
	Mix      Work = "80/20 mix"
)

// Row is one line of the comparison: the same work for every contender.
type Row struct {
	Work    Work `json:"work"`
	Bytes   int  `json:"value_bytes"`
	Clients int  `json:"clients"`
}

// String returns the row as a reader would name it.
func (r Row) String() string {
	return fmt.Sprintf("%s %s, %d clients", r.Work, Size(r.Bytes), r.Clients)
}

// Size prints a number of bytes as people write it.
func Size(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

// Percentiles are those that a Sample keeps, in order.
func Percentiles() []float64 { return []float64{50, 75, 90, 95, 99, 99.9} }

// Sample is what one round of one contender measured.
type Sample struct {
	Row
	Contender string  `json:"contender"`
	Round     int     `json:"round"`
	Seconds   float64 `json:"seconds"`
	Ops       int64   `json:"ops"`
	Errors    int64   `json:"errors"`
	// Wrong counts reads whose value was not one that had to be there.
	Wrong int64 `json:"wrong_reads"`
	// Millis are the latencies at Percentiles; MaxMillis is the largest.
	Millis    []float64 `json:"latency_ms"`
	MaxMillis float64   `json:"latency_max_ms"`
	// CPU is processor time in seconds: that of the three servers, that of the client process, and that
	// of everything else on the machine in the meantime.
	ServerCPU float64 `json:"server_cpu_seconds"`
	ClientCPU float64 `json:"client_cpu_seconds"`
	OtherCPU  float64 `json:"other_cpu_seconds"`
	// Written is what the servers had written to disk, as the kernel counts.
	Written int64 `json:"server_written_bytes"`
	// Resident is the largest resident memory of a server so far.
	Resident int64 `json:"server_peak_resident_bytes"`
}

// PerSecond returns operations per second.
func (s Sample) PerSecond() float64 { return per(float64(s.Ops), s.Seconds) }

// Latency returns the latency in milliseconds at one of Percentiles, 0 if it was not kept.
func (s Sample) Latency(percentile float64) float64 {
	for i, p := range Percentiles() {
		if p == percentile && i < len(s.Millis) {
			return s.Millis[i]
		}
	}
	return 0
}

// ServerMicros returns the servers' CPU time per operation in microseconds.
func (s Sample) ServerMicros() float64 { return per(s.ServerCPU*1e6, float64(s.Ops)) }

// ClientMicros returns the client's CPU time per operation in microseconds.
func (s Sample) ClientMicros() float64 { return per(s.ClientCPU*1e6, float64(s.Ops)) }

// TotalMicros returns the CPU time per operation in microseconds, servers and client together.
func (s Sample) TotalMicros() float64 { return s.ServerMicros() + s.ClientMicros() }

// WrittenPerOp returns the bytes written to disk per operation.
func (s Sample) WrittenPerOp() float64 { return per(float64(s.Written), float64(s.Ops)) }

func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// Bounds of what a latency histogram tells apart: a microsecond, up to a minute, to three digits.
const (
	lowestMicros  = 1
	highestMicros = 60_000_000
	digits        = 3
)

// NewHistogram returns an empty histogram of microseconds.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(lowestMicros, highestMicros, digits)
}

// Record notes one latency. One beyond the histogram's bounds counts as the bound.
func Record(h *hdrhistogram.Histogram, took time.Duration) {
	// Cannot fail: the value is within the bounds.
	_ = h.RecordValue(min(max(took.Microseconds(), lowestMicros), highestMicros))
}

// SetLatencies takes the latencies of a sample from histograms, which it merges.
func (s *Sample) SetLatencies(parts []*hdrhistogram.Histogram) {
	all := NewHistogram()
	for _, h := range parts {
		all.Merge(h) // drops nothing: all have the same bounds
	}
	s.Millis = s.Millis[:0]
	for _, p := range Percentiles() {
		s.Millis = append(s.Millis, float64(all.ValueAtPercentile(p))/1e3)
	}
	s.MaxMillis = float64(all.Max()) / 1e3
}

// Compare orders rows as the report shows them.
func (r Row) Compare(o Row) int {
	order := map[Work]int{Put: 0, Get: 1, Eventual: 2, Mix: 3}
	return cmp.Or(cmp.Compare(order[r.Work], order[o.Work]), cmp.Compare(r.Bytes, o.Bytes), cmp.Compare(r.Clients, o.Clients))
}
