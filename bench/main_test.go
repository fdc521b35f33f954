package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atolldb/atoll/bench/figures"
	"github.com/atolldb/atoll/internal/lint"
)

func parsed(t *testing.T, args ...string) *settings {
	t.Helper()
	s, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWithoutFlagsTheTargetsAreMeasured(t *testing.T) {
	s := parsed(t)
	for _, target := range figures.Targets() {
		if !slices.Contains(s.rows, target.Row) || !s.takesPart(target.Contender, target.Row) {
			t.Errorf("%s is not measured", target)
		}
		if target.Peer != "" && !s.takesPart(target.Peer, target.Row) {
			t.Errorf("%s has no peer", target)
		}
	}
	if d := s.duration(); d < 5*time.Minute || d > 9*time.Minute {
		t.Errorf("it takes %v", d)
	}
}

func TestRowsAreWhatTheFlagsSay(t *testing.T) {
	if n := len(parsed(t, "-full").rows); n != 4*4*5 {
		t.Errorf("%d rows in full", n)
	}
	got := parsed(t, "-work", "get,mix", "-size", "4096", "-clients", "1,16").rows
	want := []figures.Row{{Work: figures.Get, Bytes: 4096, Clients: 1}, {Work: figures.Get, Bytes: 4096, Clients: 16},
		{Work: figures.Mix, Bytes: 4096, Clients: 1}, {Work: figures.Mix, Bytes: 4096, Clients: 16}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	s := parsed(t, "-work", "get,put", "-systems", "unary,nats")
	get, put := s.rows[0], s.rows[1]
	if s.takesPart(figures.NATS, get) || !s.takesPart(figures.NATS, put) || !s.takesPart(figures.AtollUnary, get) || s.takesPart(figures.Etcd, put) {
		t.Error("the wrong contenders take part")
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-work", "delete"}, {"-size", "8"}, {"-size", "2000000"}, {"-clients", "0"}, {"-clients", "x"},
		{"-systems", "atoll,atoll"}, {"-systems", "redis"}, {"-rounds", "0"}, {"-measure", "0s"}, {"extra"}, {"-nonsense"},
	} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	if code := run(t.Context(), []string{"-work", "delete"}, io.Discard, io.Discard); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

func TestCPUTimeIsRead(t *testing.T) {
	got, err := parseStat([]byte("42 (odd ) name) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20"))
	if err != nil || got != 2*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseStat([]byte("42 (x) S 1")); err == nil {
		t.Error("a short line is taken")
	}
	busy, err := parseMachine([]byte("cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 1 1 1\n"))
	if err != nil || busy != 1710*time.Millisecond {
		t.Errorf("%v, %v", busy, err)
	}
	if n, err := parseField([]byte("rchar: 5\nwrite_bytes: 8192\n"), "write_bytes:"); err != nil || n != 8192 {
		t.Errorf("%v, %v", n, err)
	}
}

func TestServersRestAndEnd(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s, err := startServer("sleeper", log, []string{"GREETING=hello"}, "sh", "-c", `echo "$GREETING"; while :; do :; done`)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	state := func(want string) {
		t.Helper()
		err := until(ctx, 10*time.Millisecond, func(context.Context) error {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid()))
			if err == nil && !bytes.Contains(stat, []byte(") "+want+" ")) {
				err = errors.New("it is " + string(stat))
			}
			return err
		})
		if err != nil {
			t.Fatalf("not %s: %v", want, err)
		}
	}
	err = until(ctx, 10*time.Millisecond, func(context.Context) error {
		if !strings.Contains(tail(log), "hello") {
			return errors.New("no greeting")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	state("R")
	if err := s.pause(); err != nil {
		t.Fatal(err)
	}
	state("T")
	before, err := usageOf(s.pid())
	if err != nil {
		t.Fatal(err)
	}
	if err := sleep(ctx, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if after, err := usageOf(s.pid()); err != nil || after.cpu != before.cpu {
		t.Errorf("it used %v while frozen, %v", after.cpu-before.cpu, err)
	}
	s.stop() // also ends what is frozen
	if err := s.running(); err == nil {
		t.Error("it runs after it was stopped")
	}
	if err := syscall.Kill(s.pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is there: %v", err)
	}
}

func TestMemoryIsNoDisk(t *testing.T) {
	if err := refuseMemory("/dev/shm"); err == nil {
		t.Error("/dev/shm is taken for a disk")
	}
}

func TestReportIsWritten(t *testing.T) {
	s := &settings{out: filepath.Join(t.TempDir(), "out"), rounds: 1}
	sample := figures.Sample{Row: figures.Row{Work: figures.Put, Bytes: 256, Clients: 16}, Contender: figures.Atoll, Round: 1, Seconds: 1, Ops: 10, OtherCPU: 1}
	var stdout strings.Builder
	if err := report(s, &machine{Cores: 2}, figures.Results{sample}, &stdout); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "**noisy**: other processes took 50 %") {
		t.Error("the report does not say that others disturbed it:\n" + stdout.String())
	}
	for _, name := range []string{"results.md", "results.json", "results.svg"} {
		if _, err := os.Stat(filepath.Join(s.out, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestThisModuleKeepsTheRules applies the rules of the main module, whose own test skips other modules.
func TestThisModuleKeepsTheRules(t *testing.T) {
	files, err := lint.Load(".")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	findings := lint.PackageComments(files)
	for _, f := range files {
		for _, rule := range []lint.Rule{lint.NoAfterInLoop, lint.NoContextInStruct, lint.NoPanic, lint.NoInit, lint.NoSkip, lint.NoErrorText, lint.DocComments} {
			findings = append(findings, rule(f)...)
		}
	}
	for _, finding := range findings {
		t.Error(finding)
	}
	for what, size := range lint.Oversized(files) {
		t.Errorf("%s: %d", what, size)
	}
}
