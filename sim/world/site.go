package world

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/protocol"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// site is one region: its nodes, its partitions and its stream.
type site struct {
	mouth
	part
	w      *World
	index  int
	id     topology.RegionID
	epoch  topology.Epoch
	actor  crdt.Actor
	nodes  []*node
	groups []*group // by partition
	stream *stream
	budget *protocol.Budget
	// restored says that the region was set back to an old copy. It takes no writes from then on.
	restored bool
	// backup is an old copy of each partition.
	backup []*backup
}

// node is one process with a replica of each partition of its region.
type node struct {
	site     *site
	index    int
	up       bool
	clock    *hlc.Clock
	offset   time.Duration // of its wall clock
	drift    float64       // seconds a second
	replicas []*member     // by partition
}

// member is one replica of a partition.
type member struct {
	node    *node
	group   *group
	disk    *disk
	machine *region.Machine
	steps   *region.Steps
	leading bool
	// behindUntil is until when it applies nothing.
	behindUntil time.Duration
	catching    bool
}

func newSite(w *World, index int) *site {
	id := topology.RegionID(index + 1)
	s := &site{w: w, index: index, id: id, epoch: firstEpoch, actor: topology.Actor(id, firstEpoch)}
	s.stream = newStream(s, w.plan.Regions)
	s.budget = protocol.NewBudget(w.tuning.ResyncRate)
	for p := range w.plan.Partitions {
		s.groups = append(s.groups, newGroup(s, topology.PartitionID(p)))
	}
	for i := range w.plan.Nodes {
		n := &node{site: s, index: i}
		if skew := int64(w.plan.Skew); skew > 0 {
			n.offset = time.Duration(w.rng.Int64N(2*skew) - skew)
			n.drift = (w.rng.Float64() - 0.5) / 1000
		}
		for _, g := range s.groups {
			m := &member{node: n, group: g, disk: newDisk()}
			n.replicas = append(n.replicas, m)
			g.members = append(g.members, m)
		}
		s.nodes = append(s.nodes, n)
	}
	return s
}

func (s *site) String() string { return fmt.Sprintf("region %d", s.id) }

func (n *node) String() string { return fmt.Sprintf("node %d.%d", n.site.id, n.index+1) }

// start starts the nodes, and what a region does now and then.
func (s *site) start() {
	w := s.w
	for _, n := range s.nodes {
		n.start()
	}
	for _, g := range s.groups {
		g.elect()
	}
	// Regions do not do these at the same instant.
	offset := time.Duration(w.rng.Int64N(int64(time.Second)))
	w.after(offset, func() {
		s.everySecond()
		w.every(w.tuning.TickEvery, s.everySecond)
		w.every(w.tuning.StreamCheck, s.checkStream)
		w.every(verifyEvery, func() {
			for _, o := range w.others(s) {
				o.stream.verify(s)
			}
		})
	})
	w.after(time.Duration(w.rng.Int64N(int64(w.plan.Length))), s.keepBackup)
}

func (s *site) everySecond() {
	for _, g := range s.groups {
		g.beat()
		g.tend()
		g.keepOutbox()
		g.touch() // receivers find out by and by that they need a state
	}
	s.gossip()
	s.attend()
}

func (s *site) checkStream() {
	if !s.stream.up() {
		return
	}
	for _, g := range s.groups {
		if g.session != nil {
			g.session.ship.Observe(s.stream.state())
			g.touch()
		}
	}
}

func (s *site) anyNode() bool {
	for _, n := range s.nodes {
		if n.up {
			return true
		}
	}
	return false
}

// wall is what the node's clock shows.
func (n *node) wall() time.Time {
	w := n.site.w
	return began.Add(w.now + n.offset + time.Duration(n.drift*float64(w.now)))
}

var discard = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))

// start starts the node's process on what its disks have.
func (n *node) start() {
	w := n.site.w
	n.up = true
	n.clock = hlc.NewClock(n.wall)
	w.lives++
	destinations := make([]topology.RegionID, 0, len(w.sites))
	for i := range w.plan.Regions {
		if i != n.site.index {
			destinations = append(destinations, topology.RegionID(i+1))
		}
	}
	for _, m := range n.replicas {
		machine, err := region.NewMachine(n.site.actor, m.disk, n.clock)
		if err != nil {
			w.fail("storage is readable", "%v, partition %d: %v", n, m.group.id, err)
			return
		}
		m.machine, m.leading, m.behindUntil = machine, false, 0
		m.steps = region.NewSteps(region.NewPartition(region.PartitionConfig{
			ID: m.group.id, Machine: machine, Group: leadership{nil, m}, Clock: n.clock, Wall: n.wall,
			Proposer: w.lives, Destinations: destinations, OutboxQuota: w.plan.Quota, Logger: discard,
			Fenced: n.site.mayWrite,
		}))
		m.checkPrint()
		m.catchUpSoon()
	}
}

// stop ends the node's process: what it did not flush is gone.
func (n *node) stop() {
	n.up = false
	for _, m := range n.replicas {
		if m.group.leader == m {
			m.group.depose()
		}
		m.disk.crash()
		m.machine, m.steps = nil, nil
	}
}

// leadership is the group as Steps see it: they ask only whether this node leads.
type leadership struct {
	region.Group
	m *member
}

// Leadership implements region.Group.
func (l leadership) Leadership() (bool, <-chan struct{}) { return l.m.leading, nil }

// Leader implements region.Group.
func (l leadership) Leader() (topology.NodeID, uint64, bool) { return "", l.m.group.term, false }
