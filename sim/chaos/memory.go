package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

const memoryEvery = 200 * time.Millisecond

// memory is what a process has of memory: all of it, and without pages of files, which the kernel
// takes back when it needs them.
type memory struct{ resident, anonymous int64 }

// memoryNow returns what a running process has.
func (p *process) memoryNow() (m memory, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return m, err
	}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		var into *int64
		switch string(fields[0]) {
		case "VmRSS:":
			into = &m.resident
		case "RssAnon:":
			into = &m.anonymous
		default:
			continue
		}
		kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return m, err
		}
		*into = kib << 10
	}
	return m, nil
}

// memoryWatch keeps the most memory that each node has had.
type memoryWatch struct {
	mu sync.Mutex
	// processes are what to look at now, by node.
	processes map[string]*process
	most      map[string]memory
}

func newMemoryWatch() *memoryWatch {
	return &memoryWatch{processes: map[string]*process{}, most: map[string]memory{}}
}

// follow looks at the member's process from now on.
func (w *memoryWatch) follow(m *member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.processes[m.name] = m.process
}

// run looks until ctx is done.
func (w *memoryWatch) run(ctx context.Context) error {
	_ = until(ctx, memoryEvery, func(context.Context) (bool, error) {
		w.look()
		return false, nil
	})
	return nil
}

func (w *memoryWatch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, p := range w.processes {
		now, err := p.memoryNow()
		if err != nil {
			continue // it has just been killed
		}
		most := w.most[name]
		w.most[name] = memory{max(most.resident, now.resident), max(most.anonymous, now.anonymous)}
	}
}

// judge reports the most memory of each node, and an error if it passes the bound.
func (w *memoryWatch) judge(out *report, bound int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var f faults
	for _, name := range names(w.most) {
		m := w.most[name]
		out.figure("memory of "+name, "at most %d MiB, %d MiB without pages of files", m.resident>>20, m.anonymous>>20)
		if m.anonymous > bound {
			f.add("%s has had %d MiB", name, m.anonymous>>20)
		}
	}
	return f.err()
}
