package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/testkit"
)

// times in an example are those of when it was written.
var times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)

// TestExamplesOfTypes runs the examples of docs/types.md, command by command, against a demo of three
// regions, and compares what each prints.
func TestExamplesOfTypes(t *testing.T) {
	page, err := os.ReadFile("../../docs/types.md")
	if err != nil {
		t.Fatal(err)
	}
	env := startDemo(t)
	blocks := regexp.MustCompile("(?ms)^```console\n(.*?)^```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 13 {
		t.Errorf("only %d examples", len(blocks))
	}
	for _, block := range blocks {
		for _, step := range regexp.MustCompile(`(?m)^\$ `).Split(block[1], -1)[1:] {
			command, want, _ := strings.Cut(step, "\n")
			shell := exec.CommandContext(t.Context(), "bash", "-c", command)
			shell.Env = env
			var faults bytes.Buffer
			shell.Stderr = &faults
			printed, err := shell.Output()
			got := times.ReplaceAllString(string(printed), "TIME")
			if want = times.ReplaceAllString(want, "TIME"); err != nil || strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
				t.Fatalf("%s\nprints\n%swant\n%s%v %s", command, got, want, err, faults.String())
			}
		}
	}
}

// startDemo builds the program, runs a demo at free ports, and returns the environment of its users.
func startDemo(t *testing.T) (env []string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "atoll")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	port := strconv.Itoa(freePorts(t))
	env = append(os.Environ(), "TMPDIR="+dir, "PATH="+dir+":"+os.Getenv("PATH"), "ATOLL_SERVER=127.0.0.1:"+port)
	demo := exec.CommandContext(context.WithoutCancel(t.Context()), program, "demo", "--port", port)
	demo.Env = env
	var said bytes.Buffer
	demo.Stdout, demo.Stderr = &said, &said
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- demo.Wait() }()
	t.Cleanup(func() {
		if err := errors.Join(demo.Process.Signal(syscall.SIGTERM), <-ended); err != nil {
			t.Errorf("%v\n%s", err, said.String())
		}
	})
	testkit.Eventually(t, time.Minute, func() error {
		status := exec.CommandContext(t.Context(), program, "digest", "--wait", "5s")
		status.Env = env
		return status.Run()
	})
	return env
}

// freePorts returns the first of three free ports that are ten apart, as a demo needs them.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		_, text, _ := strings.Cut(testkit.FreeAddrs(t, 1)[0], ":")
		first, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if first < 65_000 && isFree(first+10) && isFree(first+20) {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	return err == nil && l.Close() == nil
}
