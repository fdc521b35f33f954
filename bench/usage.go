package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc, the same on every Linux.
const ticksPerSecond = 100

// usage is what processes have used so far.
type usage struct {
	cpu      time.Duration
	written  int64
	resident int64 // the largest process's peak
}

// usageOf adds up processes.
func usageOf(pids ...int) (usage, error) {
	var sum usage
	for _, pid := range pids {
		cpu, err := cpuOf(pid)
		if err != nil {
			return usage{}, err
		}
		sum.cpu += cpu
		written, err := procField(pid, "io", "write_bytes:")
		if err != nil {
			return usage{}, err
		}
		sum.written += written
		peak, err := procField(pid, "status", "VmHWM:")
		if err != nil {
			return usage{}, err
		}
		sum.resident = max(sum.resident, peak<<10)
	}
	return sum, nil
}

// cpuOf returns the CPU time that a process has used.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(stat)
}

// parseStat returns user and system time of a line of /proc/PID/stat.
func parseStat(stat []byte) (time.Duration, error) {
	// The second field, the program's name, may hold anything but ends with the last bracket.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("process status has only %d fields", len(fields))
	}
	var total time.Duration
	for _, i := range []int{user, system} {
		ticks, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return total, nil
}

// procField returns the number after a label in one of a process's files.
func procField(pid int, file, label string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	return parseField(text, label)
}

func parseField(text []byte, label string) (int64, error) {
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == label {
			return strconv.ParseInt(string(fields[1]), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s", label)
}

// machineCPU returns the CPU time that the whole machine has used.
func machineCPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachine(text)
}

// parseMachine adds up the busy times of the first line of /proc/stat.
func parseMachine(text []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(line)
	var total time.Duration
	for i, field := range fields {
		const label, idle, iowait, guest = 0, 4, 5, 9 // guest time is part of user time
		if i == label || i == idle || i == iowait || i >= guest {
			continue
		}
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return total, nil
}
