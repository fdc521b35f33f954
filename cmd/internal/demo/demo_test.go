package demo

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/testkit"
)

// start runs a demo on free ports until the test ends, and checks that it leaves nothing behind.
func start(t *testing.T, nodes int) *Demo {
	t.Helper()
	return startSkewed(t, nodes, nil)
}

// startSkewed is start with regions whose clocks are wrong.
func startSkewed(t *testing.T, nodes int, skew map[string]time.Duration) *Demo {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control.sock")
	d, err := Open(t.Context(), Config{
		Nodes: nodes, Control: socket, Clock: time.Now, Logger: slog.New(slog.DiscardHandler), skew: skew,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, d.Close()); err != nil {
			t.Error(err)
		}
		for _, left := range []string{socket, d.temp} {
			if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left behind: %v", left, err)
			}
		}
	})
	return d
}

func dial(t *testing.T, d *Demo, region string) *client.Client {
	t.Helper()
	c, err := client.New(d.Endpoints()[region], client.WithTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestStoryOfOneNodePerRegion(t *testing.T) {
	d := start(t, 1)
	var told bytes.Buffer
	if err := d.Story(t.Context(), &told); err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
	if err := d.Story(t.Context(), &told); err != nil {
		t.Fatalf("told again: %v\n%s", err, told.String())
	}
	if !strings.Contains(told.String(), "ap   greeting=howdy visits=12 cart=bagel,cheese,wine") {
		t.Errorf("the story ends otherwise:\n%s", told.String())
	}
}

func TestStoryOfThreeNodesPerRegion(t *testing.T) {
	d := start(t, 3)
	var told bytes.Buffer
	if err := d.Story(t.Context(), &told); err != nil {
		t.Fatalf("%v\n%s", err, told.String())
	}
}

func TestControlActsOnTheRunningDemo(t *testing.T) {
	d := start(t, 1)
	for _, step := range []struct {
		command string
		regions []string
		cut     string
	}{
		{"status", nil, ""},
		{"cut", []string{"us", "eu"}, "eu-us"},
		{"cut", []string{"ap", "eu"}, "eu-us eu-ap"},
		{"heal", nil, ""},
	} {
		status, err := Control(t.Context(), d.cfg.Control, step.command, step.regions...)
		if err != nil {
			t.Fatal(err)
		}
		var cut []string
		for _, l := range status.Links {
			if l.Cut {
				cut = append(cut, l.A+"-"+l.B)
			}
		}
		if got := strings.Join(cut, " "); got != step.cut || len(status.Endpoints["ap"]) != 1 {
			t.Errorf("after %s %v: cut %q, endpoints %v", step.command, step.regions, got, status.Endpoints)
		}
	}
	for _, wrong := range [][]string{{"eu", "eu"}, {"eu", "mars"}} {
		if _, err := Control(t.Context(), d.cfg.Control, "cut", wrong...); err == nil {
			t.Errorf("cut %v was accepted", wrong)
		}
	}
	_, err := Open(t.Context(), Config{
		Nodes: 1, Control: d.cfg.Control, Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
	})
	if !errors.Is(err, ErrRunning) {
		t.Errorf("a second demo: %v", err)
	}
	if _, err := Control(t.Context(), d.cfg.Control, "status"); err != nil {
		t.Errorf("the refused second demo took the socket along: %v", err)
	}
}

func TestControlWithoutDemo(t *testing.T) {
	_, err := Control(t.Context(), filepath.Join(t.TempDir(), "none.sock"), "status")
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("no demo answers %v", err)
	}
}

// Data that is kept is there after a restart, in every region, and counted once.
func TestKeptDataSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	for round := int64(1); round <= 2; round++ {
		d, err := Open(t.Context(), Config{
			Nodes: 1, Dir: dir, Control: filepath.Join(t.TempDir(), "control.sock"),
			Clock: time.Now, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		got, err := dial(t, d, "eu").Counter("rounds").Add(t.Context(), 1)
		if err != nil || got != round {
			t.Errorf("round %d counts %d, %v", round, got, err)
		}
		ap := dial(t, d, "ap")
		testkit.Eventually(t, 30*time.Second, func() error {
			got, err := ap.Counter("rounds").Value(t.Context())
			if err == nil && got != round {
				err = errors.New("ap has not heard of it")
			}
			return err
		})
		cancel()
		if err := errors.Join(<-ended, d.Close()); err != nil {
			t.Error(err)
		}
	}
}
