package main

import (
	"strings"
	"testing"
	"time"
)

func TestCatchingUpIsComparedWithHowTheBacklogArose(t *testing.T) {
	c := caughtUp{writes: 6000, arose: 30 * time.Second, took: 2 * time.Second, contact: 500 * time.Millisecond, outbox: 3 << 19}
	if got := c.times(); got != 15 {
		t.Errorf("%v times as fast", got)
	}
	if got := c.String(); !strings.Contains(got, "200/s, 1.5 MiB") || !strings.Contains(got, "3000/s, 15.0 times") {
		t.Error(got)
	}
	if slow := (caughtUp{writes: 1, arose: time.Second, took: 4 * time.Second}).times(); slow != 0.25 {
		t.Errorf("%v times as fast", slow)
	}
}

func TestBacklogsComeAtTheirRateAndOfTheirKeys(t *testing.T) {
	began := time.Unix(100, 0)
	keys := map[string]bool{}
	for _, b := range backlogs() {
		distinct := map[string]bool{}
		for n := range int64(1000) {
			distinct[b.key(1, n)], keys[b.key(2, n)] = true, true
		}
		if want := int(b.keys); len(distinct) != want && (want > 0 || len(distinct) != 1000) {
			t.Errorf("%s: %d keys", b.name, len(distinct))
		}
		for key := range distinct {
			if keys[key] {
				t.Errorf("%s is of two backlogs", key)
			}
		}
		if b.perSecond > 0 && b.due(began, int64(b.perSecond)) != began.Add(time.Second) {
			t.Errorf("%s: write %d is due at %v", b.name, b.perSecond, b.due(began, int64(b.perSecond)))
		}
		if err := b.await(t.Context(), began, 1); err != nil { // long past
			t.Error(err)
		}
	}
}

func TestTotalCountsOneRegionsEvents(t *testing.T) {
	if n := total([]map[string]uint64{{"eu": 3, "us": 100}, {}, {"eu": 4}}, "eu"); n != 7 {
		t.Errorf("%d events", n)
	}
}
