package main

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/atolldb/atoll/bench/figures"
)

// row is one line of the comparison: the same work for every contender.
type row struct {
	Work string `json:"work"`
	// Size is the number of elements before.
	Size int `json:"elements"`
	// Batch is how many operations are done, and stored, at once.
	Batch int `json:"batch"`
}

func (r row) String() string { return fmt.Sprintf("%s, %d elements, by %d", r.Work, r.Size, r.Batch) }

// sample is what one round of one case measured.
type sample struct {
	row
	Contender  string  `json:"contender"`
	Round      int     `json:"round"`
	Ops        int     `json:"ops"`
	CPUSeconds float64 `json:"cpu_seconds"`
	Seconds    float64 `json:"seconds"`
}

// micros returns processor time per operation.
func (s sample) micros() float64 { return s.CPUSeconds * 1e6 / float64(s.Ops) }

// wallMicros returns time per operation.
func (s sample) wallMicros() float64 { return s.Seconds * 1e6 / float64(s.Ops) }

// meter adds up what an operation and all that belongs to it take.
type meter struct {
	cpu, wall time.Duration
	// overhead is the processor time that measuring takes, which counts for nothing.
	overhead time.Duration
}

// meterOverhead returns what it takes to measure nothing: about as much as a lookup.
func meterOverhead() time.Duration {
	const times = 5000
	var m meter
	for range times {
		_ = m.measure(func() error { return nil })
	}
	return m.cpu / times
}

// measure adds what f takes.
func (m *meter) measure(f func() error) error {
	cpu, began := processCPU(), time.Now()
	err := f()
	m.wall += time.Since(began)
	m.cpu += max(0, processCPU()-cpu-m.overhead)
	return err
}

func (m *meter) sample(r row, contender string, ops int) sample {
	return sample{row: r, Contender: contender, Ops: ops, CPUSeconds: m.cpu.Seconds(), Seconds: m.wall.Seconds()}
}

// processCPU returns the processor time that this process has used, collecting garbage included.
func processCPU() time.Duration {
	var r syscall.Rusage
	// Cannot fail: the arguments are valid.
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// count is a figure that is not a time: bytes, calls.
type count struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Round int     `json:"round"`
}

// results are all that a run measured.
type results struct {
	Samples []sample `json:"samples"`
	Counts  []count  `json:"counts"`
}

// rows returns the rows in the order in which they first appear.
func (r *results) rows() []row {
	var rows []row
	for _, s := range r.Samples {
		if !slices.Contains(rows, s.row) {
			rows = append(rows, s.row)
		}
	}
	return rows
}

// contenders returns who took part in a row, Atoll first.
func (r *results) contenders(at row) []string {
	var names []string
	for _, s := range r.Samples {
		if s.row == at && !slices.Contains(names, s.Contender) {
			names = append(names, s.Contender)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case ours(a) == ours(b):
			return 0
		case ours(a):
			return -1
		default:
			return 1
		}
	})
	return names
}

// spread puts a figure of a contender's rounds of a row together; there is none if it has no rounds.
func (r *results) spread(at row, contender string, figure func(sample) float64) (figures.Spread, bool) {
	var values []float64
	for _, s := range r.Samples {
		if s.row == at && s.Contender == contender {
			values = append(values, figure(s))
		}
	}
	return figures.SpreadOf(values), len(values) > 0
}

// counted puts the rounds of a count together.
func (r *results) counted(name string) (figures.Spread, bool) {
	var values []float64
	for _, c := range r.Counts {
		if c.Name == name {
			values = append(values, c.Value)
		}
	}
	return figures.SpreadOf(values), len(values) > 0
}

// measured is a contender in a row.
type measured struct {
	row
	contender string
}

// ratio divides the processor time per operation of one by that of another, round by round: a machine
// that slows down between rounds slows both.
func (r *results) ratio(one, other measured) (figures.Spread, bool) {
	var values []float64
	for _, a := range r.Samples {
		for _, b := range r.Samples {
			if a.row == one.row && a.Contender == one.contender && b.row == other.row &&
				b.Contender == other.contender && a.Round == b.Round && b.CPUSeconds > 0 {
				values = append(values, a.micros()/b.micros())
			}
		}
	}
	return figures.SpreadOf(values), len(values) > 0
}
