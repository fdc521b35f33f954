package protocol

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/hlc"
	crossregionv1 "github.com/atolldb/atoll/proto/atoll/crossregion/v1"
	"github.com/atolldb/atoll/topology"
)

const (
	// clocksStale is how old a measurement may be to be told.
	clocksStale = 10 * time.Second
	// clocksKept bounds how many nodes' clocks are known at once, and told of in one tick.
	clocksKept = 64
	// clocksSent is how many own ticks are remembered: for so many the answer may take.
	clocksSent = 16
)

// ClockOffset is how far the clock of another region's node is ahead of this node's.
type ClockOffset struct {
	Region topology.RegionID
	Node   topology.NodeID
	Ahead  time.Duration
	// Uncertainty is how far Ahead may be from the truth, either way: half of the round trip.
	Uncertainty time.Duration
}

// Clocks measures how far the clocks of other regions' nodes are off. It is a step function. Each tick has its
// sender's time, and which ticks of others it heard how long ago: the way of one, and of the answer, are a
// round trip.
type Clocks struct {
	region topology.RegionID
	node   topology.NodeID
	// sent has when own ticks were sent, by the time in them; sentOrder has those, the oldest first.
	sent      map[int64]time.Duration
	sentOrder []int64
	heard     map[clockID]heardClock
}

type clockID struct {
	region topology.RegionID
	node   topology.NodeID
}

type heardClock struct {
	// wall is the time in the last tick, which was heard at.
	wall int64
	at   time.Duration
	// origin is what its clock read when this node's monotonic clock was 0, as measured.
	origin      time.Time
	uncertainty time.Duration
	measuredAt  time.Duration
	measured    bool
}

// NewClocks returns what measures for a node of a region.
func NewClocks(region topology.RegionID, node topology.NodeID) *Clocks {
	return &Clocks{region: region, node: node, sent: map[int64]time.Duration{}, heard: map[clockID]heardClock{}}
}

// Reading returns what to send with a tick now.
func (c *Clocks) Reading(now hlc.Reading) *crossregionv1.ClockReading {
	wall := now.Wall.UnixMicro()
	if _, twice := c.sent[wall]; !twice {
		c.sentOrder = append(c.sentOrder, wall)
	}
	c.sent[wall] = now.Elapsed
	if len(c.sentOrder) > clocksSent {
		delete(c.sent, c.sentOrder[0])
		c.sentOrder = c.sentOrder[1:]
	}
	m := &crossregionv1.ClockReading{WallUs: wall}
	for _, id := range c.known() {
		if h := c.heard[id]; now.Elapsed-h.at <= clocksStale {
			m.Echoes = append(m.Echoes, &crossregionv1.ClockEcho{
				Region: uint32(id.region), Node: string(id.node), WallUs: h.wall, HeldUs: uint64((now.Elapsed - h.at).Microseconds()),
			})
		}
	}
	return m
}

func (c *Clocks) known() []clockID {
	return slices.SortedFunc(maps.Keys(c.heard), func(a, b clockID) int {
		return cmp.Or(cmp.Compare(a.region, b.region), cmp.Compare(a.node, b.node))
	})
}

// Heard takes what came with another node's tick; nil if nothing did.
func (c *Clocks) Heard(region topology.RegionID, node topology.NodeID, m *crossregionv1.ClockReading, now hlc.Reading) {
	if m == nil {
		return
	}
	id := clockID{region, node}
	h, known := c.heard[id]
	if !known && !c.room(now) {
		return
	}
	h.wall, h.at = m.WallUs, now.Elapsed
	for _, e := range m.Echoes[:min(len(m.Echoes), clocksKept)] {
		if e.Region != uint32(c.region) || e.Node != string(c.node) {
			continue
		}
		sent, ours := c.sent[e.WallUs]
		roundTrip := now.Elapsed - sent - time.Duration(min(e.HeldUs, 1<<40))*time.Microsecond
		if ours && roundTrip >= 0 {
			h.origin = time.UnixMicro(m.WallUs).Add(roundTrip/2 - now.Elapsed)
			h.uncertainty, h.measuredAt, h.measured = roundTrip/2, now.Elapsed, true
		}
	}
	c.heard[id] = h
}

// room forgets who was not heard for long, and reports whether there is room for one more.
func (c *Clocks) room(now hlc.Reading) bool {
	if len(c.heard) >= clocksKept {
		maps.DeleteFunc(c.heard, func(_ clockID, h heardClock) bool { return now.Elapsed-h.at > clocksStale })
	}
	return len(c.heard) < clocksKept
}

// Offsets returns what is known of other nodes' clocks, by region and node. A clock that was not measured lately is
// unknown, and not among them.
func (c *Clocks) Offsets(now hlc.Reading) []ClockOffset {
	var all []ClockOffset
	for _, id := range c.known() {
		if h := c.heard[id]; h.measured && now.Elapsed-h.measuredAt <= clocksStale {
			all = append(all, ClockOffset{id.region, id.node, h.origin.Add(now.Elapsed).Sub(now.Wall), h.uncertainty})
		}
	}
	return all
}
