package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atolldb/atoll/cmd/internal/poison"
)

// poisonView is what was found as JSON.
type poisonView struct {
	Region string `json:"region"`
	// PresentMS is what events were judged by, ClockAheadMS how far the region's clock is ahead of that.
	PresentMS    uint64         `json:"present_ms"`
	AheadMS      int64          `json:"more_than_ms"`
	ClockAheadMS int64          `json:"clock_ahead_ms"`
	Clocks       uint32         `json:"other_clocks"`
	RewrittenIn  string         `json:"rewritten_in,omitempty"`
	DryRun       bool           `json:"dry_run,omitempty"`
	Values       []poisonedView `json:"values"`
	Undated      uint64         `json:"undated,omitempty"`
	Errors       []string       `json:"errors,omitempty"`
}

type poisonedView struct {
	Partition uint32 `json:"partition"`
	Namespace string `json:"namespace"`
	Key       string `json:"key"`
	Type      string `json:"type"`
	Event     string `json:"event"`
	HLC       uint64 `json:"hlc"`
	AheadMS   int64  `json:"ahead_ms"`
	// Lacking are the regions that are not known to have the event.
	Lacking  []string `json:"lacking"`
	OnlyHere bool     `json:"only_here"`
	Deleted  bool     `json:"deleted,omitempty"`
	Home     bool     `json:"home,omitempty"`
	Result   string   `json:"result,omitempty"`
	// Here and There are the values of what is to be merged by hand.
	Here  string `json:"here,omitempty"`
	There string `json:"there,omitempty"`
}

func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// taken says who has a value's event.
func (p *poisonedView) taken() string {
	switch {
	case p.OnlyHere:
		return "nobody else"
	case len(p.Lacking) == 0:
		return "all"
	default:
		return "not " + strings.Join(p.Lacking, ", ")
	}
}

func (v *poisonView) table() *grid {
	t := &grid{
		title:  fmt.Sprintf("values of %s that are more than %v ahead of %s", v.Region, time.Duration(v.AheadMS)*time.Millisecond, time.UnixMilli(int64(v.PresentMS)).UTC().Format(time.RFC3339)),
		header: []string{"PARTITION", "NAMESPACE", "KEY", "TYPE", "EVENT", "AHEAD", "TAKEN"},
	}
	if v.RewrittenIn != "" {
		t.header = append(t.header, "RESULT", "HERE", v.RewrittenIn)
	}
	for i := range v.Values {
		p := &v.Values[i]
		of := p.Type
		if p.Deleted {
			of += ", deleted"
		}
		cells := []string{
			strconv.Itoa(int(p.Partition)), printable([]byte(p.Namespace), 80), printable([]byte(p.Key), 200), of, p.Event,
			(time.Duration(p.AheadMS) * time.Millisecond).String(), p.taken(),
		}
		if v.RewrittenIn != "" {
			cells = append(cells, p.Result, cmp.Or(p.Here, "-"), cmp.Or(p.There, "-"))
		}
		t.add(cells...)
	}
	t.note = v.notes()
	return t
}

// notes say what the table does not show.
func (v *poisonView) notes() string {
	var b strings.Builder
	if len(v.Values) == 0 {
		b.WriteString("none\n")
	}
	if v.ClockAheadMS > v.AheadMS {
		fmt.Fprintf(&b, "the clock of %s is still %v ahead: set it right first, or what it writes from now on is of the future, too\n", v.Region, time.Duration(v.ClockAheadMS)*time.Millisecond)
	}
	if v.Clocks == 0 && v.RewrittenIn == "" {
		fmt.Fprintf(&b, "the clocks of other regions are not known: the present is what that of %s reads\n", v.Region)
	}
	if v.Undated > 0 {
		fmt.Fprintf(&b, "%d more values may be from the future: of their types no instants are kept, and all regions have taken their events\n", v.Undated)
	}
	for _, e := range v.Errors {
		fmt.Fprintf(&b, "not asked: %s\n", e)
	}
	return b.String()
}

// verdict returns an error with the exit code of what was found.
func (v *poisonView) verdict() error {
	only, kept := 0, 0
	for i := range v.Values {
		if p := &v.Values[i]; len(p.Lacking) > 0 {
			only++
			if poison.Outcome(p.Result).Kept() || v.DryRun && p.Result == string(poison.Would) {
				kept++
			}
		}
	}
	switch {
	case len(v.Errors) > 0:
		return &codeError{withHint(fmt.Errorf("%d partitions could not be asked", len(v.Errors)), "atoll topology; then run it again"), exitUnavailable}
	case v.RewrittenIn == "" && only > 0:
		return &codeError{withHint(fmt.Errorf("%d values are from the future, and some region lacks them", only),
			"wait if that is not far, else atoll repair --help says what to do"), exitConflict}
	case kept > 0 && v.DryRun:
		return &codeError{withHint(fmt.Errorf("%s lacks %d values (dry run: nothing is written)", v.RewrittenIn, kept), "run it without --dry-run"), exitConflict}
	case kept > 0:
		return &codeError{withHint(fmt.Errorf("%d values were not written in %s", kept, v.RewrittenIn),
			"merge them by hand before the region is fenced; --overwrite takes those that have changed since"), exitConflict}
	default:
		return nil
	}
}
