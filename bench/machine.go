package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/atolldb/atoll/bench/figures"
)

// machine is where and with what it was measured.
type machine struct {
	Date       time.Time         `json:"date"`
	Took       string            `json:"took"`
	Command    string            `json:"command"`
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	MemoryGiB  int64             `json:"memory_gib"`
	Kernel     string            `json:"kernel"`
	FileSystem string            `json:"file_system"`
	SyncMillis figures.Spread    `json:"sync_of_4_kib_ms"`
	Load       string            `json:"load_before"`
	Go         string            `json:"go"`
	Commit     string            `json:"atoll_commit"`
	Peers      map[string]string `json:"modules"`
	Procs      int               `json:"gomaxprocs"`
	Partitions int               `json:"atoll_partitions"`
}

// modules are those whose versions belong to the result.
var modules = [...]string{
	"go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/client/v3", "github.com/nats-io/nats-server/v2",
	"github.com/nats-io/nats.go", "google.golang.org/grpc", "go.etcd.io/bbolt",
}

func describeMachine(ctx context.Context, s *settings, dir string) (*machine, error) {
	m := &machine{
		Date: time.Now().UTC().Truncate(time.Second), Command: strings.Join(append([]string{"bench"}, os.Args[1:]...), " "),
		CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version(), Procs: s.procs, Partitions: s.partitions,
		Peers: map[string]string{},
	}
	var err error
	if m.FileSystem, err = fileSystem(dir); err != nil {
		return nil, err
	}
	if m.SyncMillis, err = measureSync(dir); err != nil {
		return nil, err
	}
	m.CPU = cpuModel()
	m.Kernel = firstLine("/proc/sys/kernel/osrelease")
	m.Load = firstLine("/proc/loadavg")
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		kib, _ := parseField(text, "MemTotal:") // 0 if it is not there
		m.MemoryGiB = kib >> 20
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if slices.Contains(modules[:], dep.Path) {
				m.Peers[dep.Path] = dep.Version
			}
		}
	}
	describe := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty")
	describe.Dir = s.repository
	if out, err := describe.Output(); err == nil {
		m.Commit = string(bytes.TrimSpace(out))
	}
	return m, nil
}

func (m *machine) ended() { m.Took = time.Since(m.Date).Round(time.Second).String() }

func firstLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// Kinds of file systems, as statfs numbers them.
const (
	tmpfs = 0x01021994
	ramfs = 0x858458f6
)

var fileSystems = map[int64]string{
	tmpfs: "tmpfs", ramfs: "ramfs", 0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlayfs", 0x2fc12fc1: "zfs",
}

func statfs(dir string) (int64, error) {
	var st syscall.Statfs_t
	err := syscall.Statfs(dir, &st)
	return int64(st.Type), err
}

func fileSystem(dir string) (string, error) {
	kind, err := statfs(dir)
	if name, ok := fileSystems[kind]; ok {
		return name, err
	}
	return fmt.Sprintf("%#x", kind), err
}

// refuseMemory refuses a directory in memory, where syncing is free and the whole comparison moot.
func refuseMemory(dir string) error {
	kind, err := statfs(dir)
	if err != nil {
		return err
	}
	if kind == tmpfs || kind == ramfs {
		return fmt.Errorf("%s is in memory, where syncing costs nothing: name a directory on a disk with -dir", dir)
	}
	return nil
}

// measureSync appends 4 KiB and syncs, a hundred times: what one durable write costs at the least.
func measureSync(dir string) (figures.Spread, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return figures.Spread{}, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	var took []float64
	for range 100 {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return figures.Spread{}, err
		}
		if err := f.Sync(); err != nil {
			return figures.Spread{}, err
		}
		took = append(took, float64(time.Since(began).Microseconds())/1e3)
	}
	return figures.SpreadOf(took), os.Remove(f.Name())
}
