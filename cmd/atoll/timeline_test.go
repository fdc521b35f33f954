package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
)

func TestTimelineEntriesAsJSON(t *testing.T) {
	e := client.TimelineEntry{Time: time.UnixMilli(1_700_000_000_120), ID: []byte{1}}
	for value, want := range map[string]string{
		"a\n":  `{"time":"2023-11-14T22:13:20.120Z","value":"a\n","id":"AQ=="}`,
		"":     `{"time":"2023-11-14T22:13:20.120Z","value":"","id":"AQ=="}`,
		"\xff": `{"time":"2023-11-14T22:13:20.120Z","value_base64":"/w==","id":"AQ=="}`,
	} {
		e.Value = []byte(value)
		if got, err := json.Marshal(entryItemOf(e)); err != nil || string(got) != want {
			t.Errorf("%q: %s, want %s, %v", value, got, want, err)
		}
	}
}

func TestInstants(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 5, time.UTC)
	a := &app{clock: func() time.Time { return now }}
	for text, want := range map[string]time.Time{
		"": {}, "90m": now.Add(-90 * time.Minute), "0s": now,
		"2026-01-31T13:00:00+01:00": now.Add(-5), "2026-01-31T12:00:00.000000005Z": now,
	} {
		if got, err := a.instant("from", text); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, want %v, %v", text, got, want, err)
		}
	}
	for _, text := range []string{"-5m", "5", "tomorrow", "2026-01-31"} {
		if got, err := a.instant("from", text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
