package raftlog

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

const crashDirEnv = "ATOLL_RAFTLOG_CRASH_DIR"

// crashWriter appends to two groups for ever and says what was acknowledged, until it is killed.
func crashWriter(dir string) {
	l, err := Open(dir, Options{})
	if err != nil {
		panic(err)
	}
	var out sync.Mutex
	var writers sync.WaitGroup
	for id := range uint32(2) {
		g, err := l.Group(id)
		if err != nil {
			panic(err)
		}
		writers.Go(func() {
			for {
				next := g.LastIndex() + 1
				last := next + next%5
				if err := g.Append(entries(id, next, last)); err != nil {
					panic(err)
				}
				out.Lock()
				fmt.Printf("ack %d %d\n", id, last)
				out.Unlock()
			}
		})
	}
	writers.Wait()
}

// Every acknowledged append is there after kill -9 at any moment, again and again.
func TestAcknowledgedAppendsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acked := make([]uint64, 2)
	for round := range 5 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashDirEnv+"="+dir)
		stderr := &strings.Builder{}
		child.Stderr = stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines, started := bufio.NewScanner(stdout), false
		for count := 0; lines.Scan(); count++ {
			var id int
			var last uint64
			if _, err := fmt.Sscanf(lines.Text(), "ack %d %d", &id, &last); err != nil {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			acked[id], started = last, true
			if count == 100+round*37 { // go on reading: what is in the pipe was acknowledged too
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		child.Wait()
		if !started {
			t.Fatalf("round %d: the child said nothing; %s", round, stderr)
		}
		l, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for id := range uint32(2) {
			g := openGroup(t, l, id)
			if g.LastIndex() < acked[id] {
				t.Fatalf("group %d ends at %d, %d was acknowledged", id, g.LastIndex(), acked[id])
			}
			checkEntries(t, g, 1, g.LastIndex())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
