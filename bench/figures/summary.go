package figures

import (
	"slices"
)

// Spread is a figure over several rounds.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// SpreadOf returns the spread of values, zero if there are none.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	middle := v[len(v)/2]
	if len(v)%2 == 0 {
		middle = (v[len(v)/2-1] + middle) / 2
	}
	return Spread{Median: middle, Min: v[0], Max: v[len(v)-1]}
}

// Summary is what a contender did in a row, over all rounds.
type Summary struct {
	Row
	Contender string `json:"contender"`
	Rounds    int    `json:"rounds"`

	PerSecond    Spread `json:"ops_per_second"`
	P50          Spread `json:"p50_ms"`
	P95          Spread `json:"p95_ms"`
	P99          Spread `json:"p99_ms"`
	ServerMicros Spread `json:"server_cpu_us_per_op"`
	ClientMicros Spread `json:"client_cpu_us_per_op"`
	TotalMicros  Spread `json:"total_cpu_us_per_op"`
	WrittenPerOp Spread `json:"server_written_bytes_per_op"`
	Errors       int64  `json:"errors"`
	Wrong        int64  `json:"wrong_reads"`
	// Curve is the median latency in milliseconds at Percentiles.
	Curve []float64 `json:"latency_ms"`
	// ResidentBytes is the largest resident memory of a server.
	ResidentBytes int64 `json:"server_peak_resident_bytes"`
}

// Ratios compare one contender with another in the same row: the first's figure divided by the
// second's, round by round, because a machine that slows down between rounds slows both.
type Ratios struct {
	Row
	Contender string `json:"contender"`
	Peer      string `json:"peer"`

	PerSecond Spread `json:"ops_per_second"`
	P50       Spread `json:"p50"`
	P95       Spread `json:"p95"`
	P99       Spread `json:"p99"`
	CPU       Spread `json:"cpu_per_op"`
}

// Results are all samples of a run.
type Results []Sample

// Rows returns the rows in which something was measured, in the order of the report.
func (r Results) Rows() []Row {
	var rows []Row
	for _, s := range r {
		if !slices.Contains(rows, s.Row) {
			rows = append(rows, s.Row)
		}
	}
	slices.SortFunc(rows, Row.Compare)
	return rows
}

// Contenders returns who took part in a row, in the order in which they first appear.
func (r Results) Contenders(row Row) []string {
	var names []string
	for _, s := range r {
		if s.Row == row && !slices.Contains(names, s.Contender) {
			names = append(names, s.Contender)
		}
	}
	return names
}

// of returns a contender's samples of a row.
func (r Results) of(row Row, contender string) Results {
	var found Results
	for _, s := range r {
		if s.Row == row && s.Contender == contender {
			found = append(found, s)
		}
	}
	return found
}

func (r Results) spread(figure func(Sample) float64) Spread {
	values := make([]float64, len(r))
	for i, s := range r {
		values[i] = figure(s)
	}
	return SpreadOf(values)
}

// at returns a figure: the latency at a percentile.
func at(percentile float64) func(Sample) float64 {
	return func(s Sample) float64 { return s.Latency(percentile) }
}

// Summary puts a contender's rounds of a row together.
func (r Results) Summary(row Row, contender string) Summary {
	own := r.of(row, contender)
	sum := Summary{
		Row: row, Contender: contender, Rounds: len(own),
		PerSecond: own.spread(Sample.PerSecond),
		P50:       own.spread(at(50)), P95: own.spread(at(95)), P99: own.spread(at(99)),
		ServerMicros: own.spread(Sample.ServerMicros),
		ClientMicros: own.spread(Sample.ClientMicros),
		TotalMicros:  own.spread(Sample.TotalMicros),
		WrittenPerOp: own.spread(Sample.WrittenPerOp),
	}
	for _, p := range Percentiles() {
		sum.Curve = append(sum.Curve, own.spread(at(p)).Median)
	}
	for _, s := range own {
		sum.Errors += s.Errors
		sum.Wrong += s.Wrong
		sum.ResidentBytes = max(sum.ResidentBytes, s.Resident)
	}
	return sum
}

// Summaries returns the summaries of all rows and contenders.
func (r Results) Summaries() []Summary {
	var all []Summary
	for _, row := range r.Rows() {
		for _, c := range r.Contenders(row) {
			all = append(all, r.Summary(row, c))
		}
	}
	return all
}

// Ratios compares two contenders in a row. It reports false if they have no round in common.
func (r Results) Ratios(row Row, contender, peer string) (Ratios, bool) {
	type pair struct{ own, peer Sample }
	var pairs []pair
	for _, s := range r.of(row, contender) {
		for _, p := range r.of(row, peer) {
			if s.Round == p.Round && s.Ops > 0 && p.Ops > 0 {
				pairs = append(pairs, pair{s, p})
			}
		}
	}
	spread := func(figure func(Sample) float64) Spread {
		var values []float64
		for _, p := range pairs {
			if theirs := figure(p.peer); theirs > 0 {
				values = append(values, figure(p.own)/theirs)
			}
		}
		return SpreadOf(values)
	}
	return Ratios{
		Row: row, Contender: contender, Peer: peer,
		PerSecond: spread(Sample.PerSecond),
		P50:       spread(at(50)), P95: spread(at(95)), P99: spread(at(99)),
		CPU: spread(Sample.TotalMicros),
	}, len(pairs) > 0
}

// Compare returns the ratios of every contender that isOurs names against every other, row by row.
func (r Results) Compare(isOurs func(contender string) bool) []Ratios {
	var all []Ratios
	for _, row := range r.Rows() {
		names := r.Contenders(row)
		for _, own := range names {
			if !isOurs(own) {
				continue
			}
			for _, peer := range names {
				if isOurs(peer) {
					continue
				}
				if ratios, ok := r.Ratios(row, own, peer); ok {
					all = append(all, ratios)
				}
			}
		}
	}
	return all
}
