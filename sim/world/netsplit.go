package world

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/internal/spec"
)

// Netsplit is a long time in which no two regions reach each other, and all are written to.
type Netsplit struct {
	Seed    uint64
	Regions int
	// Length is how long it lasts, and Every how often somewhere something is written.
	Length, Every time.Duration
}

// NetsplitResult is what came of a Netsplit.
type NetsplitResult struct {
	Result
	// Writes is how many there were while it lasted, in all regions.
	Writes int
	// OutboxEntries and OutboxBytes are the most that one region kept for the others.
	OutboxEntries, OutboxBytes uint64
	// CatchUp is how long a majority took, once it was healed, to apply everything of each other, and Faster how many times
	// faster than they were written events were applied then.
	CatchUp time.Duration
	Faster  float64
}

// hotCounter is added to all the time, and never reset: its value is the number of additions.
const hotCounter = "hot"

// RunNetsplit plays a netsplit, and heals it.
func (r *Runner) RunNetsplit(n Netsplit, tell Listener) NetsplitResult {
	p := &Plan{
		Seed: n.Seed, Regions: n.Regions, Partitions: 1, Nodes: 1, Length: n.Length, Types: writable, HotKeys: 1,
		Rates: Rates{Flush: 0.001}, operation: netsplitOperation,
	}
	for i := range n.Regions/2 + 1 {
		p.Core = append(p.Core, i)
	}
	rng := rand.New(rand.NewPCG(n.Seed, 3))
	for i := range n.Regions {
		h := Happening{At: time.Second, Kind: Isolate, Site: i, Other: (i + 1) % n.Regions, For: never / 2}
		p.Happenings = append(p.Happenings, h)
	}
	for at := time.Second; at < n.Length; at += n.Every {
		h := Happening{At: at, Kind: Write, Site: rng.IntN(n.Regions), Draw: rng.Uint64()}
		p.Happenings = append(p.Happenings, h)
	}
	w := newWorld(p, r.mouths, tell)
	w.play()
	w.counts.Schedules, w.counts.Virtual = 1, w.now
	res := NetsplitResult{
		Result: Result{w.failure, w.trace, w.counts}, Writes: len(p.Happenings) - n.Regions,
		OutboxEntries: w.peak.entries, OutboxBytes: w.peak.bytes, CatchUp: w.coreTook,
	}
	if res.CatchUp > 0 {
		res.Faster = n.Length.Seconds() / res.CatchUp.Seconds()
	}
	return res
}

// netsplitOperation draws a write: half of them add to one counter, one in ten puts into one register.
func netsplitOperation(w *World, rng *rand.Rand) operation {
	switch rng.IntN(10) {
	case 0, 1, 2, 3, 4:
		return operation{
			Op:    replica.Op{Kind: replica.OpCounterAdd, Namespace: namespace, Key: hotCounter, Delta: 1},
			id:    valueID{key: hotCounter, of: crdt.TypeCounter},
			event: spec.Event{Of: crdt.TypeCounter, Names: []string{""}, Values: []string{""}, N: 1},
		}
	case 5:
		value := fmt.Sprint(rng.Uint64())
		return operation{
			Op:    replica.Op{Kind: replica.OpPut, Namespace: namespace, Key: hotCounter + "-register", Value: []byte(value)},
			id:    valueID{key: hotCounter + "-register", of: crdt.TypeLWWRegister},
			event: spec.Event{Of: crdt.TypeLWWRegister, Names: []string{""}, Values: []string{value}},
		}
	default:
		return w.operation(rng)
	}
}

// String says what came of the netsplit.
func (r *NetsplitResult) String() string {
	c := &r.Counts
	return fmt.Sprintf("%d writes made %d events; an outbox kept %d deltas of %d bytes at most; healed, a majority had everything after %v, "+
		"%.0f times faster than it was written; %d of the values compared with the specification",
		r.Writes, c.Events, r.OutboxEntries, r.OutboxBytes, r.CatchUp.Round(time.Millisecond), r.Faster, c.Compared)
}
