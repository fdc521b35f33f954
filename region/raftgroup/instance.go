package raftgroup

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/atolldb/atoll/region/transport"
)

var errGivenUp = errors.New("given up")

// instance is one run of the library over the group's log and state. A group has one after another:
// what the library has in memory can go wrong in ways that it never recovers from, and what it has on
// disk is right then.
type instance struct {
	raft  *raft.Raft
	trans *network
	ended chan struct{} // closed when it answers nothing any more
	// flying are the proposals that are not answered yet.
	flying proposals
	// retired is set before the next instance begins.
	retired atomic.Bool
}

// start starts an instance.
func (g *Group) start() (*instance, error) {
	i := &instance{trans: newNetwork(g.layer, g.self, g.logger), ended: make(chan struct{})}
	i.trans.inbox.appended = g.dog.appended
	i.trans.sends = g.sends
	i.trans.incarnation.Store(g.incarnation)
	logs := g.logs
	logs.onConflict = func() {
		// What Raft would say of entries that are gone must not be heard: it might vote for somebody
		// who lacks what it has.
		_ = i.deafen() // never fails
		g.dog.want("a snapshot contradicts its log")
	}
	var err error
	i.raft, err = raft.NewRaft(g.conf, g.fsm, logs, stableStore{g.log}, g.snapshots, i.trans)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start raft: %w", err), i.trans.Close())
	}
	return i, nil
}

// await waits for a future, until stop or the instance's end. The library's own wait can last for ever:
// a future that was enqueued when Raft shut down is never answered. The goroutine that is left behind
// then ends with the process.
func (i *instance) await(stop <-chan struct{}, wait func(*raft.Raft) error) error {
	answered := make(chan error, 1)
	go func() { answered <- wait(i.raft) }()
	select {
	case err := <-answered:
		return err
	case <-stop:
		return errGivenUp
	case <-i.ended:
		return raft.ErrRaftShutdown
	}
}

// term returns the term that this member is in, or was in at an instant during the call. A retired
// instance's is that of the past: its successor may have voted since.
func (i *instance) term() (uint64, error) {
	if i.retired.Load() {
		return 0, transport.ErrNoGroup
	}
	return i.raft.CurrentTerm(), nil
}

// deafen ends what the instance says and hears, at once. It may be called by Raft itself.
func (i *instance) deafen() error {
	i.retired.Store(true)
	i.trans.CloseStreams()
	return i.trans.Close()
}

// stop ends the instance, and waits for it. Raft waits for all it has begun; closing the connections
// ends what waits for a peer, such as a snapshot half received.
func (i *instance) stop() error {
	shutdown := i.raft.Shutdown()
	closed := i.deafen()
	err := shutdown.Error()
	close(i.ended)
	i.flying.end()
	return errors.Join(err, closed)
}
