package client

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// keepBuffer is the largest buffer that a call keeps for the next one.
const keepBuffer = 64 << 10

// call is one request on its way over a stream. It is pooled. All but done is guarded by the lock of
// its pipe from when it is submitted until it is done.
type call struct {
	buf     []byte // the request, then the reply
	id      uint64
	field   protowire.Number // of the reply
	sent    bool             // whether any of it may have reached the node
	expires time.Time
	err     error
	done    chan struct{} // gets a token when field and buf, or err, hold the outcome
}

func newCall() *call { return &call{done: make(chan struct{}, 1)} }

// do sends a request over the stream and waits for its reply, at most until patience ends. sent
// reports, for an error, whether any of the request may have reached the node.
func (p *pipe) do(ctx context.Context, r *request, now time.Time, patience time.Duration) (sent bool, err error) {
	c := p.shared.calls.Get().(*call)
	if c.buf, err = appendRequest(c.buf[:0], r.msg, patience); err != nil {
		return false, &Error{Code: connect.CodeInvalidArgument, Reason: ReasonInvalidArgument, Message: err.Error()}
	}
	c.field, c.sent, c.err, c.expires = 0, false, nil, now.Add(patience)
	if err := p.submit(c); err != nil {
		p.shared.calls.Put(c)
		return false, err
	}
	if cancelled := ctx.Done(); cancelled == nil {
		<-c.done
	} else {
		select {
		case <-c.done:
		case <-cancelled:
			if withdrawn, sent := p.withdraw(c); withdrawn {
				p.shared.calls.Put(c)
				return sent, ctx.Err()
			}
			<-c.done
		}
	}
	sent, err = c.sent, c.err
	if err == nil {
		err = r.decode(c)
	}
	if cap(c.buf) <= keepBuffer {
		p.shared.calls.Put(c)
	}
	return sent, err
}

// decode takes the reply out of a call that is done.
func (r *request) decode(c *call) error {
	switch c.field {
	case fieldError:
		var e atollv1.Error
		if err := proto.Unmarshal(c.buf, &e); err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		return itemError(&e)
	case fieldOf(r.msg):
		r.reply = newReply(c.field)
		if err := proto.Unmarshal(c.buf, r.reply); err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		return nil
	default:
		return errMalformed
	}
}
