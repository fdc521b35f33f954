package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// Pipeline answers each request by itself and as soon as its function returns. A function that drops
// the connection breaks the stream.
func (f *fakeServer) Pipeline(ctx context.Context, s atollv1connect.KVPipelineServerStream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sending, starting sync.Mutex
	var running sync.WaitGroup
	over := false
	stopped := make(chan error, 1)
	go func() {
		stopped <- receiveEach(s, func(r *atollv1.PipelineRequest) {
			starting.Lock()
			defer starting.Unlock()
			if over {
				return
			}
			running.Go(func() {
				defer func() {
					if p := recover(); p != nil {
						cancel(http.ErrAbortHandler)
					}
				}()
				answer := f.answer(ctx, r)
				sending.Lock()
				defer sending.Unlock()
				if ctx.Err() == nil {
					_ = s.Send(answer)
				}
			})
		})
	}()
	var err error
	select {
	case err = <-stopped:
	case <-ctx.Done():
	}
	cancel(nil)
	starting.Lock()
	over = true
	starting.Unlock()
	running.Wait()
	if errors.Is(context.Cause(ctx), http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	return err
}

func receiveEach(s atollv1connect.KVPipelineServerStream, do func(*atollv1.PipelineRequest)) error {
	for {
		msg, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		do(msg)
		for _, more := range msg.GetMore() {
			do(more)
		}
	}
}

func (f *fakeServer) answer(ctx context.Context, r *atollv1.PipelineRequest) *atollv1.PipelineResponse {
	out := &atollv1.PipelineResponse{Id: r.GetId()}
	var err error
	switch q := r.GetRequest().(type) {
	case *atollv1.PipelineRequest_Get:
		if q.Get.GetKey() == "" {
			err = refusal(connect.CodeInvalidArgument, ReasonInvalidKey, 0)
			break
		}
		var res *atollv1.GetResponse
		res, err = f.get(ctx, q.Get)
		out.Response = &atollv1.PipelineResponse_Get{Get: res}
	case *atollv1.PipelineRequest_Put:
		var res *atollv1.PutResponse
		res, err = f.put(ctx, q.Put)
		out.Response = &atollv1.PipelineResponse_Put{Put: res}
	case *atollv1.PipelineRequest_Delete:
		var res *atollv1.DeleteResponse
		res, err = f.del(ctx, q.Delete)
		out.Response = &atollv1.PipelineResponse_Delete{Delete: res}
	case *atollv1.PipelineRequest_Update:
		var res *atollv1.UpdateResponse
		res, err = f.update(ctx, q.Update)
		out.Response = &atollv1.PipelineResponse_Update{Update: res}
	case *atollv1.PipelineRequest_Query:
		var res *atollv1.QueryResponse
		res, err = f.query(ctx, q.Query)
		out.Response = &atollv1.PipelineResponse_Query{Query: res}
	}
	if err != nil {
		out.Response = &atollv1.PipelineResponse_Error{Error: itemOf(err)}
	}
	return out
}

// itemOf is the error of an RPC as that of an item.
func itemOf(err error) *atollv1.Error {
	e, _ := errorOf(err)
	item := &atollv1.Error{Code: e.Code.String(), Reason: string(e.Reason), Message: e.Message, Metadata: e.Metadata}
	if e.RetryAfter > 0 {
		item.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return item
}
