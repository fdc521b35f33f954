package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/atolldb/atoll/bench/figures"
)

// report prints the Markdown, and writes it and the figures to the output directory.
func report(s *settings, h *host, r *results, stdout io.Writer) error {
	verdicts := r.judge(goals(s))
	text := h.markdown(s) + r.markdown(verdicts)
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(struct {
		Host     *host      `json:"machine"`
		Settings any        `json:"settings"`
		Goals    []judged   `json:"goals"`
		Peers    []compared `json:"peers_divided_by_atoll"`
		Growth   []compared `json:"large_divided_by_small"`
		*results
	}{h, s.summary(), verdicts, r.peersOf(), r.growth(), r}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(s.out, "types.md"), []byte(text), 0o644),
		os.WriteFile(filepath.Join(s.out, "types.json"), append(raw, '\n'), 0o644),
	)
}

// summary is what the settings were, for the raw figures.
func (s *settings) summary() map[string]int {
	return map[string]int{
		"rounds": s.rounds, "budget_ms": int(s.budget.Milliseconds()), "largest_set": s.large,
		"largest_set_begins_with": s.held(s.large), "adds_between_flushes": s.grouped, "merged_items": s.merged,
		"element_bytes": elementBytes, "key_bytes": keyBytes, "value_bytes": valueBytes, "stored": s.stored,
	}
}

func (r *results) markdown(verdicts []judged) string {
	var b strings.Builder
	section := func(title, about string, cells [][]string) {
		if len(cells) > 1 {
			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n%s", title, about, figures.Table(cells))
		}
	}
	section("Goals", "Median of the rounds, and the range.", goalCells(verdicts))
	section("Against the others", "The other's CPU per operation divided by Atoll's, on the same elements, round by round, with the range: above 1 Atoll takes less.",
		pivot(r.peersOf(), "Atoll", func(c compared) (line, string) {
			return line{c.row, c.Contender}, family(c.Peer)
		}))
	section("As sets grow", "CPU per operation divided by that on the contender's smallest set, round by round, with the range.",
		pivot(r.growth(), "Who", func(c compared) (line, string) {
			return line{row{c.Work, c.PeerSize, c.Batch}, c.Contender}, fmt.Sprintf("with %d", c.Size)
		}))
	section("Figures", "Per operation or item: CPU of the whole process, and time, in µs.", r.figureCells())
	section("Counts", "Bytes stored are per register or element, beyond namespace, key, value and element; a delta's are all of it.", r.countCells())
	return b.String()
}

func goalCells(verdicts []judged) [][]string {
	cells := [][]string{{"Goal", "At most", "Measured", "Range", "Verdict"}}
	for _, j := range verdicts {
		got, spread := "", ""
		if j.Verdict != notTested {
			got, spread = unit(figures.Digits(j.Got.Median), j.Unit), figures.Span(j.Got)
		}
		cells = append(cells, []string{j.Goal, unit(figures.Digits(j.Bound), j.Unit), got, spread, string(j.Verdict)})
	}
	return cells
}

func unit(figure, unit string) string { return strings.TrimSpace(figure + " " + unit) }

// family is a contender's name without what Atoll's says, too.
func family(contender string) string {
	return strings.TrimSuffix(strings.TrimSuffix(contender, ", synced"), ", memory")
}

// line is a row of a pivoted table, and who it is about.
type line struct {
	row
	who string
}

// pivot lays ratios out with a line for each row and a column for each kind, as place says.
func pivot(all []compared, heading string, place func(compared) (line, string)) [][]string {
	var lines []line
	var columns []string
	at := map[line]map[string]string{}
	for _, c := range all {
		l, column := place(c)
		if at[l] == nil {
			at[l] = map[string]string{}
			lines = append(lines, l)
		}
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
		at[l][column] = fmt.Sprintf("%s× (%s)", figures.Digits(c.CPU.Median), figures.Span(c.CPU))
	}
	if len(lines) == 0 {
		return nil
	}
	cells := [][]string{append([]string{"Work", "Elements", "Batch", heading}, columns...)}
	for _, l := range lines {
		cell := []string{l.Work, fmt.Sprint(l.Size), fmt.Sprint(l.Batch), l.who}
		for _, column := range columns {
			cell = append(cell, at[l][column])
		}
		cells = append(cells, cell)
	}
	return cells
}

func (r *results) figureCells() [][]string {
	cells := [][]string{{"Work", "Elements", "Batch", "Who", "CPU", "Range", "Time", "Range", "Items per CPU second"}}
	for _, at := range r.rows() {
		for _, name := range r.contenders(at) {
			cpu, _ := r.spread(at, name, sample.micros)
			wall, _ := r.spread(at, name, sample.wallMicros)
			cells = append(cells, []string{at.Work, fmt.Sprint(at.Size), fmt.Sprint(at.Batch), name,
				figures.Digits(cpu.Median), figures.Span(cpu), figures.Digits(wall.Median), figures.Span(wall),
				figures.Digits(1e6 / cpu.Median)})
		}
	}
	return cells
}

func (r *results) countCells() [][]string {
	cells := [][]string{{"What", "Measured", "Range"}}
	var names []string
	for _, c := range r.Counts {
		if slices.Contains(names, c.Name) {
			continue
		}
		names = append(names, c.Name)
		got, _ := r.counted(c.Name)
		cells = append(cells, []string{c.Name, unit(figures.Digits(got.Median), c.Unit), figures.Span(got)})
	}
	return cells
}
