package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/internal/config"
	"github.com/atolldb/atoll/cmd/internal/ingest"
)

// Exit codes; newExitCodes documents them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnavailable = 5
	exitDenied      = 6
)

// usageError is a mistake in how a command was called.
type usageError struct {
	err     error
	command string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

// hintError carries what to do next.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// codeError carries an exit code that no other property of the error tells.
type codeError struct {
	error
	code int
}

func (e *codeError) Unwrap() error { return e.error }

func exitCode(err error) int {
	if code, ok := errors.AsType[*codeError](err); ok {
		return code.code
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*config.InvalidError](err); ok {
		return exitUsage
	}
	for _, class := range []struct {
		code    int
		members []error
	}{
		{exitNotFound, []error{client.ErrNotFound}},
		{exitConflict, []error{
			client.ErrAlreadyExists, client.ErrVersionMismatch, client.ErrValueMismatch, client.ErrNotPresent,
			client.ErrWrongType, client.ErrInsufficientRights, client.ErrSessionLost, client.ErrFenced,
			client.ErrRegionRefused,
		}},
		{exitDenied, []error{client.ErrDenied, client.ErrUnauthenticated}},
		{exitUsage, []error{client.ErrInvalidArgument}},
		{exitError, []error{context.Canceled}},
		{exitUnavailable, []error{
			client.ErrUnavailable, client.ErrDeadline, client.ErrOutcomeUnknown, client.ErrOverloaded, client.ErrStale,
			context.DeadlineExceeded, ingest.ErrRetry,
		}},
	} {
		for _, member := range class.members {
			if errors.Is(err, member) {
				return class.code
			}
		}
	}
	return exitError
}

// printError says what failed, why, and what to do next.
func (a *app) printError(err error) {
	w := colorprofile.NewWriter(a.stderr, os.Environ())
	name := lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red).Render("atoll:")
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = "interrupted: " + text
	}
	reason := ""
	if e, ok := errors.AsType[*client.Error](err); ok {
		reason = " (" + string(e.Reason) + ")"
	}
	fmt.Fprintf(w, "%s %s%s\n", name, text, reason)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(w, "%s %s\n", lipgloss.NewStyle().Bold(true).Render("try:"), hint)
	}
}

func hintOf(err error) string {
	if e, ok := errors.AsType[*hintError](err); ok {
		return e.hint
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "is it running? `atoll demo` starts a deployment on this machine; --server names another address"
	}
	if e, ok := errors.AsType[*usageError](err); ok && e.command != "" {
		return e.command + " --help"
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return hintOfReason(e)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "check the path"
	}
	return ""
}

func hintOfReason(e *client.Error) string {
	switch {
	case errors.Is(e, client.ErrNotFound):
		return "atoll ls"
	case errors.Is(e, client.ErrVersionMismatch), errors.Is(e, client.ErrValueMismatch):
		return "read the key again (atoll get KEY -o json) and repeat with what it holds now"
	case errors.Is(e, client.ErrAlreadyExists):
		return "leave out --if-absent to overwrite it"
	case errors.Is(e, client.ErrNotPresent):
		return "leave out the condition to create it"
	case errors.Is(e, client.ErrInsufficientRights):
		return fmt.Sprintf("the region may take %s; atoll bcounter rights KEY shows who may take more, and atoll bcounter transfer gives it on", e.Metadata["have"])
	case errors.Is(e, client.ErrWrongType):
		return "use the command for that type, or atoll del KEY first"
	case errors.Is(e, client.ErrOutcomeUnknown):
		return "read the key to see whether the write took effect"
	case e.Reason == client.ReasonDiskFull:
		return "make room on the disk of the node; reads go on meanwhile"
	case e.Reason == client.ReasonTooManyWatchers:
		return "watch at another node (--server), or fewer and wider prefixes"
	case e.Reason == client.ReasonNoQuorum:
		return "atoll topology; --consistency eventual reads without a quorum, --durability local writes without one"
	case errors.Is(e, client.ErrStale):
		return "a larger --max-staleness, or leave it out"
	case e.Reason == client.ReasonUnreachable:
		return "check --server; atoll status --server ADDRESS shows who runs"
	case errors.Is(e, client.ErrUnavailable), errors.Is(e, client.ErrDeadline), errors.Is(e, client.ErrOverloaded):
		return "atoll status, or again with a longer --timeout"
	case errors.Is(e, client.ErrDenied), errors.Is(e, client.ErrUnauthenticated):
		return "ask for the permission, or use other credentials"
	}
	return ""
}
