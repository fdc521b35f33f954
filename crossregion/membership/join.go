package membership

import (
	"slices"

	"github.com/atolldb/atoll/topology"
)

// add takes in a new region.
func (s *State) add(c *Command) (bool, error) {
	if r := s.Region(c.Region); r != nil {
		if r.Name == c.Name && r.Actor().Epoch == c.Epoch && r.living() {
			return false, nil // done before
		}
		return false, c.refuse(IDUsed, "the id belongs to region "+r.Name, "choose another id; a region that was here before comes back by rejoin")
	}
	switch {
	case !validName(c.Name):
		return false, c.refuse(Malformed, "the region's name is empty or too long", "")
	case s.RegionNamed(c.Name) != nil:
		return false, c.refuse(IDUsed, "there is or was another region of this name", "choose another name")
	case s.Living().Len() >= MaxLiving:
		return false, c.refuse(TooMany, "there are as many regions as there can be", "drain one first")
	}
	s.insert(Region{
		ID: c.Region, Name: c.Name, Address: c.Address, State: Joining,
		Actors: []Actor{{Epoch: c.Epoch, State: ActorOpen, Round: s.Epoch}}, Awaiting: s.Living(),
	})
	return true, nil
}

// rejoin has a region come back under a new epoch.
func (s *State) rejoin(c *Command) (bool, error) {
	r := s.Region(c.Region)
	if r == nil {
		return false, c.refuse(UnknownRegion, "there was never such a region", "add it")
	}
	last := r.Actor()
	switch {
	case c.Epoch == last.Epoch && len(r.Actors) > 1 && r.living():
		return false, nil // done before
	case c.Epoch <= last.Epoch:
		return false, c.refuse(EpochUsed, "the region has had this epoch or a higher one", "choose a higher epoch")
	case r.living():
		return false, c.refuse(WrongState, "the region takes part as it is", "fence or drain it first, if it must begin anew")
	case last.State != ActorClosed:
		return false, &RefusedError{Code: Waiting, Region: c.Region, Epoch: c.Epoch, Waiting: s.Reporters(last),
			Why: "what the region wrote under its last epoch is not closed yet", Do: "wait for the members' reports, or fence those that are lost"}
	case s.Living().Len() >= MaxLiving:
		return false, c.refuse(TooMany, "there are as many regions as there can be", "drain one first")
	}
	r.Awaiting, r.AckedAt, r.State = s.Living(), 0, Joining
	s.forgetWord(r.ID)
	r.Actors = append(r.Actors, Actor{Epoch: c.Epoch, State: ActorOpen, Round: s.Epoch})
	if c.Address != "" {
		r.Address = c.Address
	}
	return true, nil
}

// forgetWord forgets what a region said that it had, before it began anew with nothing: where others are waited for still, it
// is, too. The rounds are new ones, so that what it said and is still on its way does not count either; what others say in
// earlier rounds is said again.
func (s *State) forgetWord(id topology.RegionID) {
	for i := range s.Regions {
		for j := range s.Regions[i].Actors {
			if a := &s.Regions[i].Actors[j]; a.State != ActorOpen && !a.Released {
				a.Round = s.Epoch
				a.Drained = a.Drained.Minus(bit(id))
				a.Reports = slices.DeleteFunc(a.Reports, func(r Report) bool { return r.Member == id })
			}
		}
	}
}

// ack records that a member waits for a joining region's actor.
func (s *State) ack(c *Command) (bool, error) {
	r, err := s.present(c)
	if err != nil || r == nil || r.State != Joining || !r.Awaiting.Has(c.Member) {
		return false, err
	}
	r.Awaiting = r.Awaiting.Minus(bit(c.Member))
	return true, nil
}

// join ends a region's joining.
func (s *State) join(c *Command) (bool, error) {
	r, err := s.present(c)
	if err != nil || r == nil || r.State == Active {
		return false, err
	}
	if err := s.MayCopy(r.ID); err != nil {
		return false, err
	}
	donor := s.Region(c.Member)
	switch {
	case donor == nil || donor.ID == r.ID:
		// It may have been given up since: what it had is the new region's now, and counts in its reports.
		return false, c.refuse(NotMember, "the donor is no other region", "copy the state of an active region")
	case c.Round < r.AckedAt:
		return false, c.refuse(Waiting, "the state was copied before everybody waited for the new actor", "copy it again")
	}
	for i := range r.Actors[:len(r.Actors)-1] {
		if a := &r.Actors[i]; !a.Released && !a.Drained.Has(r.ID) {
			return false, &RefusedError{Code: Waiting, Region: c.Region, Epoch: c.Epoch, Waiting: bit(r.ID),
				Why: "the region lacks some of what it wrote under an earlier epoch", Do: "wait until it has fetched that"}
		}
	}
	r.State, r.AckedAt = Active, 0
	return true, nil
}
