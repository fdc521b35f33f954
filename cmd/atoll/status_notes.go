package main

import (
	"cmp"
	"fmt"
	"slices"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// summarizeGarbage adds up what each region keeps from being removed.
func summarizeGarbage(partitions []*atollv1.PartitionStatus) []garbageSummary {
	var out []garbageSummary
	for _, p := range partitions {
		g := p.GetGarbage()
		if g == nil {
			continue
		}
		i := slices.IndexFunc(out, func(s garbageSummary) bool { return s.HeldBy == g.GetHeldBy() })
		if i < 0 {
			i, out = len(out), append(out, garbageSummary{HeldBy: g.GetHeldBy(), SinceMS: new(float64)})
		}
		s := &out[i]
		s.Count += g.GetCount()
		s.Bytes += g.GetBytes()
		s.More = s.More || g.GetMore()
		since := millisIf(g.GetSince() != nil, g.GetSince().AsDuration())
		if since == nil || s.SinceMS == nil {
			s.SinceMS = nil // for ever is the longest
		} else {
			s.SinceMS = valueIf(true, max(*s.SinceMS, *since))
		}
	}
	slices.SortFunc(out, func(a, b garbageSummary) int { return cmp.Compare(a.HeldBy, b.HeldBy) })
	return out
}

// membershipNotes says which regions are on their way in or out, and why the asked node takes no writes, or decides nothing.
func (s *summary) membershipNotes() (notes string) {
	for _, m := range s.Unsettled {
		notes += fmt.Sprintf("%s is %s: see atoll region list\n", m.Region, m.State)
	}
	if s.Fenced != "" {
		notes += fmt.Sprintf("%s takes NO WRITES: %s\n", s.Node, s.Fenced)
	}
	if l := s.HomeLease; l != nil && !l.Held {
		notes += fmt.Sprintf("%s decides NOTHING where %s is the home: no answer from a majority of the regions for %s\n",
			s.Node, s.Region, duration(*l.WithoutMS))
	}
	return notes
}

// leaseSummary is what the asked node knows of its region's lease, by which that may act as a home.
type leaseSummary struct {
	Held      bool     `json:"held"`
	LeftMS    *float64 `json:"left_ms,omitempty"`
	WithoutMS *float64 `json:"without_ms,omitempty"`
}

func summarizeLease(l *atollv1.HomeLease) *leaseSummary {
	if l == nil {
		return nil
	}
	return &leaseSummary{
		Held: l.GetHeld(), LeftMS: millisIf(l.GetHeld(), l.GetLeft().AsDuration()), WithoutMS: millisIf(!l.GetHeld(), l.GetWithout().AsDuration()),
	}
}

// summarizeRefused adds up refusals over partitions.
func summarizeRefused(refused []*atollv1.Refused) []refusedSummary {
	var out []refusedSummary
	for _, r := range refused {
		i := slices.IndexFunc(out, func(s refusedSummary) bool { return s.Source == r.GetSource() && s.Reason == r.GetReason() })
		if i < 0 {
			i, out = len(out), append(out, refusedSummary{Source: r.GetSource(), Reason: r.GetReason()})
		}
		out[i].Count += r.GetCount()
	}
	return out
}

func (s *summary) garbageNotes() (notes string) {
	for _, g := range s.Garbage {
		since, least := "ever", ""
		if g.SinceMS != nil {
			since = duration(*g.SinceMS)
		}
		if g.More {
			least = "at least "
		}
		notes += fmt.Sprintf("deletions are kept because of %s since %s: %s%d, some %d bytes\n", g.HeldBy, since, least, g.Count, g.Bytes)
	}
	return notes
}

func (s *summary) refusedNotes() (notes string) {
	for _, r := range s.Refused {
		notes += fmt.Sprintf("%s refused %d messages of %s: %s\n", s.Node, r.Count, cmp.Or(r.Source, "nobody known"), r.Reason)
	}
	return notes
}

// shownDiffering is how many values that differ status shows of each flow.
const shownDiffering = 10

// differingNotes names values that differ.
func (f *flowSummary) differingNotes() (notes string) {
	for i, d := range f.Differing {
		if i == shownDiffering {
			break
		}
		notes += fmt.Sprintf("  partition %d: %s of type %s in %s\n", d.Partition, printable([]byte(d.Key), 200), d.Type, printable([]byte(d.Namespace), 80))
	}
	if len(f.Differing) > shownDiffering || len(f.More) > 0 {
		notes += fmt.Sprintf("  and more: atoll region audit %s\n", f.Source)
	}
	return notes
}
