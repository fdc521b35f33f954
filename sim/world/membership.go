package world

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/crossregion/partitions"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// mostLives is how many epochs a region may have in plans in which regions are given up and come back.
const mostLives = 3

// author is one region under one epoch: those of equal numbers are the same in every book.
type author struct {
	site  *site
	epoch topology.Epoch
	actor crdt.Actor
}

// lives is how many epochs a region may have.
func (p *Plan) lives() int {
	if p.Membership {
		return mostLives
	}
	return 1
}

// author is the number of the region under its present epoch: those of first epochs are the regions' own.
func (s *site) author() int { return int(s.epoch-firstEpoch)*s.w.plan.Regions + s.index }

// council is the group of voters across regions, as a log that cannot be lost or disagreed on. Only who reaches a majority of
// the voters appends to it, and the others hear of that later.
type council struct {
	w *World
	// states are those after each change, by membership epoch.
	states []*membership.State
	// cuts are, by author and partition, where actors are closed; nil for those that are not.
	cuts [][]uint64
	// gone are the books of lives that are over, by author and partition.
	gone [][]books
}

// part is how a region follows the membership.
type part struct {
	// known is what it has heard of.
	known *membership.State
	// has is what its partitions had when all were last asked, goal what one that joins has to have.
	has, goal *membership.Standing
	// takes says that it exchanges deltas, with peers.
	takes bool
	peers []peer
}

// peer is a region that another exchanges deltas with, under the epoch that it knows.
type peer struct {
	site  *site
	epoch topology.Epoch
}

func (p peer) actor() crdt.Actor { return topology.Actor(p.site.id, p.epoch) }

func newCouncil(w *World) *council {
	n := w.plan.Regions * mostLives
	c := &council{w: w, states: []*membership.State{{}}, cuts: make([][]uint64, n), gone: make([][]books, n)}
	found := membership.Command{Kind: membership.Found, Name: cluster, Round: uint64(w.plan.Partitions)}
	for _, s := range w.sites {
		r := membership.FoundingRegion{ID: s.id, Epoch: s.epoch, Name: fmt.Sprint("r", s.id)}
		found.Founding = append(found.Founding, r)
	}
	founded, err := c.newest().Apply(found)
	if err != nil {
		w.fail("regions are founded", "%v", err)
	}
	c.states = append(c.states, founded)
	for _, s := range w.sites {
		s.known = founded
	}
	return c
}

func (c *council) newest() *membership.State { return c.states[len(c.states)-1] }

// majority reports whether a region reaches a majority of the voters, itself included. A region that comes back votes once it
// has begun anew.
func (c *council) majority(by *site) bool {
	newest, answer := c.newest(), 0
	voters := newest.Voters()
	for id := range voters.All() {
		o := c.w.sites[id-1]
		votes := o.anyNode() && o.epoch == newest.Region(id).Actor().Epoch
		if votes && (o == by || c.w.reach(by, o)) {
			answer++
		}
	}
	return by.anyNode() && 2*answer > voters.Len()
}

// propose has a command decided on, a little later, unless it is lost. It may be so twice.
func (c *council) propose(by *site, cmd membership.Command) {
	w, times := c.w, 1
	if w.chance(w.plan.Rates.Loss) {
		return
	}
	if w.chance(w.plan.Rates.Duplicate) {
		times++
	}
	for i := range times {
		wait := w.between1to5ms() * 10
		if i > 0 {
			wait = time.Duration(w.rng.Int64N(int64(3 * time.Second)))
		}
		w.after(wait, func() {
			if c.majority(by) {
				c.commit(by, cmd)
			}
		})
	}
}

// commit applies a command, and has the regions hear of what it changed.
func (c *council) commit(by *site, cmd membership.Command) {
	w, before := c.w, c.newest()
	if cmd.Kind == membership.Fence && c.transferring(cmd.Region) {
		return
	}
	next, err := before.Apply(cmd)
	var refused *membership.RefusedError
	switch {
	case errors.As(err, &refused):
		w.mention("the regions refuse to %v region %d: %v", cmd.Kind, cmd.Region, err)
		return
	case err != nil:
		w.fail("commands to the membership can be applied", "%v: %v", cmd.Kind, err)
		return
	case next == before:
		return
	case next.Epoch != before.Epoch+1:
		w.fail("membership epochs rise one by one", "%d after %d", next.Epoch, before.Epoch)
		return
	}
	c.states = append(c.states, next)
	w.say("membership %d: %v, of region %d in epoch %d, by region %d", next.Epoch, cmd.Kind, cmd.Region, cmd.Epoch, by.id)
	c.changed(before, next, &cmd)
	by.hear(next)
	for _, o := range w.others(by) {
		wait := time.Duration(w.rng.Int64N(int64(300 * time.Millisecond)))
		if !w.calm && w.rng.IntN(3) == 0 {
			wait *= 10
		}
		w.after(wait, func() {
			if o.anyNode() && w.reach(by, o) {
				o.hear(next)
			}
		})
	}
}

// transferring reports whether a region other than one that is to be given up is in the middle of taking over a state, or may
// begin to before it hears of that. If its donor goes for good then, it has to be given up, too, and begin anew: it has a part of
// what nobody has all of.
func (c *council) transferring(fenced topology.RegionID) bool {
	for _, s := range c.w.sites {
		for _, g := range s.groups {
			if s.id != fenced && s.in() && (g.resyncing || c.lacking(g)) {
				return true
			}
		}
	}
	return false
}

// lacking reports whether a partition has to take over a state, or will have to when it hears of the newest membership.
func (c *council) lacking(g *group) bool {
	if g.session == nil {
		return false
	}
	facts, view := partitions.Facts(c.newest(), g.id), g.leader.machine.View()
	return facts.Lacks(view.Vector, view.Ahead) || len(g.session.donors()) > 0
}

// hear has a region hear of a state.
func (s *site) hear(st *membership.State) {
	if st.Epoch <= s.known.Epoch {
		return
	}
	s.known = st
	s.follow()
	s.attend()
}

// follow begins sessions anew if there are others to exchange deltas with than there were.
func (s *site) follow() {
	takes, peers := s.takesPart()
	if takes == s.takes && slices.Equal(peers, s.peers) {
		return
	}
	for _, g := range s.groups {
		if g.session != nil {
			g.session.end()
			g.session = nil
		}
	}
	s.takes, s.peers = takes, peers
	s.mouth = s.w.mouths.of(s.w, s.actor, peers)
	for _, g := range s.groups {
		if g.leader != nil {
			g.openSession()
		}
	}
}

// openSession begins what a leader does between regions, if its region takes part.
func (g *group) openSession() {
	if g.site.takes {
		g.session = newSession(g)
		g.touch()
	}
}

// takesPart returns with whom a region exchanges deltas, if it does, as far as it knows.
func (s *site) takesPart() (bool, []peer) {
	var peers []peer
	for _, o := range s.w.others(s) {
		epoch, ok := topology.Epoch(firstEpoch), true
		if s.w.council != nil {
			epoch, ok = s.known.Peer(o.id)
		}
		if ok {
			peers = append(peers, peer{o, epoch})
		}
	}
	if s.w.council != nil && !s.known.TakesPart(s.id, s.epoch) {
		return false, nil
	}
	return true, peers
}

// givenUp reports whether a region knows that another takes no part any more.
func (s *site) givenUp(o *site) bool { return s.w.council != nil && s.known.GivenUp(o.id) }

// mayWrite is region.PartitionConfig.Fenced.
func (s *site) mayWrite() error {
	if s.w.council == nil {
		return nil
	}
	if !s.known.Founded() {
		return &region.FencedError{Why: "the region has not heard that it may join"}
	}
	if err := s.known.MayWrite(s.id, s.epoch); err != nil {
		return &region.FencedError{Why: err.Error()}
	}
	return nil
}

// attend has partitions take in the membership, does what the region owes the others, and hears from them what is new.
func (s *site) attend() {
	w := s.w
	if w.council == nil || !s.anyNode() || !s.known.Founded() {
		return
	}
	has := &membership.Standing{Of: s.id, Led: map[topology.PartitionID]membership.Led{}}
	for _, g := range s.groups {
		if g.leader == nil {
			continue
		}
		if command := g.leader.steps.TakeMembership(partitions.Facts(s.known, g.id)); command != nil {
			g.propose(&request{command: command, done: func(verdict, region.StepResult) {}})
		}
		if g.leader != nil {
			if led, known := partitions.Led(g.id, g.leader.machine.View()); known {
				has.Led[g.id] = led
			}
		}
	}
	if len(has.Led) < len(s.groups) {
		return // what a partition without a leader has is not known now
	}
	s.has = has
	for _, c := range s.known.Duties(s.id, s.epoch, has.Local()) {
		w.council.propose(s, c)
	}
	s.join()
}

// gossip has a region hear of what others know, now and then, and of all that was decided if it reaches a majority.
func (s *site) gossip() {
	if s.w.council == nil || !s.anyNode() {
		return
	}
	if s.w.council.majority(s) && (s.w.calm || s.w.rng.IntN(3) == 0) {
		s.hear(s.w.council.newest())
	}
	for _, o := range s.w.others(s) {
		if o.anyNode() && s.w.reach(s, o) && (s.w.calm || s.w.rng.IntN(3) == 0) {
			s.hear(o.known)
		}
	}
}

// join ends the region's joining, as the program does.
func (s *site) join() {
	if s.known.MayCopy(s.id) != nil || s.known.Region(s.id).Actor().Epoch != s.epoch {
		s.goal = nil
		return
	}
	if s.goal == nil || !s.goal.Suits(s.known, s.id) {
		s.goal = nil
		for id := range s.known.Writing().All() {
			o := s.w.sites[id-1]
			if o.anyNode() && s.w.reach(s, o) && o.has != nil && o.has.Suits(s.known, s.id) {
				s.goal = o.has
				break
			}
		}
	}
	if s.goal != nil && s.goal.Reached(s.has) {
		s.w.council.propose(s, membership.JoinCommand(s.id, s.epoch, s.goal.Of, s.goal.Taken()))
	}
}

// authorNamed is the number of an actor.
func (w *World) authorNamed(a crdt.Actor) int {
	id, epoch := topology.ActorRegion(a)
	return int(epoch-firstEpoch)*w.plan.Regions + int(id) - 1
}
