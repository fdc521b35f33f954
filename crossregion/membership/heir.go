package membership

import (
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// maxHeirs bounds the heirs that are ever named. None is forgotten: what was an actor's home is its heir's for ever, also when
// the actor is not remembered any more.
const maxHeirs = 256

// Heir says that what was the home of a namespace under an actor is the home under another one since. It is decided at
// most once of an actor, while that is the last of its region and is not open any more: so its region knows of it under every
// later epoch. The heir was open then, so that heirs of heirs make no circle.
type Heir struct {
	Of, Heir crdt.Actor
}

func compareHeirs(a, b Heir) int { return int(a.Of) - int(b.Of) }

// HeirOf returns who was named the heir of a region under an epoch.
func (s *State) HeirOf(id topology.RegionID, e topology.Epoch) (topology.RegionID, topology.Epoch, bool) {
	at, named := slices.BinarySearchFunc(s.Heirs, Heir{Of: topology.Actor(id, e)}, compareHeirs)
	if !named {
		return 0, 0, false
	}
	heir, epoch := topology.ActorRegion(s.Heirs[at].Heir)
	return heir, epoch, true
}

// Successor returns the region that heirs lead to from a region under an epoch: the heir of that or a later epoch of it, or, if that
// was given up too, the heir's heir. It is false if there is none.
func (s *State) Successor(id topology.RegionID, e topology.Epoch) (to topology.RegionID, named bool) {
	for range s.Heirs { // they make no circle
		i := slices.IndexFunc(s.Heirs, func(h Heir) bool {
			of, epoch := topology.ActorRegion(h.Of)
			return of == id && epoch >= e
		})
		if i < 0 {
			break
		}
		id, e = topology.ActorRegion(s.Heirs[i].Heir)
		to, named = id, true
	}
	return to, named
}

// nameHeir decides who takes over the homes of a region that was given up.
func (s *State) nameHeir(c *Command) (bool, error) {
	r, err := s.present(c)
	if err != nil {
		return false, err
	}
	named, _, known := s.HeirOf(c.Region, c.Epoch)
	heir := s.Region(c.Member)
	switch {
	case known && named == c.Member:
		return false, nil // done before
	case known:
		return false, c.refuse(HeirNamed, "its heir is "+s.names(bit(named)),
			"have that take over, and move the homes on from there; if it is lost, too, fence it and name an heir of it")
	case r == nil:
		return false, c.refuse(StaleEpoch, "the region has come back under a higher epoch, and its homes with it", "move them: atoll namespace move-home")
	case r.living():
		return false, c.refuse(WrongState, "the region is "+r.State.String(), "move its homes while it answers (atoll namespace move-home); if it is lost, fence it first")
	case heir == nil:
		return false, c.refuse(UnknownRegion, "there is no such heir", "see `atoll region list`")
	case heir.State != Active:
		return false, c.refuse(WrongState, "the heir is "+heir.State.String(), "name a region that is ACTIVE")
	case len(s.Heirs) >= maxHeirs:
		return false, c.refuse(TooMany, "as many heirs were named as can be", "have the region rejoin: it is the home again then")
	}
	h := Heir{Of: topology.Actor(c.Region, c.Epoch), Heir: topology.Actor(heir.ID, heir.Actor().Epoch)}
	at, _ := slices.BinarySearchFunc(s.Heirs, h, compareHeirs)
	s.Heirs = slices.Insert(s.Heirs, at, h)
	return true, nil
}

// appendHeirs appends what states of version 2 have more than those of version 1.
func appendHeirs(w *writer, heirs []Heir) {
	w.number(uint64(len(heirs)))
	for _, h := range heirs {
		w.number(uint64(h.Of))
		w.number(uint64(h.Heir))
	}
}

func readHeirs(r *reader) []Heir {
	n := r.count(maxHeirs, 2)
	if n == 0 {
		r.fail("no heirs in an encoding that is for heirs")
		return nil
	}
	heirs := make([]Heir, 0, n)
	for range n {
		h := Heir{Of: r.actor(), Heir: r.actor()}
		if n := len(heirs); n > 0 && heirs[n-1].Of >= h.Of {
			r.fail("heirs are not in order")
		}
		heirs = append(heirs, h)
	}
	return heirs
}

func (r *reader) actor() crdt.Actor {
	a := crdt.Actor(r.number(uint64(topology.Actor(topology.MaxRegionID, topology.MaxEpoch))))
	if region, _ := topology.ActorRegion(a); region == 0 {
		r.fail("an actor of no region")
	}
	return a
}
