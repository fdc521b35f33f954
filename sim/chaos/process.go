package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

const (
	startPatience = time.Minute
	stopPatience  = 30 * time.Second
)

// process is one run of a program. Its output goes to a file.
type process struct {
	command *exec.Cmd
	// ended is closed when the process has ended; err says how.
	ended chan struct{}
	err   error
}

// usage is what a process has used.
type usage struct {
	cpu     time.Duration
	peakRSS int64 // bytes
}

// start runs a program and appends what it prints to the file log.
func start(log, program string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the child has its own
	p := &process{command: exec.Command(program, args...), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = file, file
	// A Ctrl-C on the terminal is for this program, which then stops its children in order.
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process at once, as a crash would, and waits until it is gone.
func (p *process) kill() {
	_ = p.command.Process.Kill() // it may be gone already
	<-p.ended
}

// signal sends the process a signal, such as SIGSTOP.
func (p *process) signal(s syscall.Signal) error { return p.command.Process.Signal(s) }

// stop asks the process to end, and kills it if it does not.
func (p *process) stop() error {
	if p.running() {
		_ = p.command.Process.Signal(syscall.SIGTERM)
	}
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-patience.C:
		p.kill()
		return fmt.Errorf("did not stop within %v", stopPatience)
	}
}

// used returns what an ended process has used.
func (p *process) used() usage {
	state := p.command.ProcessState
	u := usage{cpu: state.UserTime() + state.SystemTime()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.peakRSS = r.Maxrss << 10
	}
	return u
}

// cpuNow returns what a running process has used of CPU time so far.
func (p *process) cpuNow() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field, the program's name, may hold anything but ends with the last bracket.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system, ticksPerSecond = 11, 12, 100
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

// awaitReady waits until the server's process says that it serves.
func (p *process) awaitReady(ctx context.Context, api string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return until(ctx, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		if !p.running() {
			return false, fmt.Errorf("the process ended: %w", p.err)
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+api+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return false, nil // not yet
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
}

// until calls condition at intervals until it is true or fails, or ctx is done.
func until(ctx context.Context, every time.Duration, condition func(context.Context) (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		done, err := condition(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("it took too long")
		}
	}
}

// pause waits, but not longer than ctx lasts.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
