package membership

import (
	"fmt"

	"github.com/atolldb/atoll/topology"
)

// StartError says why a region must not start, and what to do.
type StartError struct {
	Region topology.RegionID
	Epoch  topology.Epoch
	Why    string
	Do     string
}

// Error says what is wrong and what to do.
func (e *StartError) Error() string {
	return fmt.Sprintf("region %d must not start under epoch %d: %s; %s", e.Region, e.Epoch, e.Why, e.Do)
}

// CheckStart returns why a region must not start under an epoch, a *StartError, as far as this state
// knows; nil if nothing speaks against it.
func (s *State) CheckStart(id topology.RegionID, e topology.Epoch) error {
	refuse := func(why, do string) error { return &StartError{id, e, why, do} }
	if !s.Founded() {
		return nil
	}
	r := s.Region(id)
	if r == nil {
		return refuse("the deployment has no such region", "add it first: atoll region add")
	}
	a := r.actor(e)
	switch {
	case e > r.Actor().Epoch:
		return refuse(fmt.Sprintf("the region's epoch is %d", r.Actor().Epoch), "have it rejoin first: atoll region rejoin")
	case a == nil || a != r.Actor() || !r.living():
		return refuse("the others have given this epoch up, and accept nothing more of it",
			"keep the data directory for salvage, and have the region rejoin under a higher epoch with an empty one: atoll region rejoin")
	}
	return nil
}

// MayWrite returns why a region must not write under an epoch, a *StartError; nil if it may. A region
// that drains starts, and serves what it has, but does not write.
func (s *State) MayWrite(id topology.RegionID, e topology.Epoch) error {
	if err := s.CheckStart(id, e); err != nil || !s.Founded() {
		return err
	}
	r := s.Region(id)
	switch {
	case r.State == Joining:
		return &StartError{id, e, "it is still joining", "wait until it has a donor's state"}
	case r.Actor().Epoch != e || r.State != Active:
		return &StartError{id, e, "the region is " + r.State.String(), "write in another region"}
	}
	return nil
}
