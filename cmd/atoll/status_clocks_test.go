package main

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestStatusShowsClocks(t *testing.T) {
	s := summarize(&atollv1.StatusResponse{
		Node:  "eu-1",
		Flows: []*atollv1.Flow{{Source: "us", Destination: "eu", Ahead: durationpb.New(time.Hour)}, {Source: "us", Destination: "eu", Partition: 1}},
		Clocks: &atollv1.Clocks{
			Unsafe: "the clock is 1s off", Drift: durationpb.New(time.Second),
			Offsets: []*atollv1.ClockOffset{{Region: "us", Node: "us-1", Ahead: durationpb.New(-3 * time.Second), Uncertainty: durationpb.New(40 * time.Millisecond)}},
		},
	})
	if f := s.Flows[0]; f.AheadMS == nil || *f.AheadMS != 3.6e6 {
		t.Errorf("flow %+v", f)
	}
	table := s.clocksTable()
	if got := strings.Join(table.rows[0], " "); got != "us us-1 -3s 40ms" {
		t.Errorf("row %q", got)
	}
	if s.Clocks.DriftMS != 1000 || !strings.Contains(table.note, "takes no writes: the clock is 1s off") {
		t.Errorf("%+v, note %q", s.Clocks, table.note)
	}
	if s := summarize(&atollv1.StatusResponse{}); s.Clocks != nil || summarizeClocks(&atollv1.Clocks{}).Unsafe != "" {
		t.Error("an older node's status shows clocks")
	}
}
