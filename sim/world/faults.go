package world

import (
	"math/rand/v2"
	"slices"
	"time"
)

// happen makes something of the plan happen.
func (w *World) happen(h *Happening) {
	s, o := w.sites[h.Site], w.sites[h.Other]
	if h.Kind >= ChangeLeader {
		w.counts.Faults[h.Kind]++
	}
	rng := rand.New(rand.NewPCG(h.Draw, 2))
	switch h.Kind {
	case Write:
		w.write(h)
	case ChangeLeader:
		w.say("%v: partition %d loses its leader", s, h.Partition)
		s.groups[h.Partition].depose()
	case Crash, CrashRegion:
		w.crash(h)
	case FallBehind:
		m := s.nodes[h.Node].replicas[h.Partition]
		w.say("%v applies nothing for %v", m.node, h.For)
		m.behindUntil = w.now + h.For
		w.after(h.For, m.catchUpSoon)
	case InstallSnapshot:
		w.say("%v gets a snapshot of partition %d", s.nodes[h.Node], h.Partition)
		s.nodes[h.Node].replicas[h.Partition].install()
	case JumpClock:
		w.jump(s.nodes[h.Node], rng)
	case RestoreRegion:
		s.restore()
	case Cut, CutOneWay, Isolate, Flap, Clog, Deafen:
		w.harmLinks(h, rng, s, o)
	case StopStream, PurgeStream, TruncateStream, RecreateStream:
		w.harmStream(h, rng, s)
	case Fence, Drain, Rejoin:
		w.operate(h)
	case WriteHome:
		w.clientAtHome(h)
	case MoveHome:
		w.startMove(h)
	}
}

// crash ends one node, or all of a region, for a while.
func (w *World) crash(h *Happening) {
	s := w.sites[h.Site]
	nodes := s.nodes
	if h.Kind == Crash {
		nodes = nodes[h.Node : h.Node+1]
	}
	for _, n := range nodes {
		if !n.up {
			continue
		}
		w.say("%v crashes, for %v", n, h.For.Round(time.Millisecond))
		n.stop()
		w.after(h.For, func() {
			if !n.up {
				n.restart()
			}
		})
	}
}

// restart starts a node again; if it is the first of its region, it leads.
func (n *node) restart() {
	n.site.w.say("%v is back", n)
	n.start()
	for _, g := range n.site.groups {
		if g.leader == nil {
			n.site.w.after(n.site.w.between1to5ms()*20, g.elect)
		}
	}
	for _, o := range n.site.w.others(n.site) {
		o.stream.pump(n.site)
	}
}

// jumps are how wrong a clock may become. One that is further ahead than others tolerate would be at odds
// with them for good.
var jumps = []time.Duration{-time.Hour, -5 * time.Second, -time.Second, time.Second, 4500 * time.Millisecond}

func (w *World) jump(n *node, rng *rand.Rand) {
	n.offset = jumps[rng.IntN(len(jumps))]
	w.say("the clock of %v jumps to %v off", n, n.offset)
}

func (w *World) harmLinks(h *Happening, rng *rand.Rand, s, o *site) {
	d := h.For.Round(time.Millisecond)
	switch h.Kind {
	case Cut:
		w.say("netsplit between %v and %v, for %v", s, o, d)
		w.cut(s, o, h.For)
		w.cut(o, s, h.For)
	case CutOneWay:
		w.say("nothing passes from %v to %v, for %v", s, o, d)
		w.cut(s, o, h.For)
	case Isolate:
		w.say("%v is cut off, for %v", s, d)
		for _, o := range w.others(s) {
			w.cut(s, o, h.For)
			w.cut(o, s, h.For)
		}
	case Flap:
		w.say("the link between %v and %v flaps", s, o)
		for i := range 2 + rng.IntN(8) {
			w.after(time.Duration(i)*200*time.Millisecond, func() {
				w.cut(s, o, 100*time.Millisecond)
				w.cut(o, s, 100*time.Millisecond)
			})
		}
	case Clog:
		w.clog(s, rng, h.For)
	case Deafen:
		w.say("%v's stream to %v is half-open, for %v", s, o, d)
		l := w.between(s, o)
		l.deafUntil = w.now + h.For
		w.after(h.For, func() { w.reconnected(s, o) })
	}
}

// clog holds what all links of a region carry: it stops them one by one, and lets go in another order.
func (w *World) clog(s *site, rng *rand.Rand, d time.Duration) {
	w.say("the links of %v clog one by one", s)
	var links []*link
	for _, o := range w.others(s) {
		links = append(links, w.between(s, o), w.between(o, s))
	}
	for i, l := range rng.Perm(len(links)) {
		release := w.now + d + time.Duration(rng.Int64N(int64(d)+1))
		w.after(time.Duration(i)*d/time.Duration(len(links)), func() { links[l].clogUntil = max(links[l].clogUntil, release) })
	}
}

func (w *World) harmStream(h *Happening, rng *rand.Rand, s *site) {
	st := s.stream
	switch h.Kind {
	case StopStream:
		w.say("the stream of %v is down, for %v", s, h.For.Round(time.Millisecond))
		st.downUntil = w.now + h.For
		w.after(h.For, func() {
			for _, o := range w.others(s) {
				st.pump(o)
			}
		})
	case PurgeStream:
		w.say("the stream of %v loses all %d frames", s, len(st.frames))
		st.purge()
	case TruncateStream:
		n := 1 + rng.IntN(1+len(st.frames))
		w.say("the stream of %v loses its last %d frames", s, n)
		st.truncate(n)
	case RecreateStream:
		w.say("the stream of %v is made anew", s)
		st.recreate()
	}
}

// backup is an old copy of a partition's state, and how long its log was.
type backup struct {
	file  *file
	index int
	books books
	term  uint64
}

// keepBackup copies the region, for a restore.
func (s *site) keepBackup() {
	if s.backup != nil || s.restored {
		return
	}
	var copies []*backup
	for _, g := range s.groups {
		if g.leader == nil {
			return
		}
		copies = append(copies, &backup{g.leader.disk.copy(), len(g.log), g.books.clone(), g.term})
	}
	s.backup = copies
}

// restore sets a region back to an old copy, as if all its disks had been. Nothing tells it so: others know more of
// it than it does. Whoever restores a region must not let it take writes before it has a new name.
func (s *site) restore() {
	w := s.w
	if s.backup == nil || s.restored {
		return
	}
	w.say("%v is restored from an old copy", s)
	for _, n := range s.nodes {
		if n.up {
			n.stop()
		}
	}
	s.restored = true
	for i, g := range s.groups {
		b := s.backup[i]
		g.log, g.prints = slices.Clone(g.log[:b.index]), slices.Clone(g.prints[:b.index])
		b.books.ever = g.books.ever
		g.books = b.books
		for _, m := range g.members {
			m.disk.become(b.file)
		}
	}
	w.after(w.between1to5ms()*20, func() {
		for _, n := range s.nodes {
			if !n.up {
				n.restart()
			}
		}
	})
}

func (b *books) clone() books {
	c := *b
	c.have, c.need, c.ever, c.digestAt = slices.Clone(b.have), slices.Clone(b.need), slices.Clone(b.ever), slices.Clone(b.digestAt)
	return c
}

// onStuck checks that flows stand still for good only where a region was restored.
func (w *World) onStuck(g *group, f *flow) {
	if f.stuck == "" {
		return
	}
	if f.recv.Quarantine() != 0 { // it waits for a clock that is an hour behind, and goes on by itself
		w.say("%v waits for its clock to merge what comes from %v", g.site, f.origin)
		w.counts.Quarantined++
		return
	}
	w.say("%v cannot go on with what comes from %v: %s", g.site, f.origin, f.stuck)
	if g.site.restored || f.origin.restored {
		w.counts.Noticed++
		return
	}
	if w.plan.transfers() {
		return // a state transfer helps
	}
	w.fail("no flow is stuck", "%v, from %v: %s", g.site, f.origin, f.stuck)
}
