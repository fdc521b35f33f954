package node

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/region/api"
	"github.com/atolldb/atoll/region/drift"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

const (
	// clockGroup carries the nodes' questions about their clocks. No partition has so high a number.
	clockGroup = 1<<31 + 1
	clockKind  = 1
	// yieldPause is between two attempts to give leadership away, in case nobody else can have it.
	yieldPause = 5 * time.Second
)

// openClock makes the node's clock, which does not follow jumps, and what compares it with the other nodes'.
func (n *Node) openClock(context.Context) (err error) {
	source := n.cfg.ClockSource
	if source == nil {
		source = hlc.SourceOf(n.cfg.Clock)
	}
	bound := cmp.Or(n.cfg.MaxClockOffset, drift.DefaultMaxOffset)
	n.source = source
	n.steady = hlc.NewSteady(source, bound)
	n.clock = hlc.NewClock(n.steady.Wall)
	layer := n.mux.Group(clockGroup)
	var peers []topology.NodeID
	for _, other := range n.region.Nodes {
		if other.ID != n.cfg.Node {
			peers = append(peers, other.ID)
		}
	}
	n.drift, err = drift.New(drift.Config{
		Peers: peers, Source: source, Steady: n.steady,
		MaxOffset: bound, WarnOffset: min(bound, drift.DefaultWarnOffset),
		Ask: func(ctx context.Context, peer topology.NodeID, question []byte) ([]byte, error) {
			return layer.Call(ctx, peer, transport.Control, clockKind, question)
		},
		Witnesses: n.otherRegionsClocks,
		Logger:    n.cfg.Logger, OnVerdict: n.onVerdict,
	})
	if err != nil {
		return err
	}
	layer.Handle(clockKind, clockKind, func(_ topology.NodeID, _ uint8, body []byte, reply func([]byte, error)) {
		reply(n.drift.Answer(body))
	})
	return nil
}

// otherRegionsClocks returns what is known of them.
func (n *Node) otherRegionsClocks() []drift.Offset {
	replicator := n.replicator.Load()
	if replicator == nil {
		return nil
	}
	var all []drift.Offset
	for _, o := range replicator.Clocks() {
		all = append(all, drift.Offset{Node: o.Node, Ahead: o.Ahead, Uncertainty: o.Uncertainty})
	}
	return all
}

// clocks returns what the API shows of clocks.
func (n *Node) clocks() api.Clocks {
	v := n.drift.Verdict()
	shown := api.Clocks{Unsafe: v.Unsafe, Drift: v.Drift, Why: v.Why}
	for _, o := range n.drift.Offsets() {
		shown.Offsets = append(shown.Offsets, api.ClockOffset{Region: n.region.ID, Node: o.Node, Ahead: o.Ahead, Uncertainty: o.Uncertainty})
	}
	if replicator := n.replicator.Load(); replicator != nil {
		for _, o := range replicator.Clocks() {
			shown.Offsets = append(shown.Offsets, api.ClockOffset(o))
		}
	}
	return shown
}

// clockSafe returns why nothing must be proposed now because of the clock, or nil.
func (n *Node) clockSafe() error {
	switch v := n.drift.Verdict(); {
	case v.Unmeasured:
		// The node has only just started, and is not ready to lead: that passes, so clients try again.
		return &region.NotLeaderError{}
	case v.Unsafe:
		return &region.ClockUnsafeError{Drift: v.Drift}
	}
	return nil
}

// onVerdict has leadership given away while the clock is unsafe.
func (n *Node) onVerdict(v drift.Verdict) {
	if !v.Unsafe || v.Unmeasured {
		return
	}
	select {
	case n.yields <- struct{}{}:
	default: // under way
	}
}

// yield gives away the partitions that this node leads whenever its clock is found to be unsafe.
func (n *Node) yield(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.yields:
		}
		var handing sync.WaitGroup
		for _, g := range n.groups {
			handing.Go(func() { g.HandOver(ctx) })
		}
		handing.Wait()
		pause := time.NewTimer(yieldPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}
