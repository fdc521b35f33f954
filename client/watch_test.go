package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// watchServer tells of keys k0, k1, ... from the cursor on, and breaks after some.
type watchServer struct {
	fakeServer
	keys, perRequest int
	end              func(ctx context.Context) error
	cursors          []string
}

func (s *watchServer) Watch(ctx context.Context, r *atollv1.WatchRequest, stream atollv1connect.KVWatchServerStream) error {
	s.cursors = append(s.cursors, string(r.GetCursor()))
	from := 0
	if _, err := fmt.Sscan(string(r.GetCursor()), &from); err != nil && len(r.GetCursor()) > 0 {
		return refusal(connect.CodeInvalidArgument, ReasonInvalidArgument, 0, "field", "cursor")
	}
	sent := 0
	for i := from; i < s.keys && sent < s.perRequest; i++ {
		sent++
		err := stream.Send(&atollv1.WatchResponse{
			Message: &atollv1.WatchResponse_Event{Event: &atollv1.WatchEvent{
				Key: fmt.Sprint("k", i), Found: true, Type: atollv1.Type_TYPE_LWW_REGISTER, Value: []byte("x"), Version: "v", Cause: atollv1.Cause_CAUSE_REMOTE,
			}},
			Cursor: fmt.Append(nil, i+1),
		})
		if err != nil {
			return err
		}
	}
	return s.end(ctx)
}

func TestWatchGoesOnBehindTheLastEvent(t *testing.T) {
	for name, end := range map[string]func(context.Context) error{
		"ends":          func(context.Context) error { return nil },
		"breaks":        func(context.Context) error { dropConnection(); return nil },
		"shuts down":    func(context.Context) error { return refusal(connect.CodeUnavailable, ReasonShuttingDown, 0) },
		"was too slow":  func(context.Context) error { return refusal(connect.CodeResourceExhausted, ReasonOverloaded, 0) },
		"falls silent":  func(ctx context.Context) error { <-ctx.Done(); return nil },
		"is overloaded": func(context.Context) error { return connect.NewError(connect.CodeUnavailable, "bad gateway") },
	} {
		t.Run(name, func(t *testing.T) {
			s := &watchServer{keys: 7, perRequest: 3, end: end}
			c := newClient(t, []string{start(t, s, nil, true).URL}, WithMaxAttempts(1))
			var keys []string
			for event, err := range c.Watch(testContext(t), WatchOptions{Values: true, Heartbeat: 30 * time.Millisecond}) {
				if err != nil {
					t.Fatal(err)
				}
				if event.Kind != EventChange || !event.Found || string(event.Bytes) != "x" || event.Type != TypeRegister || event.Cause != CauseRemote {
					t.Errorf("got %+v", event)
				}
				if keys = append(keys, event.Key); len(keys) == 7 {
					equal(t, "cursor", string(event.Cursor), "7")
					break
				}
			}
			if want := []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6"}; !slices.Equal(keys, want) {
				t.Errorf("got %v", keys)
			}
			if want := []string{"", "3", "6"}; !slices.Equal(s.cursors, want) {
				t.Errorf("asked from %q", s.cursors)
			}
		})
	}
}

func TestWatchThatIsRefusedEnds(t *testing.T) {
	s := &watchServer{end: func(context.Context) error { return nil }}
	c := newClient(t, []string{start(t, s, nil, true).URL}, WithMaxAttempts(2))
	watch := func(ctx context.Context, o WatchOptions) error {
		for _, err := range c.Watch(ctx, o) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := watch(testContext(t), WatchOptions{Cursor: []byte("nonsense")}); !errors.Is(err, ErrInvalidArgument) {
		t.Errorf("a bad cursor: %v", err)
	}
	s.cursors = nil
	if err := watch(testContext(t), WatchOptions{}); !errors.Is(err, ErrUnavailable) || len(s.cursors) != 2 {
		t.Errorf("a server that tells nothing: %v after %d attempts", err, len(s.cursors))
	}
	s.cursors = nil
	s.end = func(context.Context) error {
		return refusal(connect.CodeResourceExhausted, ReasonTooManyWatchers, 0)
	}
	if err := watch(testContext(t), WatchOptions{}); !errors.Is(err, ErrOverloaded) || len(s.cursors) != 2 {
		t.Errorf("too many watchers: %v after %d attempts", err, len(s.cursors))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s.end = func(ctx context.Context) error { <-ctx.Done(); return nil }
	if err := watch(ctx, WatchOptions{}); !errors.Is(err, ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
}

func TestWatchTellsOfResyncs(t *testing.T) {
	messages := []*atollv1.WatchResponse{
		{Message: &atollv1.WatchResponse_Heartbeat{Heartbeat: &atollv1.Heartbeat{}}, Cursor: []byte("1")},
		{Message: &atollv1.WatchResponse_Resync{Resync: &atollv1.Resync{Partition: 3}}},
		{Message: &atollv1.WatchResponse_Event{Event: &atollv1.WatchEvent{Key: "k", State: true, Found: true}}},
		{Message: &atollv1.WatchResponse_Resync{Resync: &atollv1.Resync{Partition: 3, End: true}}, Cursor: []byte("2")},
		{}, // of a newer server
		{Message: &atollv1.WatchResponse_Event{Event: &atollv1.WatchEvent{Key: "k", Cause: atollv1.Cause_CAUSE_EXPIRED}}},
	}
	s := &scriptedWatch{messages: messages}
	c := newClient(t, []string{start(t, s, nil, true).URL})
	for _, heartbeats := range []bool{false, true} {
		want := []string{"resync 3 1", "state 0 1", "resynced 3 2", "change 0 2"}
		if heartbeats {
			want = append([]string{"heartbeat 0 1"}, want...)
		}
		var got []string
		for event, err := range c.Watch(testContext(t), WatchOptions{Prefix: "k", Heartbeats: heartbeats}) {
			noError(t, err)
			got = append(got, fmt.Sprintf("%s %d %s", event.Kind, event.Partition, event.Cursor))
			if len(got) == len(want) {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

type scriptedWatch struct {
	fakeServer
	messages []*atollv1.WatchResponse
}

func (s *scriptedWatch) Watch(ctx context.Context, _ *atollv1.WatchRequest, stream atollv1connect.KVWatchServerStream) error {
	for _, m := range s.messages {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}
