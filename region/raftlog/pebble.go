package raftlog

import "fmt"

// fatal is what Pebble's logger panics with when Pebble cannot go on.
type fatal struct{ err error }

// recoverFatal is deferred around calls into Pebble.
func recoverFatal(err *error) {
	switch r := recover().(type) {
	case nil:
	case fatal:
		*err = r.err
	default:
		panic(r)
	}
}

// quiet is Pebble's logger.
type quiet struct{ log *Log }

// Infof drops what Pebble says about its normal work.
func (quiet) Infof(string, ...any) {}

// Errorf passes what Pebble complains of to the logger.
func (q quiet) Errorf(format string, args ...any) {
	if logger := q.log.opts.Logger; logger != nil {
		logger.Warn("the log's storage complains", "err", fmt.Sprintf(format, args...))
	}
}

// Fatalf is called where Pebble must not go on: a commit or its manifest failed. It latches the log
// and panics. In a caller of this package the panic becomes an error; in one of Pebble's own
// goroutines it ends the process, as going on there could delete files that a restart needs.
func (q quiet) Fatalf(format string, args ...any) {
	cause := &complaint{text: fmt.Sprintf(format, args...)}
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			cause.err = err
		}
	}
	panic(fatal{q.log.fail(cause)})
}

// complaint is what Pebble said last, with the error among its arguments.
type complaint struct {
	text string
	err  error
}

func (c *complaint) Error() string { return c.text }
func (c *complaint) Unwrap() error { return c.err }
