package main

import (
	"strings"
	"testing"
	"time"
)

func TestLackingNamesWhatIsNotThere(t *testing.T) {
	found := map[string]bool{"eu/reached/0/1": true, "us/reached/0/1": true}
	if err := lacking("ap", found, map[string]bool{"eu/reached/0/1": true}); err != nil {
		t.Error(err)
	}
	err := lacking("ap", found, map[string]bool{"eu/reached/0/1": true, "eu/reached/0/2": true})
	if err == nil || !strings.Contains(err.Error(), `ap lacks "eu/reached/0/2"`) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestTallyTellsHowLongWritesTook(t *testing.T) {
	tally := newTally()
	tally.added("a", 30*time.Millisecond, nil)
	tally.added("b", 10*time.Millisecond, nil)
	tally.added("c", 20*time.Millisecond, nil)
	if got := tally.String(); got != "3 acknowledged (p50 20.0 ms, p99 30.0 ms), 0 unknown, 0 not done" {
		t.Error(got)
	}
}
