package main

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQuick runs every case on small sets. What they measure is checked by the cases themselves: how
// many elements were found, and how many are left.
func TestQuick(t *testing.T) {
	out, dir, profiles := t.TempDir(), t.TempDir(), t.TempDir()
	var text strings.Builder
	if code := run(t.Context(), []string{"-quick", "-out", out, "-dir", dir, "-profile", profiles}, &text, t.Output()); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	checkFigures(t, filepath.Join(out, "types.json"))
	for _, want := range []string{"### Goals", "| atoll, synced | ", "| MISS", "clear: later calls that sweep"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if made, err := os.ReadDir(profiles); err != nil || len(made) == 0 {
		t.Errorf("profiles: %d, %v", len(made), err)
	}
}

// checkFigures checks that all was measured.
func checkFigures(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Goals   []judged   `json:"goals"`
		Peers   []compared `json:"peers_divided_by_atoll"`
		Growth  []compared `json:"large_divided_by_small"`
		Samples []sample   `json:"samples"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, g := range got.Goals {
		if g.Verdict == notTested || g.Got.Median <= 0 {
			t.Errorf("%s: %s, %+v", g.Goal, g.Verdict, g.Got)
		}
	}
	for _, s := range got.Samples {
		if s.Ops <= 0 || s.Seconds <= 0 || s.Contender == "" || s.Batch == 0 {
			t.Errorf("%+v", s)
		}
	}
	peers := 10
	if automergeOpen != "" {
		peers = 30
	}
	if len(got.Peers) < peers || len(got.Growth) < 20 {
		t.Errorf("%d ratios to others, %d to smaller sets", len(got.Peers), len(got.Growth))
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-budget", "0s"}, {"-only", "("}, {"more"}, {"-unknown"}} {
		if _, err := parse(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
		if code := run(t.Context(), args, io.Discard, io.Discard); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
	if code := run(t.Context(), []string{"-quick", "-only", "nothing", "-dir", t.TempDir()}, io.Discard, io.Discard); code != 2 {
		t.Errorf("no case: exit code %d", code)
	}
}

// TestRatios: they are formed within a round, so that a slow round does not count.
func TestRatios(t *testing.T) {
	at, small := row{workAdd, 100, 1}, row{workAdd, 10, 1}
	r := &results{Samples: []sample{
		{at, naive, 0, 10, 40, 1}, {at, atollSynced, 0, 10, 20, 1}, {small, atollSynced, 0, 10, 10, 1},
		{at, naive, 1, 10, 4, 1}, {at, atollSynced, 1, 10, 1, 1}, {small, atollSynced, 1, 10, 1, 1},
		{at, naive, 2, 10, 300, 1},
	}}
	peers := r.peersOf()
	if len(peers) != 1 || peers[0].Peer != naive || peers[0].CPU.Min != 2 || peers[0].CPU.Median != 3 || peers[0].CPU.Max != 4 {
		t.Errorf("%+v", peers)
	}
	growth := r.growth()
	if len(growth) != 1 || growth[0].PeerSize != 10 || growth[0].CPU.Min != 1 || growth[0].CPU.Max != 2 {
		t.Errorf("%+v", growth)
	}
	if names := r.contenders(at); names[0] != atollSynced {
		t.Errorf("%v", names)
	}
	j := r.judge(goals(&settings{large: 100, batches: []int{1}}))
	if j[1].Verdict != miss || j[0].Verdict != notTested {
		t.Errorf("%+v", j[:2])
	}
}

func TestMeter(t *testing.T) {
	var m meter
	work := func() error {
		for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		}
		return errUsage
	}
	if err := m.measure(work); err != errUsage || m.wall < 20*time.Millisecond || m.cpu <= 0 {
		t.Errorf("%v, %+v", err, m)
	}
	s := m.sample(row{}, naive, 1000)
	if s.micros() <= 0 || s.wallMicros() < 20 {
		t.Errorf("%+v", s)
	}
}

// TestElements: they differ, and neighbours are not near each other.
func TestElements(t *testing.T) {
	seen := map[string]bool{}
	for _, from := range []uint64{0, fresh, 2 * fresh, 3 * fresh} {
		for _, e := range elements(from, 10_000) {
			if len(e) != elementBytes || seen[string(e)] || seen[text(e)] {
				t.Fatalf("%x", e)
			}
			seen[string(e)], seen[text(e)] = true, true
		}
	}
}
