package crdt

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func voidsGolden(names *[]string, values map[string]encoder) {
	voided := NewVoids([]Void{{3, 1, 2, 7}})
	voided.Join(NewCounter([]Row{{1, Entry{2, 9, 15}, Base{2, 5, -15, Dot{2, 4}}}, {2, Entry{1, 300, -4}, Base{}}}))
	voided.Join(NewVoids([]Void{{1, 5, 10, 9}, {1, 8, 11, 5}, {2, 300, 301, -4}}))
	*names = append(*names, "counter with voids")
	values["counter with voids"] = voided
}

func TestVoidsAreBounded(t *testing.T) {
	var c Counter
	for seq := uint64(1); seq <= MaxVoids+1; seq++ {
		if _, err := c.Add(Dot{1, seq}, 2); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(1); seq <= MaxVoids; seq++ {
		if change, ok := c.Void(Dot{1, 1000 + seq}, seq, 2); !ok || change.Len() != 1 {
			t.Fatalf("void of event %d: %v, %v", seq, change, ok)
		}
	}
	for i, step := range []struct {
		seq   uint64
		x     int64
		ok    bool
		value int64
	}{
		{MaxVoids + 1, 2, false, 2}, // one event too many
		{7, 1, true, 1},             // more of one that is void already
		{7, math.MaxInt64, false, 1},
	} {
		if _, ok := c.Void(Dot{1, uint64(2000 + i)}, step.seq, step.x); ok != step.ok || c.Value() != step.value || len(c.Voids()) != MaxVoids {
			t.Errorf("void of %d of event %d: %v, value %d, %d voids", step.x, step.seq, ok, c.Value(), len(c.Voids()))
		}
	}
	c.Reset(Dot{2, 2})
	if change, ok := c.Void(Dot{1, 3000}, 9, 2); len(c.Voids()) != 0 || !c.Empty() || !ok || change.Len() != 0 {
		t.Errorf("after a reset %v are void, and %v, %v", c.Voids(), change, ok)
	}
}

func TestVoidsRefused(t *testing.T) {
	for name, c := range map[string]struct{ data, reason string }{
		"none":                  {"\x02\x00", "nothing that version 1 cannot"},
		"many":                  {"\x02\x09\x01\x01\x01\x02", "cannot be in"},
		"of event 0":            {"\x02\x01\x01\x00\x01\x02", "sequence number 0"},
		"of itself":             {"\x02\x01\x01\x01\x00\x02", "still to come"},
		"out of order":          {"\x02\x02\x01\x02\x01\x02\x01\x01\x03\x02", "out of order"},
		"of what was reset":     {"\x02\x01\x01\x02\x01\x02\x01\x02\x02\x00\x06\x02\x03", "was reset"},
		"of another generation": {"\x02\x01\x01\x02\x01\x02\x01\x01\x05\x00\x06", "was reset"},
	} {
		if _, err := DecodeCounter([]byte(c.data)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, want %s", name, err, c.reason)
		}
	}
}
