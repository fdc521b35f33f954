package main

import (
	"fmt"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// clocksSummary is what the answering node knows of clocks.
type clocksSummary struct {
	// Unsafe says why the node takes no writes because of its clock; empty if it does.
	Unsafe  string         `json:"unsafe,omitempty"`
	DriftMS float64        `json:"drift_ms"`
	Offsets []clockSummary `json:"offsets"`
}

// clockSummary is how far another node's clock is ahead, give or take the uncertainty.
type clockSummary struct {
	Region        string  `json:"region"`
	Node          string  `json:"node"`
	AheadMS       float64 `json:"ahead_ms"`
	UncertaintyMS float64 `json:"uncertainty_ms"`
}

func summarizeClocks(c *atollv1.Clocks) *clocksSummary {
	if c == nil {
		return nil
	}
	out := &clocksSummary{Unsafe: c.GetUnsafe(), DriftMS: *millisIf(true, c.GetDrift().AsDuration())}
	for _, o := range c.GetOffsets() {
		out.Offsets = append(out.Offsets, clockSummary{
			o.GetRegion(), o.GetNode(), *millisIf(true, o.GetAhead().AsDuration()), *millisIf(true, o.GetUncertainty().AsDuration()),
		})
	}
	return out
}

func (s *summary) clocksTable() *grid {
	t := &grid{title: "clocks, against that of " + s.Node, header: []string{"REGION", "NODE", "AHEAD", "GIVE OR TAKE"}}
	for _, o := range s.Clocks.Offsets {
		t.add(o.Region, o.Node, duration(o.AheadMS), duration(o.UncertaintyMS))
	}
	switch {
	case s.Clocks.Unsafe != "":
		t.note = fmt.Sprintf("%s takes no writes: %s\n", s.Node, s.Clocks.Unsafe)
	case len(s.Clocks.Offsets) == 0:
		t.note = "no other clock is known"
	}
	return t
}
