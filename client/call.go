package client

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protowire"
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
