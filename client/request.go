package client

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// request is one request of the KV service for one key.
type request struct {
	namespace, key string
	anywhere       bool // any replica may serve it as well as the leader
	informs        bool // the caller wants to know who answered
	place          *place
	msg            proto.Message
	reply          proto.Message // nil until there is one
}

// informed is any reply.
type informed interface{ GetInfo() *atollv1.ReplyInfo }

func (r *request) try(ctx context.Context, s *shared, a attempt) (*endpoint, bool, error) {
	r.place = s.place(r.namespace, r.key)
	e := s.choose(ctx, r.place, r.anywhere, a.avoid)
	sent, err := s.send(ctx, e, r, a)
	return e, sent, err
}

// answeredBy learns from a reply: only leaders answer what not every replica may, whoever was asked.
func (r *request) answeredBy(node []byte) {
	if !r.anywhere {
		r.place.ledBy(node)
	}
}

// send makes one try at one endpoint: over its stream if it takes streams.
func (s *shared) send(ctx context.Context, e *endpoint, r *request, a attempt) (sent bool, err error) {
	for range 2 { // a stream may end for want of use just now
		p := s.stream(ctx, e)
		if p == nil {
			break
		}
		sent, err = p.do(ctx, r, a.now, a.patience)
		if unsuited := errors.Is(err, errNoStream) || errors.Is(err, errPipeEnded); sent || !unsuited {
			return sent, err
		}
	}
	sent, err = single(ctx, a, func(ctx context.Context) (err error) {
		r.reply, err = e.call(ctx, r.msg)
		return err
	})
	if told, ok := r.reply.(informed); ok && err == nil {
		r.answeredBy([]byte(told.GetInfo().GetNode()))
	}
	return sent, err
}

// do runs a request, and returns its reply.
func do[T proto.Message](ctx context.Context, s *shared, opID string, r *request) (T, error) {
	if err := s.run(ctx, opID, r); err != nil {
		var none T
		return none, err
	}
	reply, _ := r.reply.(T) // decode and call see to the type
	return reply, nil
}
