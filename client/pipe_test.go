package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/proto/atoll/v1/atollv1connect"
)

// provenPipe returns a stream without a connection that believes to be proven.
func provenPipe(t *testing.T) *pipe {
	t.Helper()
	c := newClient(t, []string{deadAddress(t)})
	p := newPipe(c.shared, c.shared.seeds[0])
	readMessage(t, p) // the greeting
	_, err := p.deliver(nil, nil)
	noError(t, err)
	return p
}

// readMessage returns the requests of the next message that the stream sends.
func readMessage(t *testing.T, p *pipe) []*atollv1.PipelineRequest {
	t.Helper()
	head := make([]byte, envelopeBytes)
	_, err := io.ReadFull(p, head)
	noError(t, err)
	body := make([]byte, len(p.rest))
	_, err = io.ReadFull(p, body)
	noError(t, err)
	var msg atollv1.PipelineRequest
	noError(t, proto.Unmarshal(body, &msg))
	more := msg.GetMore()
	msg.More = nil
	return append([]*atollv1.PipelineRequest{&msg}, more...)
}

func submitGet(t *testing.T, p *pipe, key string, expires time.Time) *call {
	t.Helper()
	c := newCall()
	c.expires = expires
	var err error
	c.buf, err = appendRequest(nil, &atollv1.GetRequest{Key: key}, 1500*time.Millisecond)
	noError(t, err)
	noError(t, p.submit(c))
	return c
}

func answerTo(t *testing.T, ids ...uint64) []byte {
	t.Helper()
	var msg atollv1.PipelineResponse
	for _, id := range ids {
		msg.More = append(msg.More, &atollv1.PipelineResponse{Id: id, Response: &atollv1.PipelineResponse_Get{
			Get: &atollv1.GetResponse{Found: true},
		}})
	}
	raw, err := proto.Marshal(&msg)
	noError(t, err)
	return raw
}

func TestNothingIsSentBeforeTheStreamIsProven(t *testing.T) {
	c := newClient(t, []string{deadAddress(t)})
	p := newPipe(c.shared, c.shared.seeds[0])
	submitGet(t, p, "k", time.Time{})
	greeting := readMessage(t, p)
	if len(greeting) != 1 || greeting[0].GetGet() == nil || greeting[0].GetGet().GetKey() != "" {
		t.Fatalf("the first message is %v", greeting)
	}
	if p.takeLocked(); len(p.writing) > envelopeBytes+len(p.writing[envelopeBytes:]) || p.mu.inFlight != 0 {
		t.Fatal("a request follows at once")
	}
	_, err := p.deliver(nil, nil)
	noError(t, err)
	if got := readMessage(t, p); len(got) != 1 || got[0].GetGet().GetKey() != "k" || got[0].GetTimeoutMs() != 1500 {
		t.Errorf("the second message is %v", got)
	}
}

func TestWhatWaitsIsOneMessage(t *testing.T) {
	p := provenPipe(t)
	for _, key := range []string{"a", "b", "c"} {
		submitGet(t, p, key, time.Time{})
	}
	got := readMessage(t, p)
	if len(got) != 3 || got[0].GetGet().GetKey() != "a" || got[2].GetGet().GetKey() != "c" || got[0].GetId() == got[1].GetId() {
		t.Errorf("sent %v", got)
	}
	for range maxFlying + 10 {
		submitGet(t, p, "k", time.Time{})
	}
	more := readMessage(t, p)
	equal(t, "requests of a full stream", len(more), maxFlying-3)
	done, err := p.deliver(answerTo(t, got[1].GetId(), got[1].GetId(), 1<<40), nil)
	noError(t, err)
	equal(t, "answered", len(done), 1)
	equal(t, "requests in the place of one", len(readMessage(t, p)), 1)
}

func TestLargeMessagesAreSplit(t *testing.T) {
	p := provenPipe(t)
	for range 3 {
		c := newCall()
		c.buf = make([]byte, messageBytes*3/4)
		for i := range c.buf { // fields that are no request's, but well formed
			c.buf[i] = [2]byte{15 << 3, 1}[i%2]
		}
		noError(t, p.submit(c))
	}
	equal(t, "in the first message", len(readMessage(t, p)), 2)
	equal(t, "in the second message", len(readMessage(t, p)), 1)
}

func TestWithdrawing(t *testing.T) {
	p := provenPipe(t)
	flying := submitGet(t, p, "flying", time.Time{})
	readMessage(t, p)
	queued := submitGet(t, p, "queued", time.Time{})
	if ok, sent := p.withdraw(queued); !ok || sent {
		t.Errorf("a queued call: withdrawn %v, sent %v", ok, sent)
	}
	id := flying.id
	if ok, sent := p.withdraw(flying); !ok || !sent {
		t.Errorf("a sent call: withdrawn %v, sent %v", ok, sent)
	}
	if done, err := p.deliver(answerTo(t, id), nil); err != nil || len(done) != 0 {
		t.Errorf("its late answer went to %v, %v", done, err)
	}
	answered := submitGet(t, p, "answered", time.Time{})
	got := readMessage(t, p)
	if len(got) != 1 || got[0].GetGet().GetKey() != "answered" {
		t.Fatalf("sent %v", got)
	}
	_, err := p.deliver(answerTo(t, got[0].GetId()), nil)
	noError(t, err)
	if ok, _ := p.withdraw(answered); ok {
		t.Error("an answered call was withdrawn")
	}
}

func TestCallsExpireAndSilenceEndsAStream(t *testing.T) {
	p := provenPipe(t)
	now := time.Unix(1000, 0)
	p.shared.clock = func() time.Time { return now }
	flying := submitGet(t, p, "flying", now.Add(time.Second))
	readMessage(t, p)
	queued := submitGet(t, p, "queued", now.Add(time.Second))
	patient := submitGet(t, p, "patient", now.Add(time.Hour))
	var w sweeping
	noError(t, p.look(&w))
	now = now.Add(2 * time.Second)
	noError(t, p.look(&w))
	for _, c := range []*call{flying, queued} {
		if <-c.done; !errors.Is(c.err, errExpired) {
			t.Errorf("expired with %v", c.err)
		}
	}
	if len(patient.done) != 0 {
		t.Error("a call expired before its time")
	}
	for range stallTicks {
		noError(t, p.look(&w))
	}
	now = now.Add(2 * time.Hour)
	if err := p.look(&w); !errors.Is(err, errExpired) {
		t.Errorf("after a long silence: %v", err)
	}
	for range idleTicks - 2 { // the last look was idle too
		noError(t, p.look(&w))
	}
	if err := p.look(&w); !errors.Is(err, errPipeEnded) {
		t.Errorf("after long disuse: %v", err)
	}
}

func TestUnansweredGreetingEndsAStream(t *testing.T) {
	c := newClient(t, []string{deadAddress(t)})
	p := newPipe(c.shared, c.shared.seeds[0])
	waiting := submitGet(t, p, "k", c.shared.clock().Add(time.Hour))
	var w sweeping
	var err error
	for range proveTicks + 1 {
		if err = p.look(&w); err != nil {
			break
		}
	}
	if !errors.Is(err, errNotProven) {
		t.Fatalf("got %v", err)
	}
	p.end(err)
	if <-waiting.done; waiting.sent || !errors.Is(waiting.err, errNotProven) {
		t.Errorf("sent %v, %v", waiting.sent, waiting.err)
	}
	if err := p.submit(newCall()); !errors.Is(err, errPipeEnded) {
		t.Errorf("a stream that ended takes a call: %v", err)
	}
}

// countingServer counts the requests that come one by one.
type countingServer struct {
	atollv1connect.KVHandler
	unary atomic.Int64
}

func (s *countingServer) Get(ctx context.Context, r *atollv1.GetRequest) (*atollv1.GetResponse, error) {
	s.unary.Add(1)
	return s.KVHandler.Get(ctx, r)
}

func TestStreamsAreUsedUnlessNotWanted(t *testing.T) {
	f := &fakeServer{get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
		return &atollv1.GetResponse{Found: true}, nil
	}}
	s := &countingServer{KVHandler: f}
	address := start(t, s, nil, true).URL
	speaksHTTP2 := streamHTTPClient()
	defer speaksHTTP2.CloseIdleConnections()
	for name, tc := range map[string]struct {
		opts []Option
		want int64
	}{
		"default":         {nil, 0},
		"unary":           {[]Option{WithUnary()}, 10},
		"HTTP/1.1 client": {[]Option{WithHTTPClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}})}, 10},
		"HTTP/2 client":   {[]Option{WithHTTPClient(speaksHTTP2)}, 0},
	} {
		s.unary.Store(0)
		c := newClient(t, []string{address}, tc.opts...)
		for range 10 {
			if _, err := c.Get(testContext(t), "k"); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if n := s.unary.Load(); n != tc.want {
			t.Errorf("%s: %d of 10 requests by themselves, want %d", name, n, tc.want)
		}
		noError(t, c.Close())
	}
}

// noPipeline has all of the KV service but streams, as older servers do.
type noPipeline struct {
	atollv1connect.KVHandler
	code connect.Code
}

func (s *noPipeline) Pipeline(context.Context, atollv1connect.KVPipelineServerStream) error {
	return connect.NewError(s.code, "no")
}

func TestServersWithoutStreamsAreServedOneByOne(t *testing.T) {
	f := &fakeServer{put: func(context.Context, *atollv1.PutRequest) (*atollv1.PutResponse, error) {
		return &atollv1.PutResponse{Version: "v"}, nil
	}}
	c := newClient(t, []string{start(t, &noPipeline{f, connect.CodeUnimplemented}, nil, true).URL}, WithMaxAttempts(1))
	for range 3 {
		if v, err := c.Put(testContext(t), "k", nil); err != nil || v != "v" {
			t.Fatalf("got %q, %v", v, err)
		}
	}
	if !c.shared.seeds[0].streamless.Load() {
		t.Error("streams are tried for every request")
	}
	c = newClient(t, []string{start(t, &noPipeline{f, connect.CodeUnavailable}, nil, true).URL}, WithMaxAttempts(1))
	if _, err := c.Put(testContext(t), "k", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a stream that is refused for now: %v", err)
	}
}

func TestCallsUnderWayEndAfterClose(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := &fakeServer{get: func(context.Context, *atollv1.GetRequest) (*atollv1.GetResponse, error) {
		close(entered)
		<-release
		return &atollv1.GetResponse{Found: true, Value: []byte("x")}, nil
	}}
	c := newClient(t, []string{serve(t, f)})
	got := make(chan error, 1)
	go func() {
		_, err := c.Get(t.Context(), "k")
		got <- err
	}()
	<-entered
	noError(t, c.Close())
	close(release)
	noError(t, <-got)
}

func TestCancelledWriteThatWasNotSentIsNotDone(t *testing.T) {
	silent := start(t, &silentServer{}, nil, true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := newClient(t, []string{silent.URL}).Put(ctx, "k", nil)
	if !errors.Is(err, ErrDeadline) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
}

// silentServer takes streams and never says a word.
type silentServer struct{ fakeServer }

func (s *silentServer) Pipeline(ctx context.Context, _ atollv1connect.KVPipelineServerStream) error {
	<-ctx.Done()
	return nil
}

// Every write is done once, and every answer reaches who asked, although streams break before and
// after writes are done.
func TestBrokenStreamsLoseAndMixNothing(t *testing.T) {
	var mu sync.Mutex
	done := map[string]int{}
	random := rand.New(rand.NewPCG(1, 2))
	f := &fakeServer{put: func(_ context.Context, r *atollv1.PutRequest) (*atollv1.PutResponse, error) {
		id := r.GetOptions().GetOpId()
		mu.Lock()
		chance := random.IntN(80)
		if chance != 0 && done[id] == 0 { // a server knows the ids of what it has done
			done[id]++
		}
		mu.Unlock()
		if chance < 2 {
			dropConnection()
		}
		return &atollv1.PutResponse{Version: id + string(r.GetValue())}, nil
	}}
	c := newClient(t, []string{serve(t, f), serve(t, f)})
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for i := range 50 {
				id, value := fmt.Sprintf("%d-%d", caller, i), []byte(strings.Repeat("x", i))
				got, err := c.Put(testContext(t), "k", value, WithOpID(id))
				if err != nil || got != id+string(value) {
					t.Errorf("%s: got %q, %v", id, got, err)
				}
			}
		})
	}
	callers.Wait()
	equal(t, "writes done", len(done), 800)
}
