package figures

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// drawing is an SVG under construction. Lengths are pixels.
type drawing struct{ b strings.Builder }

// anchors of text.
const (
	left   = "start"
	middle = "middle"
	right  = "end"
)

func (d *drawing) open(width, height float64) {
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" viewBox="0 0 %g %g" font-family="Helvetica, Arial, sans-serif">`+"\n",
		width, height, width, height)
	d.rect(0, 0, width, height, "#ffffff")
}

func (d *drawing) close() string { return d.b.String() + "</svg>\n" }

func (d *drawing) rect(x, y, width, height float64, fill string) {
	fmt.Fprintf(&d.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, width, height, fill)
}

func (d *drawing) line(x1, y1, x2, y2 float64, stroke string, width float64) {
	fmt.Fprintf(&d.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>`+"\n", x1, y1, x2, y2, stroke, width)
}

func (d *drawing) polyline(points [][2]float64, stroke string) {
	var at []string
	for _, p := range points {
		at = append(at, fmt.Sprintf("%.1f,%.1f", p[0], p[1]))
	}
	fmt.Fprintf(&d.b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(at, " "), stroke)
	for _, p := range points {
		fmt.Fprintf(&d.b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", p[0], p[1], stroke)
	}
}

// text writes a line; y is its baseline.
func (d *drawing) text(x, y float64, anchor string, size float64, fill, text string) {
	fmt.Fprintf(&d.b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%g" fill="%s">%s</text>`+"\n", x, y, anchor, size, fill, escape(text))
}

// upward writes a line that reads from below to above, around the middle y.
func (d *drawing) upward(x, y float64, size float64, fill, text string) {
	fmt.Fprintf(&d.b, `<text transform="translate(%.1f %.1f) rotate(-90)" text-anchor="middle" font-size="%g" fill="%s">%s</text>`+"\n", x, y, size, fill, escape(text))
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	return b.String()
}
