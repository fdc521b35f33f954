package figures

import (
	"fmt"
	"math"
	"slices"
)

// Sizes of the plot, in pixels.
const (
	plotWidth  = 980
	plotTop    = 64 // title and legend
	bandHeight = 220
	bandTitle  = 34 // above each band's panels
	panelLower = 46 // below each band's panels: tick labels and the axis's name
	barsLeft   = 100
	barsWidth  = 340
	curveLeft  = 590
	curveWidth = 360
)

const (
	ink   = "#222222"
	faint = "#666666"
	grid  = "#e2e2e2"
)

// colour of a contender; they can be told apart with any colour vision.
func colour(contender string) string {
	switch contender {
	case Atoll:
		return "#0072b2"
	case AtollUnary:
		return "#56b4e9"
	case Etcd:
		return "#e69f00"
	case NATS:
		return "#009e73"
	default:
		return "#999999"
	}
}

// Plot draws the results as SVG: a band for each row, with throughput on the left and latency
// percentiles on the right.
func Plot(r Results) string {
	d := &drawing{}
	rows := r.Rows()
	d.open(plotWidth, plotTop+float64(len(rows))*bandHeight+12)
	d.text(16, 28, left, 18, ink, "Throughput and latency: three servers, one client process, one machine")
	x := 16.0
	for _, c := range []string{Atoll, AtollUnary, Etcd, NATS} {
		if !slices.ContainsFunc(r, func(s Sample) bool { return s.Contender == c }) {
			continue
		}
		d.rect(x, 40, 12, 12, colour(c))
		d.text(x+17, 50.5, left, 12, ink, c)
		x += 40 + 7*float64(len(c))
	}
	d.text(plotWidth-16, 50.5, right, 12, faint, "bars: median of the rounds, lines on them: least to most")
	for i, row := range rows {
		r.band(d, row, plotTop+float64(i)*bandHeight)
	}
	return d.close()
}

// band draws one row, from y downwards.
func (r Results) band(d *drawing, row Row, y float64) {
	d.line(16, y, plotWidth-16, y, grid, 1)
	d.text(16, y+21, left, 14, ink, row.String())
	var sums []Summary
	for _, c := range r.Contenders(row) {
		sums = append(sums, r.Summary(row, c))
	}
	bars(d, sums, y+bandTitle)
	curves(d, sums, y+bandTitle)
}

const panelHeight = bandHeight - bandTitle - panelLower

// bars draws throughput.
func bars(d *drawing, sums []Summary, y float64) {
	most := 0.0
	for _, s := range sums {
		most = max(most, s.PerSecond.Max)
	}
	step := niceStep(most)
	end := step * math.Ceil(max(most, step)/step*1.02)
	scale := func(v float64) float64 { return barsLeft + barsWidth*v/end }
	for v := 0.0; v <= end+step/2; v += step {
		d.line(scale(v), y, scale(v), y+panelHeight, grid, 1)
		d.text(scale(v), y+panelHeight+15, middle, 11, faint, short(v))
	}
	d.text(barsLeft+barsWidth/2, y+panelHeight+33, middle, 12, faint, "operations per second")
	slot := float64(panelHeight) / float64(len(sums))
	thick := min(slot*0.62, 26)
	for i, s := range sums {
		at := y + slot*(float64(i)+0.5)
		d.text(barsLeft-8, at+4, right, 12, ink, s.Contender)
		d.rect(barsLeft, at-thick/2, scale(s.PerSecond.Median)-barsLeft, thick, colour(s.Contender))
		d.line(scale(s.PerSecond.Min), at, scale(s.PerSecond.Max), at, ink, 1.5)
		d.line(scale(s.PerSecond.Min), at-4, scale(s.PerSecond.Min), at+4, ink, 1.5)
		d.line(scale(s.PerSecond.Max), at-4, scale(s.PerSecond.Max), at+4, ink, 1.5)
		d.text(scale(s.PerSecond.Max)+6, at+4, left, 12, ink, Digits(s.PerSecond.Median))
	}
	d.line(barsLeft, y, barsLeft, y+panelHeight, faint, 1)
}

// curves draws latency percentiles, on a logarithmic scale.
func curves(d *drawing, sums []Summary, y float64) {
	low, high := decades(sums)
	vertical := func(ms float64) float64 {
		share := (math.Log10(max(ms, low)) - math.Log10(low)) / (math.Log10(high) - math.Log10(low))
		return y + panelHeight*(1-share)
	}
	for v := low; v <= high*1.001; v *= 10 {
		d.line(curveLeft, vertical(v), curveLeft+curveWidth, vertical(v), grid, 1)
		d.text(curveLeft-6, vertical(v)+4, right, 11, faint, fmt.Sprintf("%g", round(v)))
	}
	percentiles := Percentiles()
	across := func(i int) float64 {
		return curveLeft + curveWidth*(float64(i)+0.5)/float64(len(percentiles))
	}
	for i, p := range percentiles {
		d.line(across(i), y, across(i), y+panelHeight, grid, 1)
		d.text(across(i), y+panelHeight+15, middle, 11, faint, fmt.Sprintf("%g", p))
	}
	d.text(curveLeft+curveWidth/2, y+panelHeight+33, middle, 12, faint, "percentile")
	d.upward(curveLeft-42, y+panelHeight/2, 12, faint, "latency, ms (log)")
	for _, s := range sums {
		var points [][2]float64
		for i, ms := range s.Curve {
			points = append(points, [2]float64{across(i), vertical(ms)})
		}
		d.polyline(points, colour(s.Contender))
	}
	d.line(curveLeft, y, curveLeft, y+panelHeight, faint, 1)
}

// decades returns powers of ten around all latencies, at least one decade apart.
func decades(sums []Summary) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, s := range sums {
		for _, ms := range s.Curve {
			if ms > 0 {
				low, high = min(low, ms), max(high, ms)
			}
		}
	}
	if high == 0 {
		return 1, 10
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	return low, max(high, low*10)
}

// round takes away what multiplying by ten adds to a power of ten.
func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

// niceStep returns a distance of ticks, 1, 2 or 5 times a power of ten, of which about five fit below most.
func niceStep(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, factor := range []float64{1, 2, 5} {
		if most/(factor*power) <= 6 {
			return factor * power
		}
	}
	return 10 * power
}

// short prints a tick's value.
func short(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%gk", round(v/1000))
	}
	return fmt.Sprintf("%g", round(v))
}
