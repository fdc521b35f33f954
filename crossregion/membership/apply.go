package membership

import (
	"encoding/binary"
	"hash/fnv"
	"math/bits"

	"github.com/atolldb/atoll/topology"
)

// Apply returns the state after a command. It is s itself if the command changes nothing, because it was
// done before. After an error, a *RefusedError that says what to do, nothing has changed either.
func (s *State) Apply(c Command) (*State, error) {
	if fault := c.check(); fault != "" {
		return s, c.refuse(Malformed, fault, "")
	}
	if c.Kind != Found && !s.Founded() {
		return s, c.refuse(NotFounded, "the deployment has no membership yet", "wait until its regions have formed a majority")
	}
	next := s.clone()
	next.Epoch++
	changed, err := next.run(&c)
	if err != nil || !changed {
		return s, err
	}
	next.settle()
	return next, nil
}

// run runs a command on a state whose epoch has risen already, and reports whether it changed anything.
func (s *State) run(c *Command) (bool, error) {
	switch c.Kind {
	case Found:
		return s.found(c)
	case Add:
		return s.add(c)
	case AckMember:
		return s.ack(c)
	case Join:
		return s.join(c)
	case Drain:
		return s.drain(c)
	case Fence, SelfFence:
		return s.fence(c)
	case ReportVector:
		return s.report(c)
	case Close:
		return s.close(c)
	case Drained:
		return s.drained(c)
	case Remove:
		return s.remove(c)
	case Rejoin:
		return s.rejoin(c)
	case Declare:
		return s.declare(c)
	case NameHeir:
		return s.nameHeir(c)
	default:
		return false, c.refuse(Malformed, "there is no such command", "")
	}
}

func (s *State) found(c *Command) (bool, error) {
	if s.Epoch > 1 {
		if s.Cluster != c.Name || uint64(s.Partitions) != c.Round {
			return false, c.refuse(Foreign, "the membership is that of another deployment", "check the configuration of this node")
		}
		return false, nil
	}
	if c.Name == "" || c.Round == 0 || c.Round > topology.MaxPartitions || bits.OnesCount64(c.Round) != 1 || len(c.Founding) == 0 {
		return false, c.refuse(Malformed, "a deployment has a name, regions, and a power of two of partitions", "")
	}
	s.Cluster, s.Partitions, s.Witness = c.Name, uint32(c.Round), c.Witness
	for _, f := range c.Founding {
		if !f.valid() || s.Region(f.ID) != nil || s.RegionNamed(f.Name) != nil {
			return false, c.refuse(Malformed, "regions need ids, names and epochs of their own", "")
		}
		s.insert(Region{ID: f.ID, Name: f.Name, Address: f.Address, State: Active, Actors: []Actor{{Epoch: f.Epoch, State: ActorOpen, Round: s.Epoch}}})
	}
	return true, nil
}

func (f *FoundingRegion) valid() bool {
	return f.ID > 0 && f.ID <= topology.MaxRegionID && f.Epoch <= topology.MaxEpoch && validName(f.Name)
}

func validName(name string) bool { return name != "" && len(name) <= maxNameBytes }

// insert keeps the regions in ascending order.
func (s *State) insert(r Region) {
	at := 0
	for at < len(s.Regions) && s.Regions[at].ID < r.ID {
		at++
	}
	s.Regions = append(s.Regions[:at], append([]Region{r}, s.Regions[at:]...)...)
}

// present returns the region that a command is about, if it has the epoch that the command names. It is
// nil without an error if the region has gone on: the command is an old one.
func (s *State) present(c *Command) (*Region, error) {
	r := s.Region(c.Region)
	if r == nil {
		return nil, c.refuse(UnknownRegion, "there is no such region", "see `atoll region list`")
	}
	switch last := r.Actor().Epoch; {
	case c.Epoch > last:
		return nil, c.refuse(StaleEpoch, "the region has not had this epoch", "see `atoll region list` for the one it has")
	case c.Epoch < last:
		return nil, nil
	}
	return r, nil
}

// settle draws the conclusions of a change: what is released, what is over, and who waits for whom then.
func (s *State) settle() {
	for s.releaseSome() { // a region that is over is waited for no more
	}
	living := s.Living()
	for i := range s.Regions {
		r := &s.Regions[i]
		r.forget()
		if r.State != Joining {
			continue
		}
		r.Awaiting &= living
		if r.Awaiting == 0 && r.AckedAt == 0 {
			r.AckedAt = s.Epoch
		}
	}
}

// releaseSome releases the actors that nobody lags behind, and reports whether there were any. A region
// that leaves in order may hold what others lack of one that was given up: it stays until that is over.
func (s *State) releaseSome() (some bool) {
	forced := s.release(func(a *Actor) bool { return !a.Graceful })
	orderly := false
	if !s.anyClosing() {
		orderly = s.release(func(a *Actor) bool { return a.Graceful })
	}
	for i := range s.Regions {
		if r := &s.Regions[i]; (r.State == Draining || r.State == Fenced) && r.Actor().Released {
			r.State = Closed
		}
	}
	return forced || orderly
}

func (s *State) release(which func(*Actor) bool) (some bool) {
	for i := range s.Regions {
		r := &s.Regions[i]
		for j := range r.Actors {
			if a := &r.Actors[j]; which(a) && a.State == ActorClosed && !a.Released && s.Lagging(r.ID, a) == 0 {
				a.Released, some = true, true
			}
		}
	}
	return some
}

func (s *State) anyClosing() bool {
	for i := range s.Regions {
		for j := range s.Regions[i].Actors {
			if s.Regions[i].Actors[j].closing() {
				return true
			}
		}
	}
	return false
}

// forget drops the oldest actors, which are released.
func (r *Region) forget() {
	for len(r.Actors) > maxHistory && r.Actors[0].Released {
		r.Actors = r.Actors[1:]
	}
}

// declare records an override and fences the dead.
func (s *State) declare(c *Command) (bool, error) {
	for i := range s.Overrides {
		if s.Overrides[i].Nonce == c.Round {
			return false, nil
		}
	}
	if s.Writing().Minus(c.Dead) == 0 {
		return false, c.refuse(LastRegion, "no region that takes writes would be left", "declare fewer regions dead")
	}
	for id := range c.Dead.All() {
		r := s.Region(id)
		if r == nil {
			return false, c.refuse(UnknownRegion, "one of the dead was never a region", "see `atoll region list`")
		}
		if r.living() {
			s.giveUp(r)
		}
	}
	s.Witness = topology.Witness{} // with one of the dead it would be a majority of its own
	s.Overrides = append(s.Overrides, Override{Nonce: c.Round, Epoch: s.Epoch, Dead: c.Dead, Note: c.Note})
	if extra := len(s.Overrides) - maxOverrides; extra > 0 {
		s.Overrides = s.Overrides[extra:]
	}
	h := fnv.New64a()
	for _, n := range []uint64{s.Lineage, c.Round, uint64(c.Dead)} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, n))
	}
	s.Lineage = h.Sum64()
	return true, nil
}
