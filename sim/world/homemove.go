package world

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/crossregion/membership"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/region"
)

// homesMove is how long it may take to move homes when nothing is broken any more: who took one over waits until all others
// have told that they know.
const homesMove = 120 * time.Second

// homeMove is an operator's move of a home, as region/api does it: it keeps nothing between its steps, each of which asks the
// regions anew how far it is. The new home is asked first and last.
type homeMove struct {
	w         *World
	by, to    *site
	partition int
	tries     int
	// must says that it has to succeed.
	must bool
	done bool
	why  string // it is not done
}

// startMove has an operator move a home.
func (w *World) startMove(h *Happening) {
	if !w.plan.Homes {
		return
	}
	rng := rand.New(rand.NewPCG(h.Draw, 4))
	m := &homeMove{w: w, by: w.sites[h.Site], to: w.sites[h.Other], partition: h.Partition, tries: 1 + rng.IntN(12)}
	if rng.IntN(2) == 0 {
		m.by = m.to
	}
	w.say("the home of partition %d is to move to %v", m.partition, m.to)
	m.start()
}

// start does what can be done now, and again until the new home serves, or the operator has enough.
func (m *homeMove) start() {
	if m.over() {
		return
	}
	m.tries--
	m.arrived(func(from *site) {
		if m.by.closedTo(from) {
			m.at(m.to)
			return
		}
		m.leave(m.by, len(m.w.sites)+1)
	})
	m.w.after(tryEvery, m.start)
}

// over reports whether nothing more will be done.
func (m *homeMove) over() bool {
	return m.done || m.tries <= 0 || m.w.failure != nil || m.must && m.hopeless()
}

// hopeless reports whether the new home was given up, or the present one is closed, and more than one region is left: nobody takes
// it over then.
func (m *homeMove) hopeless() bool {
	g := m.to.groups[m.partition]
	return !m.to.in() || m.w.council != nil && g.leader != nil && !m.to.homeAsKnown(g).in() && m.w.council.newest().Living().Len() > 1
}

// homeAsKnown is the home as far as a region knows.
func (s *site) homeAsKnown(g *group) *site {
	if home, epoch, _ := g.leader.machine.View().Home(homeNamespace); epoch > 0 {
		return s.w.sites[home-1]
	}
	return s.w.firstHome()
}

// closedTo reports whether a region knows that another is closed.
func (s *site) closedTo(o *site) bool {
	if s.w.council == nil || !s.known.Founded() {
		return false
	}
	r := s.known.Region(o.id)
	return r != nil && (r.State == membership.Closed || r.State == membership.Removed)
}

// ask has a region's leader say what it knows of the home.
func (m *homeMove) ask(s *site, reply func(home *site, state region.HomeState)) {
	w := m.w
	w.between(m.by, s).send(nil, func([]byte) {
		g := s.groups[m.partition]
		if g.leader == nil {
			return
		}
		state, err := g.leader.steps.Home(homeNamespace, s.isFirstHome())
		if err != nil {
			w.fail("what is known of homes can be read", "%v: %v", s, err)
			return
		}
		home := w.firstHome()
		if state.Home != 0 {
			home = w.sites[state.Home-1]
		}
		w.between(s, m.by).send(nil, func([]byte) { reply(home, state) })
	})
}

// arrived asks the new home, and goes on with what that says is the home if it does not know yet that it is one.
func (m *homeMove) arrived(change func(from *site)) {
	m.ask(m.to, func(home *site, state region.HomeState) {
		switch {
		case home != m.to && change != nil:
			change(home)
		case home == m.to && state.Serving:
			if !m.done {
				m.w.say("%v serves as home of partition %d", m.to, m.partition)
			}
			m.done = true
		}
	})
}

// leave finds the present home, from region to region, and has it give up.
func (m *homeMove) leave(at *site, hops int) {
	if hops == 0 {
		return
	}
	m.ask(at, func(home *site, _ region.HomeState) {
		switch {
		case home != at:
			m.leave(home, hops-1)
		case at != m.to:
			m.at(at)
		}
	})
}

// at has a region do its part: the present home gives up, and the new one takes over.
func (m *homeMove) at(s *site) {
	m.w.between(m.by, s).send(nil, func([]byte) { m.giveUp(s.groups[m.partition]) })
}

func (m *homeMove) giveUp(g *group) {
	w, s := m.w, g.site
	if g.leader == nil {
		return
	}
	var command *logv1.Command
	var err error
	if s == m.to {
		command, err = g.leader.steps.TakeHome(homeNamespace, w.firstHome().id)
	} else {
		command, err = g.leader.steps.MoveHome(homeNamespace, m.to.id, s.isFirstHome())
	}
	if err != nil {
		m.refused(s, err)
	}
	if command == nil || err != nil {
		return
	}
	g.propose(&request{command: command, done: func(v verdict, r region.StepResult) {
		switch {
		case v != done:
		case r.Err != nil:
			m.refused(s, r.Err)
		case command.GetHome().GetFirst():
			m.giveUp(g)
		default:
			m.arrived(nil)
		}
	}})
}

// refused takes that a region does not do its part now.
func (m *homeMove) refused(s *site, err error) {
	w := m.w
	var target *region.HomeTargetError
	var closed *region.HomeNotClosedError
	var elsewhere *region.NotHomeError
	if !errors.As(err, &target) && !errors.As(err, &closed) && !errors.As(err, &elsewhere) &&
		!errors.Is(err, region.ErrHomeUnsettled) && !errors.Is(err, region.ErrFenced) {
		w.fail("homes can be moved", "%v: %v", s, err)
	}
	w.counts.HomeUnmoved++
	m.why = err.Error()
	w.mention("%v does not move the home of partition %d: %v", s, m.partition, err)
}
