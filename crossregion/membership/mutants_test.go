package membership

import (
	"errors"
	"slices"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// change returns an apply that does something to a copy of the state, or to the command, before it is
// applied, and something to a copy of what came of it.
func change(before func(*State, *Command), after func(was, is *State, c *Command)) func(*State, Command) (*State, error) {
	return func(s *State, c Command) (*State, error) {
		from := s
		if before != nil {
			from = s.clone()
			before(from, &c)
		}
		next, err := from.Apply(c)
		if err != nil || next == from {
			return s, err
		}
		if after != nil {
			next = next.clone()
			after(s, next, &c)
		}
		return next, nil
	}
}

func eachActor(s *State, do func(r *Region, a *Actor)) {
	for i := range s.Regions {
		for j := range s.Regions[i].Actors {
			do(&s.Regions[i], &s.Regions[i].Actors[j])
		}
	}
}

// mutants are mistakes that the world must notice.
var mutants = map[string]func(*rules){
	"a minority decides": func(r *rules) {
		r.majority = func(answer, voters int) bool { return 2*answer >= voters-1 }
	},
	"an actor is closed before everybody has reported": func(r *rules) {
		r.apply = change(func(s *State, c *Command) {
			if c.Kind != ReportVector {
				return
			}
			eachActor(s, func(x *Region, a *Actor) {
				if x.ID == c.Region && a.State == ActorFenced && len(a.Reports) > 0 {
					*a = Actor{Epoch: a.Epoch, State: ActorClosed, Round: a.Round, Cut: a.Reports[0].Vector, Graceful: a.Graceful}
				}
			})
		}, nil)
	},
	"a closing does not begin again when a member is given up": func(r *rules) {
		r.apply = change(nil, func(was, is *State, c *Command) {
			if c.Kind != Fence && c.Kind != SelfFence {
				return
			}
			eachActor(was, func(x *Region, a *Actor) {
				if x.ID != c.Region && a.closing() {
					*is.Region(x.ID).actor(a.Epoch) = *a
				}
			})
		})
	},
	"an actor is released as soon as it is closed": func(r *rules) {
		r.apply = change(nil, func(_, is *State, _ *Command) {
			eachActor(is, func(_ *Region, a *Actor) { a.Released = a.State == ActorClosed })
		})
	},
	"a joining region copies before everybody waits for it": func(r *rules) {
		r.mayCopy = func(*State, topology.RegionID) bool { return true }
		r.apply = change(func(s *State, c *Command) {
			if x := s.Region(c.Region); x != nil && c.Kind == Join && x.State == Joining {
				x.Awaiting, x.AckedAt = 0, 1
			}
		}, nil)
	},
	"a region comes back under its epoch": func(r *rules) {
		r.apply = change(nil, func(_, is *State, c *Command) {
			if c.Kind == Rejoin {
				x := is.Region(c.Region)
				x.Actors = x.Actors[:len(x.Actors)-1]
				x.Actor().State, x.Actor().Cut, x.Actor().Released = ActorOpen, nil, false
			}
		})
	},
	"a fenced actor's events are merged": func(r *rules) {
		r.admits = func(f *Facts, a crdt.Actor, seq uint64) bool {
			fact, _ := f.fact(a)
			return fact.State == ActorFenced || f.Admits(a, seq)
		}
	},
	"a closed actor's events beyond the cut are merged": func(r *rules) {
		r.admits = func(f *Facts, a crdt.Actor, seq uint64) bool {
			fact, _ := f.fact(a)
			return fact.State == ActorClosed || f.Admits(a, seq)
		}
	},
	"an heir takes over what is not closed": func(r *rules) {
		r.over = func(f *Fact, _ uint64) bool { return f.State != ActorOpen }
	},
	"an heir takes over without all that counts": func(r *rules) {
		r.over = func(f *Fact, _ uint64) bool { return f.State == ActorClosed }
	},
	"heirs are forgotten with the actors": func(r *rules) {
		r.apply = change(nil, func(_, is *State, c *Command) {
			if c.Kind == Rejoin {
				is.Heirs = slices.DeleteFunc(is.Heirs, func(h Heir) bool { return regionOf(h.Of) == c.Region })
			}
		})
	},
	"an heir is named of a region that has come back": func(r *rules) {
		r.apply = func(s *State, c Command) (*State, error) {
			next, err := s.Apply(c)
			if refused, ok := errors.AsType[*RefusedError](err); ok && c.Kind == NameHeir && refused.Code == StaleEpoch && s.Region(c.Member) != nil {
				next = s.clone()
				next.Epoch++
				next.Heirs = append(next.Heirs, Heir{topology.Actor(c.Region, c.Epoch), topology.Actor(c.Member, s.Region(c.Member).Actor().Epoch)})
				slices.SortFunc(next.Heirs, compareHeirs)
				return next, nil
			}
			return next, err
		}
	},
	"another heir is named instead": func(r *rules) {
		r.apply = change(func(s *State, c *Command) {
			if c.Kind == NameHeir {
				s.Heirs = slices.DeleteFunc(s.Heirs, func(h Heir) bool { return h.Of == topology.Actor(c.Region, c.Epoch) && regionOf(h.Heir) != c.Member })
			}
		}, nil)
	},
	"a region that leaves does not wait for closings": func(r *rules) {
		r.apply = change(nil, func(_, is *State, _ *Command) {
			eachActor(is, func(x *Region, a *Actor) {
				if a.Graceful && a.State == ActorClosed && is.Lagging(x.ID, a) == 0 && x.State == Draining {
					a.Released, x.State = true, Closed
				}
			})
		})
	},
}

func TestWorldNoticesMistakes(t *testing.T) {
	for name, mistake := range mutants {
		t.Run(name, func(t *testing.T) {
			r := soundRules()
			mistake(&r)
			for seed := range uint64(*schedules) {
				w := newWorld(seed, r)
				w.run()
				if w.fault != "" {
					t.Logf("noticed in world %d: %s", seed, w.fault)
					return
				}
			}
			t.Errorf("not noticed in %d worlds", *schedules)
		})
	}
}
