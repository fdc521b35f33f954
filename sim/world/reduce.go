package world

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reduction makes a plan smaller. Reductions are written and read as "keep=1,4,9-12;regions=2;calm=loss,flip;length=2s".
type Reduction struct {
	// Keep are the numbers of the happenings that stay; all if it is nil.
	Keep []int
	// Regions and Nodes, unless 0, are how many there are.
	Regions, Nodes int
	// Calm are the names of rates that become 0, and of mechanisms that are left out.
	Calm []string
	// Length, unless 0, is how long the faults last.
	Length time.Duration
}

// rates names what is in Rates.
func (r *Rates) named() []struct {
	name string
	rate *float64
} {
	return []struct {
		name string
		rate *float64
	}{
		{"loss", &r.Loss}, {"duplicate", &r.Duplicate}, {"reorder", &r.Reorder}, {"flip", &r.Flip},
		{"publishlost", &r.PublishLost}, {"acklost", &r.AckLost}, {"notdone", &r.NotDone}, {"unknown", &r.Unknown},
		{"lag", &r.Lag}, {"flush", &r.Flush},
	}
}

// mechanisms are what a plan may do without, by name.
var mechanisms = []struct {
	name string
	used func(p *Plan) bool
	omit func(p *Plan)
}{
	{"quota", func(p *Plan) bool { return p.Quota > 0 }, func(p *Plan) { p.Quota = 0 }},
	{"folding", func(p *Plan) bool { return p.Fold != nil }, func(p *Plan) { p.Fold = nil }},
	{"relay", func(p *Plan) bool { return p.Relay }, func(p *Plan) { p.Relay = false }},
	{"homes", func(p *Plan) bool { return p.Homes }, (*Plan).omitHomes},
}

// Apply returns what is left of a plan.
func (r *Reduction) Apply(p *Plan) *Plan {
	q := *p
	if r.Regions != 0 {
		q.Regions = r.Regions
		q.Core = slices.DeleteFunc(slices.Clone(p.Core), func(i int) bool { return i >= q.Regions })
		for i := 0; len(q.Core) <= q.Regions/2; i++ {
			if !slices.Contains(q.Core, i) {
				q.Core = append(q.Core, i)
			}
		}
		q.FirstHome %= q.Regions
	}
	if r.Nodes != 0 {
		q.Nodes = r.Nodes
	}
	if r.Length != 0 {
		q.Length = r.Length
	}
	q.Happenings = nil
	for i, h := range p.Happenings {
		fits := h.Site < q.Regions && h.Other < q.Regions && h.Node < q.Nodes && h.At < q.Length
		if fits && (r.Keep == nil || slices.Contains(r.Keep, i)) {
			q.Happenings = append(q.Happenings, h)
		}
	}
	q.calm(r.Calm)
	return &q
}

// calm leaves out rates and mechanisms.
func (p *Plan) calm(names []string) {
	for _, n := range p.Rates.named() {
		if slices.Contains(names, n.name) {
			*n.rate = 0
		}
	}
	for _, m := range mechanisms {
		if slices.Contains(names, m.name) {
			m.omit(p)
		}
	}
}

// String returns what ParseReduction reads.
func (r *Reduction) String() string {
	var parts []string
	if r.Keep != nil {
		parts = append(parts, "keep="+ranges(r.Keep))
	}
	if r.Regions != 0 {
		parts = append(parts, fmt.Sprint("regions=", r.Regions))
	}
	if r.Nodes != 0 {
		parts = append(parts, fmt.Sprint("nodes=", r.Nodes))
	}
	if len(r.Calm) > 0 {
		parts = append(parts, "calm="+strings.Join(r.Calm, ","))
	}
	if r.Length != 0 {
		parts = append(parts, fmt.Sprint("length=", r.Length))
	}
	return strings.Join(parts, ";")
}

// ranges writes ascending numbers as "1,4,9-12".
func ranges(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := strconv.Itoa(numbers[i])
		if j > i {
			part += "-" + strconv.Itoa(numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// ErrReduction means that a text is not that of a Reduction.
var ErrReduction = errors.New("not a reduction")

// ParseReduction reads what String returned.
func ParseReduction(text string) (*Reduction, error) {
	r := &Reduction{}
	if text == "" {
		return r, nil
	}
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(part, "=")
		var err error
		switch name {
		case "keep":
			r.Keep, err = parseRanges(value)
		case "regions":
			r.Regions, err = strconv.Atoi(value)
		case "nodes":
			r.Nodes, err = strconv.Atoi(value)
		case "calm":
			r.Calm = strings.Split(value, ",")
		case "length":
			r.Length, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("%q is unknown", name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrReduction, part, err)
		}
	}
	if r.Regions == 1 || r.Regions < 0 || r.Nodes < 0 || r.Length < 0 {
		return nil, fmt.Errorf("%w: %q: out of bounds", ErrReduction, text)
	}
	return r, nil
}

func parseRanges(text string) ([]int, error) {
	numbers := []int{}
	if text == "" {
		return numbers, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, several := strings.Cut(part, "-")
		if !several {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err = errors.Join(err, err2); err != nil {
			return nil, err
		}
		if first < 0 || last > 1<<16 {
			return nil, errors.New("out of bounds")
		}
		for ; first <= last; first++ {
			numbers = append(numbers, first)
		}
	}
	return numbers, nil
}
