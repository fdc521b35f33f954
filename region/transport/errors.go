package transport

import (
	"errors"
	"fmt"
)

// Errors of calls. A node that cannot be reached gives the error of the attempt, which wraps
// ErrUnreachable.
var (
	// ErrUnreachable: there is no connection to the node, or it was lost before the answer came.
	ErrUnreachable = errors.New("node unreachable")
	// ErrOverloaded: too much waits to be sent or handled already. Nothing was sent, or nothing done.
	ErrOverloaded = errors.New("too many messages between nodes")
	// ErrTimeout: no answer came in time.
	ErrTimeout = errors.New("no answer from the node in time")
	// ErrTooLarge: a message is larger than its lane takes.
	ErrTooLarge = errors.New("message too large")
	// ErrNoGroup: the other node does not hold the group, or does not handle this kind of message.
	ErrNoGroup = errors.New("the node holds no such group")
	// ErrClosed: this node's part of the group has been closed.
	ErrClosed = errors.New("transport closed")
)

// RemoteError is what the other node's handler answered instead of an answer.
type RemoteError struct{ Text string }

// Error implements error.
func (e *RemoteError) Error() string { return e.Text }

// Codes of answers that are errors.
const (
	codeRemote = iota
	codeNoGroup
	codeOverloaded
	codeTooLarge

	errorTextBytes = 1 << 10
)

func encodeError(err error) []byte {
	code := byte(codeRemote)
	switch {
	case errors.Is(err, ErrNoGroup):
		code = codeNoGroup
	case errors.Is(err, ErrOverloaded):
		code = codeOverloaded
	case errors.Is(err, ErrTooLarge):
		code = codeTooLarge
	}
	text := err.Error()
	return append([]byte{code}, text[:min(len(text), errorTextBytes)]...)
}

func decodeError(body []byte) error {
	if len(body) == 0 {
		return &RemoteError{Text: "an error without a text"}
	}
	text := string(body[1:])
	switch body[0] {
	case codeNoGroup:
		return ErrNoGroup
	case codeOverloaded:
		return fmt.Errorf("%w: the other node says: %s", ErrOverloaded, text)
	case codeTooLarge:
		return fmt.Errorf("%w: the other node says: %s", ErrTooLarge, text)
	default:
		return &RemoteError{Text: text}
	}
}
