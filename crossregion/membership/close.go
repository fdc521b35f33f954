package membership

import (
	"slices"

	"github.com/atolldb/atoll/topology"
)

// drain has a region stop writing.
func (s *State) drain(c *Command) (bool, error) {
	r, err := s.present(c)
	if err != nil || r == nil {
		return false, err
	}
	switch r.State {
	case Draining, Closed, Removed:
		return false, nil
	case Joining, Fenced:
		return false, c.refuse(WrongState, "the region is "+r.State.String(), "only an active region can drain; fence one that cannot finish joining")
	case Active:
	}
	if s.Writing().Minus(bit(r.ID)) == 0 {
		return false, c.refuse(LastRegion, "no region that takes writes would be left", "add another region first")
	}
	r.State = Draining
	a := r.Actor()
	a.State, a.Graceful, a.Round = ActorFenced, true, s.Epoch
	return true, nil
}

// fence gives a region up.
func (s *State) fence(c *Command) (bool, error) {
	r, err := s.present(c)
	if err != nil || r == nil || !r.living() {
		return false, err
	}
	if s.Writing().Minus(bit(r.ID)) == 0 {
		return false, c.refuse(LastRegion, "no region that takes writes would be left", "have another region join first")
	}
	s.giveUp(r)
	return true, nil
}

// giveUp fences a living region. Its voice does not count any more; so every closing that it may have
// had a part in, and that is not over, begins again without it.
func (s *State) giveUp(r *Region) {
	r.State, r.Awaiting, r.AckedAt = Fenced, 0, 0
	a := r.Actor()
	*a = Actor{Epoch: a.Epoch, State: ActorFenced, Round: s.Epoch}
	for i := range s.Regions {
		for j := range s.Regions[i].Actors {
			if other := &s.Regions[i].Actors[j]; other.closing() {
				*other = Actor{Epoch: other.Epoch, State: ActorFenced, Round: s.Epoch}
			}
		}
	}
}

// closingOf returns the actor that a command about a closing means: nil without an error if it was
// forgotten, and so is released.
func (s *State) closingOf(c *Command) (*Region, *Actor, error) {
	r := s.Region(c.Region)
	if r == nil {
		return nil, nil, c.refuse(UnknownRegion, "there is no such region", "see `atoll region list`")
	}
	a := r.actor(c.Epoch)
	switch {
	case a == nil && c.Epoch < r.Actors[0].Epoch:
		return r, nil, nil
	case a == nil:
		return nil, nil, c.refuse(StaleEpoch, "the region has not had this epoch", "see `atoll region list` for those it had")
	case a.State == ActorOpen:
		return nil, nil, c.refuse(WrongState, "the actor is open", "fence or drain the region first")
	case a.Round != c.Round:
		return nil, nil, c.refuse(StaleRound, "the closing began again", "answer the present round")
	}
	return r, a, nil
}

// report records what a member has of a fenced actor's events.
func (s *State) report(c *Command) (bool, error) {
	_, a, err := s.closingOf(c)
	if err != nil || a == nil || a.State == ActorClosed {
		return false, err
	}
	if len(c.Vector) != int(s.Partitions) {
		return false, c.refuse(Malformed, "the report has not one number per partition", "")
	}
	at, known := slices.BinarySearchFunc(a.Reports, c.Member, func(have Report, m topology.RegionID) int { return int(have.Member) - int(m) })
	switch {
	case known && slices.Equal(a.Reports[at].Vector, c.Vector):
		return false, nil
	case known:
		return false, c.refuse(ReportChanged, "the member has reported otherwise before", "it has lost or gained events of a fenced actor: fence it too")
	case !s.Reporters(a).Has(c.Member):
		return false, c.refuse(NotMember, "the closing does not wait for this member", "")
	}
	a.Reports = slices.Insert(a.Reports, at, Report{Member: c.Member, Vector: slices.Clone(c.Vector)})
	return true, nil
}

// close fixes an actor's cut: the most that anybody living has.
func (s *State) close(c *Command) (bool, error) {
	r, a, err := s.closingOf(c)
	if err != nil || a == nil || a.State == ActorClosed {
		return false, err
	}
	if missing := s.Reporters(a); missing != 0 {
		return false, &RefusedError{Code: Waiting, Region: c.Region, Epoch: c.Epoch, Waiting: missing,
			Why: "not every living member has reported what it has", Do: "wait for them, or fence those that are lost"}
	}
	cut := make([]uint64, s.Partitions)
	for i := range a.Reports {
		for p, seq := range a.Reports[i].Vector {
			cut[p] = max(cut[p], seq)
		}
	}
	for i := range a.Reports {
		if slices.Equal(a.Reports[i].Vector, cut) {
			a.Drained |= bit(a.Reports[i].Member)
		}
	}
	if a.Graceful && !a.Drained.Has(r.ID) {
		// It leaves in order, and yet others know more of it than it does: it has lost some of what it wrote,
		// and must not be relied upon to hold it.
		s.giveUp(r)
		return true, nil
	}
	a.State, a.Cut, a.Reports = ActorClosed, cut, nil
	return true, nil
}

// drained records that a member is at a closed actor's cut.
func (s *State) drained(c *Command) (bool, error) {
	r, a, err := s.closingOf(c)
	switch {
	case err != nil || a == nil || a.Released || a.Drained.Has(c.Member):
		return false, err
	case a.State != ActorClosed:
		return false, c.refuse(WrongState, "the actor has no cut yet", "report what you have of it")
	case !s.Lagging(r.ID, a).Has(c.Member):
		return false, c.refuse(NotMember, "the release does not wait for this member", "")
	}
	a.Drained |= bit(c.Member)
	return true, nil
}

// remove says that a closed region is not expected back.
func (s *State) remove(c *Command) (bool, error) {
	r, err := s.present(c)
	if err != nil || r == nil || r.State == Removed {
		return false, err
	}
	if r.State != Closed {
		refusal := &RefusedError{Code: WrongState, Region: c.Region, Epoch: c.Epoch,
			Why: "the region is " + r.State.String(), Do: "drain it, or fence it if it is lost"}
		if a := r.Actor(); a.State != ActorOpen {
			refusal.Code, refusal.Waiting = Waiting, s.Reporters(a)|s.Lagging(r.ID, a)
			refusal.Do = "wait until everybody has what it wrote"
		}
		return false, refusal
	}
	r.State = Removed
	return true, nil
}
