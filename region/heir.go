package region

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// maxHeirs bounds the heirs that a partition knows of: as many as the membership names.
const maxHeirs = 256

// Heir says that what was a home under an actor is the home under another one since, whatever epoch the actor's region comes
// back under.
type Heir struct {
	Of, Heir crdt.Actor
}

// passedOn returns the heir of the first actor of a region, from one on, that has any. It is the one for good: an actor gets
// an heir before there is a later one, or never.
func (f *Facts) passedOn(from crdt.Actor) (Heir, bool) {
	region, _ := topology.ActorRegion(from)
	at := slices.IndexFunc(f.Heirs, func(h Heir) bool {
		of, _ := topology.ActorRegion(h.Of)
		return of == region && h.Of >= from
	})
	if at < 0 {
		return Heir{}, false
	}
	return f.Heirs[at], true
}

// given returns the actor that a home was given to; 0 if that is not known, which has no heir.
func given(h *replica.Home) crdt.Actor {
	if region, _ := topology.ActorRegion(h.Given); uint32(region) == h.Region {
		return h.Given
	}
	return 0
}

// configured is the home of a namespace whose region, by configuration, never said that it is one.
func configured(r topology.RegionID) replica.Home {
	return replica.Home{Region: uint32(r), Given: topology.Actor(r, 0)}
}

// homes returns the region that a home was given to, its heir if that one was given up, the heir's heir, and so on: each
// may have been the home, unless nobody before it was given up.
func (f *Facts) homes(h *replica.Home) []topology.RegionID {
	regions := []topology.RegionID{topology.RegionID(h.Region)}
	heir, passed := f.passedOn(given(h))
	for range f.Heirs { // of heirs there are no circles
		if !passed {
			break
		}
		region, _ := topology.ActorRegion(heir.Heir)
		regions = append(regions, region)
		heir, passed = f.passedOn(heir.Heir)
	}
	return regions
}

// heirOf returns the region that is to take over a home: the heir of its actor, or, if that was given up, too, the heir's heir.
// Under which epoch it does so does not matter, as with a home. It is 0 if the home has no heir.
func (f *Facts) heirOf(h *replica.Home) topology.RegionID {
	homes := f.homes(h)
	if len(homes) == 1 {
		return 0
	}
	return homes[len(homes)-1]
}

// isHome reports whether a region is the home, or will be once it has what the home before had.
func (f *Facts) isHome(r topology.RegionID, h *replica.Home) bool {
	return h.Region == uint32(r) && f.heirOf(h) == 0
}

// inherits reports whether an actor may take over from a home as its heir: nothing comes any more of the home's actor, nor of
// an heir before this one, and all that counts of those is here.
func (f *Facts) inherits(h *replica.Home, self crdt.Actor, have crdt.VersionVector) bool {
	at, own := given(h), false
	for range f.Heirs {
		heir, passed := f.passedOn(at)
		if !passed {
			break
		}
		if !f.over(at, heir.Of, have) {
			return false
		}
		at, own = heir.Heir, true
	}
	region, _ := topology.ActorRegion(at)
	by, epoch := topology.ActorRegion(self)
	return own && region == by && (at == self || f.over(at, topology.Actor(by, epoch-1), have))
}

// openHome returns why a region cannot take over from a home as its heir, or as the only region left, or nil.
func (f *Facts) openHome(h *replica.Home, self crdt.Actor, have crdt.VersionVector) error {
	former := topology.RegionID(h.Region)
	if f.inherits(h, self, have) || f.alone(self, have) && f.lives(former) > 0 {
		return nil
	}
	return &HomeNotClosedError{Home: former, Heir: f.heirOf(h)}
}

// over reports whether nothing comes any more of a region's actors from one to another, and all of them is here. Those before
// the first that is known were closed, and everywhere, long ago.
func (f *Facts) over(from, to crdt.Actor, have crdt.VersionVector) bool {
	region, _ := topology.ActorRegion(from)
	known := false
	for _, fact := range f.Facts {
		if fact.Region != region {
			continue
		}
		if fact.Actor > to {
			return true
		}
		known = fact.Actor == to
		if fact.Actor >= from && (fact.State != ActorClosed || !fact.Released || have.Get(fact.Actor) < fact.Cut) {
			return false
		}
	}
	return known
}

// FirstHome returns the region that writes of a namespace belong to which has no home yet but that of the configuration.
func (v *MachineView) FirstHome(configuredRegion topology.RegionID) topology.RegionID {
	h := configured(configuredRegion)
	if heir := v.Facts.heirOf(&h); heir != 0 {
		return heir
	}
	return configuredRegion
}

// notHome returns that a region is not the home, and which is.
func (f *Facts) notHome(namespace string, h *replica.Home) *NotHomeError {
	e := &NotHomeError{Namespace: namespace, Home: topology.RegionID(h.Region), Epoch: h.Epoch}
	if heir := f.heirOf(h); heir != 0 {
		e.Home, e.Former = heir, e.Home
	}
	return e
}

// actorOf returns the actor under which a region writes now; 0 if that is not known.
func (f *Facts) actorOf(r topology.RegionID) crdt.Actor {
	i := slices.IndexFunc(f.Facts, func(fact Fact) bool { return fact.Region == r && fact.State == ActorOpen })
	if i < 0 {
		return 0
	}
	return f.Facts[i].Actor
}

func decodeHeirs(encoded []*logv1.HeirFact) ([]Heir, error) {
	if len(encoded) > maxHeirs {
		return nil, fmt.Errorf("%w: %d heirs", ErrBadCommand, len(encoded))
	}
	var heirs []Heir
	for i, e := range encoded {
		h := Heir{Of: crdt.Actor(e.GetOf()), Heir: crdt.Actor(e.GetHeir())}
		of, _ := topology.ActorRegion(h.Of)
		heir, _ := topology.ActorRegion(h.Heir)
		if of == 0 || heir == 0 || i > 0 && heirs[i-1].Of >= h.Of {
			return nil, fmt.Errorf("%w: heir %d", ErrBadCommand, i)
		}
		heirs = append(heirs, h)
	}
	return heirs, nil
}

func encodeHeirs(heirs []Heir) []*logv1.HeirFact {
	var encoded []*logv1.HeirFact
	for _, h := range heirs {
		encoded = append(encoded, &logv1.HeirFact{Of: uint32(h.Of), Heir: uint32(h.Heir)})
	}
	return encoded
}
