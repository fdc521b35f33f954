package raftgroup

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/internal/loopback"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// A member that was away is brought up to date as soon as it is back, however often it could not be
// reached meanwhile: one call lasts from before until after.
func TestEntriesWaitForANodeThatIsDown(t *testing.T) {
	free, err := loopback.Free(2)
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[topology.NodeID]string{"a": free[0], "b": free[1]}
	listen := func(id topology.NodeID) *network {
		mux, err := transport.Listen(transport.Config{
			Cluster: "c", Self: id, Listen: addresses[id], Logger: slog.New(slog.DiscardHandler),
			Resolve: func(n topology.NodeID) (string, bool) { a, ok := addresses[n]; return a, ok },
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- mux.Run(t.Context()) }()
		n := newNetwork(mux.Group(1), id, slog.New(slog.DiscardHandler))
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
			if err := mux.Close(); err != nil {
				t.Error(err)
			}
			<-done
		})
		return n
	}
	a := listen("a")
	answered := make(chan error, 1)
	var answer raft.AppendEntriesResponse
	go func() { answered <- a.AppendEntries("b", "b", testAppend(), &answer) }()
	select {
	case err := <-answered:
		t.Fatalf("a call to a node that is down ended at once: %v", err)
	case <-time.After(10 * downLook):
	}
	b := listen("b")
	rpc := <-b.Consumer()
	rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: testHeader(), Term: 7, Success: true}, nil)
	if err := <-answered; err != nil || !answer.Success {
		t.Errorf("answer %+v, %v", answer, err)
	}
}
