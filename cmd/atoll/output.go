package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/charmbracelet/colorprofile"
)

// field is one line of a result on a terminal. Fields without a value are left out.
type field struct{ name, value string }

// result prints one thing: as JSON, as the bytes of raw, or as a list of fields.
func (a *app) result(asJSON any, raw string, fields []field) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	switch format {
	case "json":
		return a.writeJSON(asJSON)
	case "raw":
		_, err := io.WriteString(a.stdout, raw)
		return err
	}
	width := 0
	for _, f := range fields {
		width = max(width, len(f.name))
	}
	w := a.styled()
	name := lipgloss.NewStyle().Faint(true)
	for _, f := range fields {
		if f.value != "" {
			if _, err := fmt.Fprintf(w, "%s  %s\n", name.Render(fmt.Sprintf("%-*s", width, f.name)), f.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// tables prints results of several rows each: as one JSON document, as lines of tab-separated cells,
// or as tables.
func (a *app) tables(asJSON any, tables ...*grid) error {
	format, err := a.format()
	if err != nil {
		return err
	}
	if format == "json" {
		return a.writeJSON(asJSON)
	}
	w := a.styled()
	for i, t := range tables {
		text := t.raw()
		if format == "table" {
			text = t.render()
			if i > 0 {
				text = "\n" + text
			}
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// styled returns stdout, which drops what its terminal cannot show, and all styles if it is none or
// NO_COLOR is set.
func (a *app) styled() io.Writer { return colorprofile.NewWriter(a.stdout, os.Environ()) }

func (a *app) writeJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// grid is a table.
type grid struct {
	title  string
	header []string
	rows   [][]string
	note   string
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

func (g *grid) raw() string {
	var b strings.Builder
	for _, row := range g.rows {
		b.WriteString(strings.Join(row, "\t") + "\n")
	}
	return b.String()
}

func (g *grid) render() string {
	var b strings.Builder
	bold := lipgloss.NewStyle().Bold(true)
	if g.title != "" {
		b.WriteString(bold.Render(g.title) + "\n")
	}
	if len(g.rows) > 0 {
		t := table.New().Headers(g.header...).Rows(g.rows...).Wrap(false).
			BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
			BorderColumn(false).BorderHeader(false).
			StyleFunc(func(row, _ int) lipgloss.Style {
				s := lipgloss.NewStyle().PaddingRight(2)
				if row == table.HeaderRow {
					return s.Faint(true)
				}
				return s
			})
		for line := range strings.Lines(t.Render() + "\n") {
			b.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
	}
	if g.note != "" {
		b.WriteString(g.note + "\n")
	}
	return b.String()
}

// printable returns text for a terminal: one line, at most width runes, with everything escaped
// that could move the cursor or hide something.
func printable(b []byte, width int) string {
	var out strings.Builder
	for n := 0; len(b) > 0; n++ {
		if n == width {
			out.WriteString("…")
			break
		}
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size <= 1:
			fmt.Fprintf(&out, `\x%02x`, b[0])
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
		b = b[size:]
	}
	return out.String()
}
