// Package figures turns what the benchmark measured into what people read: medians over rounds, ratios
// between systems, verdicts on targets, Markdown tables and SVG plots. It is pure: it measures nothing,
// and reads no clock and no files.
//
//   - sample.go: what one round of one contender measured
//   - summary.go: rounds put together, and ratios between contenders
//   - target.go: what Atoll has to reach, and whether it does
//   - table.go: Markdown
//   - plot.go, svg.go: the plot
package figures
