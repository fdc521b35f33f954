package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const stopPatience = 5 * time.Second

// server is one server process.
type server struct {
	name    string
	log     string
	command *exec.Cmd
	// ended is closed when the process has ended; err says how.
	ended chan struct{}
	err   error
}

// startServer runs a program with additional environment; what it prints goes to a file. The kernel
// kills it should this process die without stopping it.
func startServer(name, log string, env []string, program string, args ...string) (*server, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the child has its own
	s := &server{name: name, log: log, command: exec.Command(program, args...), ended: make(chan struct{})}
	s.command.Stdout, s.command.Stderr = file, file
	s.command.Env = append(os.Environ(), env...)
	// A Ctrl-C on the terminal is for this program, which then stops its children in order.
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		s.err = s.command.Wait()
		close(s.ended)
	}()
	return s, nil
}

func (s *server) pid() int { return s.command.Process.Pid }

// running returns an error if the process has ended.
func (s *server) running() error {
	select {
	case <-s.ended:
		return fmt.Errorf("%s ended: %w%s", s.name, cmpErr(s.err), tail(s.log))
	default:
		return nil
	}
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// pause freezes the process and resume lets it go on, so that systems at rest cost nothing.
func (s *server) pause() error  { return s.command.Process.Signal(syscall.SIGSTOP) }
func (s *server) resume() error { return s.command.Process.Signal(syscall.SIGCONT) }

// stop asks the process to end, and kills it if it does not.
func (s *server) stop() {
	_ = s.resume() // it may be gone already
	_ = s.command.Process.Signal(syscall.SIGTERM)
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-s.ended:
	case <-patience.C:
		_ = s.command.Process.Kill()
		<-s.ended
	}
}

// tail returns the last lines of a log, to show below an error.
func tail(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[max(0, len(lines)-5):]
	return "\n    " + strings.Join(lines, "\n    ")
}

// until calls condition at intervals until it returns nil, or ctx is done.
func until(ctx context.Context, every time.Duration, condition func(context.Context) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it took too long: %w", err)
		}
	}
}

// sleep waits, but not longer than ctx lasts.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
