package figures

import (
	"fmt"
	"math"
	"strings"
)

// Markdown returns the results as Markdown: verdicts, figures, ratios.
func (r Results) Markdown(targets []Target) string {
	var b strings.Builder
	b.WriteString("### Targets\n\n")
	b.WriteString(Table(r.targetCells(targets)))
	b.WriteString("\n### Figures\n\n")
	b.WriteString("Median of the rounds, throughput and p95 with their range. Latency in ms, CPU in µs per operation: three servers together, and the client process.\n\n")
	b.WriteString(Table(r.figureCells()))
	b.WriteString("\n### Ratios\n\n")
	b.WriteString("Atoll's figure divided by the peer's, round by round; median and range. Throughput above 1 is better, all else below 1.\n\n")
	b.WriteString(Table(r.ratioCells()))
	return b.String()
}

func (r Results) targetCells(targets []Target) [][]string {
	cells := [][]string{{"Target", "Measured", "Range", "Verdict"}}
	for _, j := range r.Judge(targets) {
		got, spread := "", ""
		if j.Verdict != NotTested {
			unit := "×"
			if j.Measure == Tail {
				unit = " ms"
			}
			got, spread = Digits(j.Got.Median)+unit, Span(j.Got)
		}
		cells = append(cells, []string{j.Target.String(), got, spread, string(j.Verdict)})
	}
	return cells
}

func (r Results) figureCells() [][]string {
	cells := [][]string{{
		"Work", "Value", "Clients", "System", "ops/s", "range", "p50", "p95", "range", "p99",
		"server CPU", "client CPU", "disk B/op", "peak MiB", "errors",
	}}
	for _, s := range r.Summaries() {
		bad := fmt.Sprint(s.Errors)
		if s.Wrong > 0 {
			bad += fmt.Sprintf(" and %d WRONG READS", s.Wrong)
		}
		cells = append(cells, []string{
			string(s.Work), Size(s.Bytes), fmt.Sprint(s.Clients), s.Contender,
			Digits(s.PerSecond.Median), Span(s.PerSecond),
			Digits(s.P50.Median), Digits(s.P95.Median), Span(s.P95), Digits(s.P99.Median),
			Digits(s.ServerMicros.Median), Digits(s.ClientMicros.Median),
			Digits(s.WrittenPerOp.Median), fmt.Sprint(s.ResidentBytes >> 20), bad,
		})
	}
	return cells
}

func (r Results) ratioCells() [][]string {
	cells := [][]string{{"Work", "Value", "Clients", "Ratio", "ops/s", "range", "p50", "p95", "p99", "CPU/op"}}
	for _, x := range r.Compare(Ours) {
		cells = append(cells, []string{
			string(x.Work), Size(x.Bytes), fmt.Sprint(x.Clients), x.Contender + " / " + x.Peer,
			Digits(x.PerSecond.Median) + "×", Span(x.PerSecond),
			Digits(x.P50.Median) + "×", Digits(x.P95.Median) + "×", Digits(x.P99.Median) + "×", Digits(x.CPU.Median) + "×",
		})
	}
	return cells
}

// Digits prints a number with three significant digits, and thousands apart.
func Digits(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) >= 1000:
		step := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-2)
		return thousands(int64(math.Round(math.Round(v/step) * step)))
	case math.Abs(v) >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 9.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// Span prints the least and the most.
func Span(s Spread) string { return Digits(s.Min) + "–" + Digits(s.Max) }

// Table lays out Markdown cells, the first line of which are the headings. Columns whose cells all
// look like figures are aligned to the right.
func Table(cells [][]string) string {
	widths := make([]int, len(cells[0]))
	numeric := make([]bool, len(cells[0]))
	for c := range widths {
		numeric[c] = len(cells) > 1
		for l, line := range cells {
			widths[c] = max(widths[c], len([]rune(line[c])), 3)
			if l > 0 && line[c] != "" && !strings.ContainsRune("0123456789", rune(line[c][0])) {
				numeric[c] = false
			}
		}
	}
	var b strings.Builder
	for l, line := range cells {
		for c, cell := range line {
			fill := strings.Repeat(" ", widths[c]-len([]rune(cell)))
			if numeric[c] {
				b.WriteString("| " + fill + cell + " ")
			} else {
				b.WriteString("| " + cell + fill + " ")
			}
		}
		b.WriteString("|\n")
		if l > 0 {
			continue
		}
		for c, w := range widths {
			if numeric[c] {
				b.WriteString("|" + strings.Repeat("-", w+1) + ":")
			} else {
				b.WriteString("|" + strings.Repeat("-", w+2))
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}
