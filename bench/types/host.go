package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// noisy is the share of the machine's CPU time that others may take before the report says so.
const noisy = 0.1

// host is where and with what it was measured.
type host struct {
	Date    time.Time         `json:"date"`
	Took    string            `json:"took"`
	Command string            `json:"command"`
	CPU     string            `json:"cpu"`
	Cores   int               `json:"cores"`
	Kernel  string            `json:"kernel"`
	Load    string            `json:"load_before"`
	Go      string            `json:"go"`
	Commit  string            `json:"atoll_commit"`
	Modules map[string]string `json:"modules"`
	// Others is the share of the machine's CPU time that other processes took meanwhile.
	Others float64 `json:"share_of_others"`
}

// modules are those whose versions belong to the result.
var modules = [...]string{"github.com/automerge/automerge-go", "go.etcd.io/bbolt", "github.com/tidwall/btree"}

func describeHost(ctx context.Context, s *settings) *host {
	h := &host{
		Date: time.Now().UTC().Truncate(time.Second), Command: strings.Join(append([]string{"types"}, os.Args[1:]...), " "),
		CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(), Modules: map[string]string{},
		Kernel: firstLine("/proc/sys/kernel/osrelease"), Load: firstLine("/proc/loadavg"), Commit: "unknown",
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // without it the architecture has to do
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			h.CPU = strings.TrimSpace(value)
			break
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if slices.Contains(modules[:], dep.Path) {
				h.Modules[dep.Path] = dep.Version
			}
		}
	}
	if out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		h.Commit = string(bytes.TrimSpace(out))
	}
	return h
}

// ended notes what was used during the measurements.
func (h *host) ended(took, own, all time.Duration) {
	h.Took = time.Since(h.Date).Round(time.Second).String()
	h.Others = max(0, (all-own).Seconds()/(took.Seconds()*float64(h.Cores)))
}

func (h *host) markdown(s *settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Atoll's data types (%s)\n\n", h.Commit)
	fmt.Fprintf(&b, "- %s, `%s`, %s\n", h.Date.Format("2006-01-02 15:04 MST"), h.Command, h.Took)
	fmt.Fprintf(&b, "- %s, %d cores; Linux %s; load before: %s; %s\n", h.CPU, h.Cores, h.Kernel, h.Load, h.Go)
	for _, m := range modules {
		if version := h.Modules[m]; version != "" {
			fmt.Fprintf(&b, "- %s %s\n", m, version)
		}
	}
	fmt.Fprintf(&b, "- rounds: %d; elements of %d bytes, scattered; the largest set begins with %d, because a region refuses more than %d\n",
		s.rounds, elementBytes, s.held(s.large), s.large)
	if s.quick {
		b.WriteString("- **quick**: sets too small and rounds too short for the figures to mean anything\n")
	}
	if h.Others > noisy {
		fmt.Fprintf(&b, "- **noisy**: other processes took %.0f %% of the machine's CPU time during the measurements\n", 100*h.Others)
	}
	return b.String()
}

func firstLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// machineCPU returns the CPU time that the whole machine has used, 0 if it does not say.
func machineCPU() time.Duration {
	const ticksPerSecond = 100
	fields := strings.Fields(firstLine("/proc/stat"))
	var total time.Duration
	for i, field := range fields {
		const label, idle, iowait, guest = 0, 4, 5, 9 // guest time is part of user time
		if i == label || i == idle || i == iowait || i >= guest {
			continue
		}
		ticks, _ := strconv.ParseInt(field, 10, 64) // 0 if it is no number
		total += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return total
}

// refuseMemory refuses a directory in memory, where syncing is free.
func refuseMemory(s *settings) error {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &st); err != nil {
		return err
	}
	if kind := int64(st.Type); !s.quick && (kind == tmpfs || kind == ramfs) {
		return fmt.Errorf("%s is in memory, where syncing costs nothing: name a directory on a disk with -dir", s.dir)
	}
	return nil
}
