package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestStatusTellsOfLeases(t *testing.T) {
	for name, c := range map[string]struct {
		lease      *atollv1.HomeLease
		note, data string
	}{
		"none is needed": {nil, "", ""},
		"held":           {&atollv1.HomeLease{Held: true, Left: durationpb.New(7 * time.Second)}, "", `"home_lease":{"held":true,"left_ms":7000}`},
		"not held": {
			&atollv1.HomeLease{Without: durationpb.New(90 * time.Second)},
			"eu-1 decides NOTHING where eu is the home: no answer from a majority of the regions for 1m30s\n", `"home_lease":{"held":false,"without_ms":90000}`,
		},
	} {
		s := summarize(&atollv1.StatusResponse{Region: "eu", Node: "eu-1", HomeLease: c.lease})
		if got := s.membershipNotes(); got != c.note {
			t.Errorf("%s: %q", name, got)
		}
		data, err := json.Marshal(s)
		if err != nil || !strings.Contains(string(data), c.data) || c.data == "" && strings.Contains(string(data), "home_lease") {
			t.Errorf("%s: %s, %v", name, data, err)
		}
	}
}
