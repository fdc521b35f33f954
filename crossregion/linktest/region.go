package linktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/topology"
)

// ErrNotLeader is what a node answers about a partition it does not lead.
var ErrNotLeader = errors.New("this node does not lead the partition")

// Region is a region in memory, durable by definition: outboxes, and what was merged from others.
// It keeps everything that was ever written, so that a test can compare. Safe for concurrent use.
type Region struct {
	ID    topology.RegionID
	Actor crdt.Actor
	// destinations are the regions that must have a record before it is trimmed.
	destinations []topology.RegionID
	partitions   []*partition
}

type partition struct {
	mu      sync.Mutex
	leader  int
	written [][]byte
	first   uint64
	// Up to folded, the outbox has one record.
	folded uint64
	acks   map[topology.RegionID]uint64
	merged map[crdt.Actor][][]byte
	// rot is what is wrong with the state.
	rot []byte
	// faults are the errors of whoever drives this region.
	faults []string
	// outbox and leadership are closed and replaced when those change.
	outbox, leadership chan struct{}
}

// NewRegion returns an empty region whose partitions are all led by node 0.
func NewRegion(id topology.RegionID, partitions int, destinations ...topology.RegionID) *Region {
	r := &Region{ID: id, Actor: topology.Actor(id, 1), destinations: destinations}
	for range partitions {
		r.partitions = append(r.partitions, &partition{
			first: 1, acks: map[topology.RegionID]uint64{}, merged: map[crdt.Actor][][]byte{},
			outbox: make(chan struct{}), leadership: make(chan struct{}),
		})
	}
	return r
}

// Write appends a record to a partition's outbox.
func (r *Region) Write(p topology.PartitionID, data []byte) {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.written = append(part.written, data)
	notify(&part.outbox)
}

// FoldOutbox puts one record in the place of all that a partition's outbox keeps.
func (r *Region) FoldOutbox(p topology.PartitionID) {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.folded = uint64(len(part.written))
	notify(&part.outbox)
}

// Lead makes a node lead a partition; -1 is none.
func (r *Region) Lead(p topology.PartitionID, node int) {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.leader = node
	notify(&part.leadership)
}

func notify(c *chan struct{}) {
	close(*c)
	*c = make(chan struct{})
}

// Begin returns the first record that a partition's outbox keeps.
func (r *Region) Begin(p topology.PartitionID) uint64 {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.first
}

// Kept returns how many records a partition's outbox keeps.
func (r *Region) Kept(p topology.PartitionID) int {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return len(part.written) - int(part.first) + 1
}

// Missing returns how many of the origin's records are not merged here.
func (r *Region) Missing(origin *Region) int {
	missing := 0
	for p := range r.partitions {
		missing += len(origin.writtenTo(p)) - len(r.mergedIn(p, origin.Actor))
	}
	return missing
}

// Faults returns what was done wrong to this region, and where what it merged from the origin differs
// from what the origin wrote.
func (r *Region) Faults(origin *Region) []string {
	var faults []string
	for p, part := range r.partitions {
		written, merged := origin.writtenTo(p), r.mergedIn(p, origin.Actor)
		for i := range merged {
			if !bytes.Equal(written[i], merged[i]) {
				faults = append(faults, fmt.Sprintf("partition %d: record %d differs", p, i+1))
			}
		}
		part.mu.Lock()
		faults = append(faults, part.faults...)
		part.mu.Unlock()
	}
	return faults
}

func (r *Region) writtenTo(p int) [][]byte {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return slices.Clone(part.written)
}

func (r *Region) mergedIn(p int, actor crdt.Actor) [][]byte {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return slices.Clone(part.merged[actor])
}

// Node returns one node's view of the region: a Source and a Sink.
func (r *Region) Node(index int) *Node { return &Node{r, index} }

// Node is one node of a Region.
type Node struct {
	region *Region
	index  int
}

// Leadership implements crossregion.Source.
func (n *Node) Leadership(p topology.PartitionID) (bool, <-chan struct{}) {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.leader == n.index, part.leadership
}

// Outbox implements crossregion.Source.
func (n *Node) Outbox(p topology.PartitionID) (protocol.OutboxState, <-chan struct{}) {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	state := protocol.OutboxState{Actor: n.region.Actor, First: part.first, Head: uint64(len(part.written))}
	for i, data := range part.written {
		state.Appended += uint64(len(data))
		if uint64(i) >= part.first-1 {
			state.Bytes += uint64(len(data))
		}
	}
	return state, part.outbox
}

// ReadOutbox implements crossregion.Source.
func (n *Node) ReadOutbox(p topology.PartitionID, from uint64, maxBytes int) ([]protocol.Record, error) {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	if from < part.first {
		return nil, protocol.ErrTrimmed
	}
	var records []protocol.Record
	if from <= part.folded && part.first < part.folded {
		for seq := part.first; seq <= part.folded; seq++ {
			records = append(records, protocol.Record{Seq: seq, Data: part.written[seq-1]})
		}
		run, err := Fold(records)
		if err != nil {
			return nil, err
		}
		records, from = []protocol.Record{run}, part.folded+1
		maxBytes -= len(run.Data)
	}
	for seq := from; seq <= uint64(len(part.written)); seq++ {
		data := part.written[seq-1]
		if maxBytes -= len(data); maxBytes < 0 && len(records) > 0 {
			break
		}
		records = append(records, protocol.Record{Seq: seq, Data: data})
	}
	return records, nil
}

// State implements crossregion.State. The highest clock is how many records there are.
func (n *Node) State(p topology.PartitionID) (crdt.VersionVector, hlc.Time) {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.vectorLocked(n.region.Actor), hlc.Time(len(part.written))
}

// vectorLocked returns how far the partition's state is.
func (part *partition) vectorLocked(self crdt.Actor) crdt.VersionVector {
	var v crdt.VersionVector
	v.Set(self, uint64(len(part.written)))
	for actor, merged := range part.merged {
		v.Set(actor, uint64(len(merged)))
	}
	return v
}

// Digest implements crossregion.State.
func (n *Node) Digest(_ context.Context, p topology.PartitionID) (protocol.Digest, error) {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	d := protocol.Digest{Vector: part.vectorLocked(n.region.Actor)}
	sum := sha256.New()
	d.Vector.Each(func(actor crdt.Actor, _ uint64) {
		records := part.merged[actor]
		if actor == n.region.Actor {
			records = part.written
		}
		fmt.Fprintf(sum, "%d %q\n", actor, records)
	})
	sum.Write(part.rot)
	d.Sum = [16]byte(sum.Sum(nil))
	return d, nil
}

// Made implements crossregion.State: every record was made at the same instant, long ago.
func (n *Node) Made(topology.PartitionID, uint64) (time.Time, error) {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), nil
}

// Rot changes a partition's state behind everybody's back, or mends it.
func (r *Region) Rot(p topology.PartitionID, rot string) {
	part := r.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.rot = []byte(rot)
}

// Acknowledge implements crossregion.Source.
func (n *Node) Acknowledge(_ context.Context, p topology.PartitionID, watermarks []protocol.Watermark) error {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.leader != n.index {
		return ErrNotLeader
	}
	for _, w := range watermarks {
		if w.Actor != n.region.Actor || w.Seq > uint64(len(part.written)) {
			part.faults = append(part.faults, fmt.Sprintf("partition %d: watermark %+v", p, w))
		}
		part.acks[w.Region] = max(part.acks[w.Region], w.Seq)
	}
	least := uint64(len(part.written))
	for _, d := range n.region.destinations {
		least = min(least, part.acks[d])
	}
	if least >= part.folded {
		part.first = max(part.first, least+1)
	}
	notify(&part.outbox)
	return nil
}

// Applied implements crossregion.Sink.
func (n *Node) Applied(p topology.PartitionID, actor crdt.Actor) uint64 {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	return uint64(len(part.merged[actor]))
}

// Merge implements crossregion.Sink.
func (n *Node) Merge(_ context.Context, p topology.PartitionID, actor crdt.Actor, records []protocol.Record) (uint64, error) {
	part := n.region.partitions[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.leader != n.index {
		return 0, ErrNotLeader
	}
	applied := uint64(len(part.merged[actor]))
	all, err := unfold(records)
	if err != nil {
		return applied, &protocol.BadBatchError{Err: err}
	}
	for _, r := range all {
		switch {
		case r.Seq == applied+1:
			part.merged[actor] = append(part.merged[actor], r.Data)
			applied++
		case r.Seq > applied:
			part.faults = append(part.faults, fmt.Sprintf("partition %d: record %d merged after %d", p, r.Seq, applied))
		}
	}
	return applied, nil
}
