package raftgroup

import (
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// logger hands Raft's log lines on to slog: warnings and errors as warnings, the rest at debug level,
// for Raft tells much that nobody can act on: what it calls an error is mostly a peer that is away, and
// failures of the storage go to OnFailure. Raft's loops must never wait for a log.
type logger struct {
	slog *slog.Logger
	name string
	args []any
}

func newLogger(l *slog.Logger) hclog.Logger { return &logger{slog: l.With("component", "raft")} }

// Log implements hclog.Logger.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Error, hclog.Warn:
		l.slog.Warn(msg, args...)
	default:
		l.slog.Debug(msg, args...)
	}
}

// Trace implements hclog.Logger.
func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug implements hclog.Logger.
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info implements hclog.Logger.
func (l *logger) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn implements hclog.Logger.
func (l *logger) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error implements hclog.Logger.
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

// IsTrace implements hclog.Logger. slog decides what is printed.
func (l *logger) IsTrace() bool { return true }

// IsDebug implements hclog.Logger.
func (l *logger) IsDebug() bool { return true }

// IsInfo implements hclog.Logger.
func (l *logger) IsInfo() bool { return true }

// IsWarn implements hclog.Logger.
func (l *logger) IsWarn() bool { return true }

// IsError implements hclog.Logger.
func (l *logger) IsError() bool { return true }

// ImpliedArgs implements hclog.Logger.
func (l *logger) ImpliedArgs() []any { return l.args }

// With implements hclog.Logger.
func (l *logger) With(args ...any) hclog.Logger {
	return &logger{slog: l.slog.With(args...), name: l.name, args: append(append([]any(nil), l.args...), args...)}
}

// Name implements hclog.Logger.
func (l *logger) Name() string { return l.name }

// Named implements hclog.Logger.
func (l *logger) Named(name string) hclog.Logger { return l.ResetNamed(name) }

// ResetNamed implements hclog.Logger.
func (l *logger) ResetNamed(name string) hclog.Logger {
	return &logger{slog: l.slog, name: name, args: l.args}
}

// SetLevel implements hclog.Logger. The level is that of slog.
func (l *logger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (l *logger) GetLevel() hclog.Level { return hclog.Trace }

// StandardLogger implements hclog.Logger.
func (l *logger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.slog.Handler(), slog.LevelDebug)
}

// StandardWriter implements hclog.Logger.
func (l *logger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(nil).Writer()
}
