package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// serverLog passes what the server says to the node's log, and keeps what it says last before it
// gives up. The stock logger would end the process there.
type serverLog struct {
	log   *slog.Logger
	fatal chan error
	mu    sync.Mutex
	last  string
}

const serverSays = "nats server"

func (l *serverLog) lastError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *serverLog) keep(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = text
}

// Noticef logs what the server does in the ordinary way.
func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug(serverSays, slog.String("text", fmt.Sprintf(format, v...)))
}

// Warnf logs what the server does not like.
func (l *serverLog) Warnf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.keep(text)
	l.log.Info(serverSays, slog.String("text", text))
}

// Errorf logs what failed; the server goes on.
func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.keep(text)
	l.log.Warn(serverSays, slog.String("text", text))
}

// Fatalf logs why the server stops working, and keeps the first reason for Start.
func (l *serverLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(serverSays, slog.String("text", text))
	reason := errors.New(text)
	if strings.HasPrefix(format, "Can't start JetStream") {
		reason = fmt.Errorf("%w: %w", errNoJetStream, reason)
	}
	select {
	case l.fatal <- reason:
	default:
	}
}

// Debugf drops what only the server's developers need.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef drops what only the server's developers need.
func (l *serverLog) Tracef(string, ...any) {}
