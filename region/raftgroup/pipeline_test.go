package raftgroup

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// piped returns a pipeline to a member that answers as the test says.
func piped(t *testing.T, answer func(a *raft.AppendEntriesRequest, reply func([]byte, error))) *pipeline {
	t.Helper()
	e := &ensemble{t: t, addresses: map[topology.NodeID]string{}}
	var layers []*transport.Layer
	for _, id := range []topology.NodeID{"n1", "n2"} {
		mux, err := transport.Listen(transport.Config{
			Cluster: "test", Self: id, Listen: "127.0.0.1:0", Resolve: e.resolve, Logger: slog.New(slog.DiscardHandler),
		})
		e.must(err)
		e.addresses[id] = mux.Addr().String()
		layers = append(layers, mux.Group(1))
		ctx, cancel := context.WithCancel(t.Context())
		running := make(chan error, 1)
		go func() { running <- mux.Run(ctx) }()
		t.Cleanup(func() { cancel(); e.must(<-running) })
	}
	layers[1].Handle(kindAppend, kindAppend, func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		a := new(raft.AppendEntriesRequest)
		if err := decodeAppend(body, a); err != nil {
			t.Error(err)
		}
		answer(a, reply)
	})
	n := newNetwork(layers[0], "n1", slog.New(slog.DiscardHandler))
	t.Cleanup(func() { e.must(n.Close()) })
	return newPipeline(n, "n2", "n2")
}

func success(a *raft.AppendEntriesRequest) []byte {
	return encodeAppended(&raft.AppendEntriesResponse{Term: a.Term, LastLog: a.PrevLogEntry, Success: true})
}

// push sends the request with a number.
func push(p *pipeline, number uint64, size int) error {
	a := &raft.AppendEntriesRequest{
		RPCHeader: testHeader(), Term: 1, PrevLogEntry: number, PrevLogTerm: 1,
		Entries: []*raft.Log{{Index: number + 1, Term: 1, Data: make([]byte, size)}},
	}
	_, err := p.AppendEntries(a, new(raft.AppendEntriesResponse))
	return err
}

func TestPipelineAnswersInOrder(t *testing.T) {
	p := piped(t, func(a *raft.AppendEntriesRequest, reply func([]byte, error)) { reply(success(a), nil) })
	const count = 1000
	sent := make(chan error, 1)
	unread := make(chan struct{}, pipelineUnread) // with more, a pipeline closes, however busy its reader is
	go func() {
		defer close(sent)
		for i := range uint64(count) {
			unread <- struct{}{}
			if err := push(p, i, 100); err != nil {
				sent <- err
				return
			}
		}
	}()
	for i := range uint64(count) {
		var f raft.AppendFuture
		select {
		case f = <-p.Consumer():
		case err, failed := <-sent:
			if failed {
				t.Fatalf("after %d answers: %v", i, err)
			}
			f = <-p.Consumer() // all are sent
		}
		<-unread
		if err := f.Error(); err != nil || !f.Response().Success || f.Request().PrevLogEntry != i || f.Response().LastLog != i {
			t.Fatalf("answer %d: %+v, %v", i, f.Response(), err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if err := push(p, 0, 0); !errors.Is(err, errPipelineClosed) {
		t.Errorf("a request to a closed pipeline: %v", err)
	}
}

// However a request ends that is not a success, it is told as such, and who sends is not kept waiting.
func TestPipelineClosesAtTheFirstFailure(t *testing.T) {
	for what, answer := range map[string]func(a *raft.AppendEntriesRequest, reply func([]byte, error)){
		"refused": func(a *raft.AppendEntriesRequest, reply func([]byte, error)) {
			reply(encodeAppended(&raft.AppendEntriesResponse{Term: a.Term}), nil)
		},
		"a newer term": func(a *raft.AppendEntriesRequest, reply func([]byte, error)) {
			reply(encodeAppended(&raft.AppendEntriesResponse{Term: a.Term + 1, Success: true}), nil)
		},
		"an error":   func(_ *raft.AppendEntriesRequest, reply func([]byte, error)) { reply(nil, errDisk) },
		"no answer":  func(_ *raft.AppendEntriesRequest, reply func([]byte, error)) { reply([]byte("no answer"), nil) },
		"overloaded": func(_ *raft.AppendEntriesRequest, reply func([]byte, error)) { reply(nil, transport.ErrOverloaded) },
	} {
		p := piped(t, func(a *raft.AppendEntriesRequest, reply func([]byte, error)) {
			if a.PrevLogEntry == 5 {
				answer(a, reply)
			} else if a.PrevLogEntry < 5 {
				reply(success(a), nil)
			} // and the later ones are never answered
		})
		var err error
		for i := uint64(0); err == nil; i++ { // nobody takes the answers meanwhile
			err = push(p, i, 0)
		}
		if errors.Is(err, transport.ErrTimeout) {
			t.Errorf("%s: the sender was kept waiting: %v", what, err)
		}
		for range 5 {
			if f := <-p.Consumer(); f.Error() != nil || !f.Response().Success {
				t.Errorf("%s: an answer before it: %v", what, f.Error())
			}
		}
		f := <-p.Consumer()
		if f.Response().Success && f.Response().Term <= f.Request().Term {
			t.Errorf("%s is told as a success", what)
		}
	}
}

func TestPipelineDoesNotWaitForEver(t *testing.T) {
	for what, size := range map[string]int{"many requests": 0, "many bytes": 3 << 20} {
		p := piped(t, func(*raft.AppendEntriesRequest, func([]byte, error)) {})
		p.wait = 50 * time.Millisecond
		sent := 0
		var err error
		for err == nil {
			if err = push(p, uint64(sent), size); err == nil {
				sent++
			}
		}
		if !errors.Is(err, transport.ErrTimeout) {
			t.Errorf("%s: %v", what, err)
		}
		if want := map[int]int{0: pipelineCount, 3 << 20: 2}[size]; sent != want {
			t.Errorf("%s: %d were sent, want %d", what, sent, want)
		}
	}
}

func TestPipelineWhoseAnswersNobodyTakesCloses(t *testing.T) {
	p := piped(t, func(a *raft.AppendEntriesRequest, reply func([]byte, error)) { reply(success(a), nil) })
	var err error
	sent := uint64(0)
	for ; err == nil && sent < 2*pipelineUnread; sent++ {
		err = push(p, sent, 0)
	}
	if !errors.Is(err, errPipelineClosed) {
		t.Errorf("after %d: %v", sent, err)
	}
}

// Only what can overtake nothing leaves the order.
func TestOnlyEmptyRequestsThatAreAloneWaitForOthers(t *testing.T) {
	entries := []*raft.Log{{Index: 1}}
	for _, c := range []struct {
		entries []*raft.Log
		alone   bool
		want    transport.Lane
	}{{nil, true, transport.Patient}, {nil, false, transport.Bulk}, {entries, true, transport.Bulk}, {entries, false, transport.Bulk}} {
		if got := laneOf(&raft.AppendEntriesRequest{Entries: c.entries}, c.alone); got != c.want {
			t.Errorf("%d entries, alone %v: lane %d", len(c.entries), c.alone, got)
		}
	}
	p := piped(t, func(*raft.AppendEntriesRequest, func([]byte, error)) {})
	for i, want := range []bool{true, false} {
		if alone, err := p.reserve(1); err != nil || alone != want {
			t.Errorf("request %d: alone %v, %v", i, alone, err)
		}
	}
}

func TestPipelineEndsWithTheNetwork(t *testing.T) {
	p := piped(t, func(*raft.AppendEntriesRequest, func([]byte, error)) {})
	for i := range uint64(pipelineCount) {
		if err := push(p, i, 0); err != nil {
			t.Fatal(err)
		}
	}
	blocked := make(chan error, 1)
	go func() { blocked <- push(p, pipelineCount, 0) }()
	if err := p.network.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-blocked; !errors.Is(err, raft.ErrTransportShutdown) {
		t.Error(err)
	}
}

// Past Raft's main loop goes only what makes Raft do nothing.
func TestWhatIsNewGoesThroughRaftsMainLoop(t *testing.T) {
	var b inbox
	request := func(term, commit uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: term, LeaderCommitIndex: commit}
	}
	answer := func(term uint64, success bool) raft.RPCResponse {
		return raft.RPCResponse{Response: &raft.AppendEntriesResponse{Term: term, Success: success}}
	}
	expect := func(what string, a *raft.AppendEntriesRequest, want bool) {
		t.Helper()
		if b.knows(a) != want {
			t.Errorf("%s: known %v", what, !want)
		}
	}
	expect("a term at the start", request(3, 0), false)
	b.adopt(&inbound{command: request(3, 7)}, answer(3, false))
	expect("a heartbeat of the term", request(3, 0), true)
	expect("commitment that was refused", request(3, 7), false)
	b.adopt(&inbound{command: request(3, 7)}, answer(3, true))
	expect("commitment that was understood", request(3, 7), true)
	expect("more commitment", request(3, 8), false)
	b.adopt(&inbound{command: request(4, 9)}, answer(5, false))
	expect("a term that was outbid", request(4, 0), false)
	b.adopt(&inbound{command: request(4, 9)}, raft.RPCResponse{Error: errDisk})
	expect("a term that failed", request(4, 0), false)
	b.adopt(&inbound{command: request(4, 5)}, answer(4, true))
	expect("a new term", request(4, 7), true)
	expect("the old term", request(3, 0), false)
}
