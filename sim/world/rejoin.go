package world

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/topology"
)

// tryEvery is how often an operator tries again what the regions have not decided.
const tryEvery = 700 * time.Millisecond

// drawMembership makes a plan, now and then, one in which regions are given up and come back.
func (p *Plan) drawMembership() {
	rng := rand.New(rand.NewPCG(p.Seed, 0xfe4ce))
	if p.Regions < 3 || rng.IntN(3) > 0 {
		return
	}
	p.Membership, p.Returns = true, rng.IntN(4) > 0
	// A region that is restored from an old copy is given a new epoch by people, who are not simulated.
	p.Happenings = slices.DeleteFunc(p.Happenings, func(h Happening) bool { return h.Kind == RestoreRegion })
	for range 1 + rng.IntN(3) {
		h := p.drawHappening(rng, Fence)
		if rng.IntN(4) == 0 {
			h.Kind = Drain
		}
		h.At = h.At * 3 / 4
		p.Happenings = append(p.Happenings, h)
		later := func(kind Kind, atMost time.Duration) Happening {
			l := h
			l.Kind, l.At, l.Draw = kind, h.At+time.Duration(rng.Int64N(int64(atMost))), rng.Uint64()
			l.At = min(l.At, p.Length-1)
			return l
		}
		if rng.IntN(4) > 0 {
			p.Happenings = append(p.Happenings, later(Rejoin, 3*time.Second))
		}
		for range rng.IntN(4) { // while it is closed, or comes back
			kind := []Kind{CrashRegion, Isolate, ChangeLeader, Crash, Cut, CutOneWay}[rng.IntN(6)]
			with := later(kind, 5*time.Second)
			with.For *= 2
			if rng.IntN(3) > 0 {
				with.Site, with.Other = h.Other, (h.Other+1+rng.IntN(p.Regions-1))%p.Regions
			}
			p.Happenings = append(p.Happenings, with)
		}
	}
	slices.SortStableFunc(p.Happenings, func(a, b Happening) int { return cmp.Compare(a.At, b.At) })
}

// operate has an operator give a region up, have it leave, or have it come back.
func (w *World) operate(h *Happening) {
	if w.council == nil {
		return
	}
	s := w.sites[h.Site]
	switch h.Kind {
	case Fence:
		w.say("%v is given up", s)
		w.expel(s, membership.FenceCommand(s.id, s.epoch, "lost"))
	case Drain:
		w.say("%v is to leave", s)
		w.expel(s, membership.DrainCommand(s.id, s.epoch))
	default:
		w.say("%v is to come back", s)
		w.rejoin(s)
	}
}

// expel asks the others to fence or drain a region until they have, or the faults end.
func (w *World) expel(s *site, c membership.Command) {
	r := w.council.newest().Region(s.id)
	busy := r.State == membership.Active || r.State == membership.Joining || r.State == membership.Draining && c.Kind == membership.Fence
	if w.calm || !busy || r.Actor().Epoch != c.Epoch {
		return
	}
	w.ask(s, c)
	w.after(tryEvery, func() { w.expel(s, c) })
}

// rejoin asks the others to take a region in under its next epoch until they have.
func (w *World) rejoin(s *site) {
	r := w.council.newest().Region(s.id)
	next := r.Actor().Epoch + 1
	switch {
	case w.calm && !w.plan.Returns, next >= firstEpoch+mostLives:
		return
	case r.State == membership.Fenced, r.State == membership.Closed:
		w.ask(s, membership.RejoinCommand(s.id, next, ""))
	case !w.calm && r.State != membership.Draining && w.council.newest().Living().Has(s.id):
		return
	}
	w.after(tryEvery, func() { w.rejoin(s) })
}

// ask proposes a command about a region in some other one.
func (w *World) ask(s *site, c membership.Command) {
	others := w.others(s)
	first := w.rng.IntN(len(others))
	for i := range others {
		if by := others[(first+i)%len(others)]; w.council.majority(by) {
			w.council.propose(by, c)
			return
		}
	}
}

// bringBack has all regions come back that were given up.
func (w *World) bringBack() {
	if w.council == nil || !w.plan.Returns {
		return
	}
	for _, s := range w.sites {
		w.rejoin(s)
	}
}

// beginAnew has a region begin under another epoch, with nothing of what it had.
func (s *site) beginAnew(epoch topology.Epoch) {
	w := s.w
	if epoch <= s.epoch {
		return
	}
	for _, n := range s.nodes {
		if n.up {
			n.stop()
		}
	}
	w.council.bury(s)
	w.say("%v begins anew, in epoch %d", s, epoch)
	w.counts.Rejoins++
	s.epoch, s.actor = epoch, topology.Actor(s.id, epoch)
	s.part, s.mouth, s.backup = part{known: &membership.State{}}, w.mouths.of(w, s.actor, nil), nil
	for _, g := range s.groups {
		g.log, g.prints, g.resyncing = nil, nil, false
		g.books = newBooks(len(w.authors))
		for _, m := range g.members {
			m.disk = newDisk()
		}
	}
	if w.rng.IntN(2) == 0 { // else its old stream is there still
		s.stream.recreate()
	}
	w.after(w.between1to5ms()*20, func() {
		for _, n := range s.nodes {
			if !n.up {
				n.restart()
			}
		}
	})
}

// writeAgain has every region that takes part write once more.
func (w *World) writeAgain() {
	if w.council == nil {
		return
	}
	w.say("all regions write again")
	rng := rand.New(rand.NewPCG(w.plan.Seed, 0xa6a1))
	for _, s := range w.sites {
		for p := range w.plan.Partitions {
			w.write(&Happening{Site: s.index, Partition: p, Draw: rng.Uint64()})
		}
	}
}
