package region

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/topology"
)

// ErrNoLease means that this region must not act as a home now: others may have taken that over without its knowledge.
// Nothing was done; the same call may succeed later.
var ErrNoLease = errors.New("the region cannot reach a majority of the membership")

// NoLeaseError is ErrNoLease with its reason.
type NoLeaseError struct{ Why string }

// Error says why.
func (e *NoLeaseError) Error() string { return e.Why }

// Unwrap makes it match ErrNoLease.
func (e *NoLeaseError) Unwrap() error { return ErrNoLease }

// HomeLeasedError means that a home cannot be taken over yet: the former one may not know that it was given up, and decide
// still. Nothing was done; the same call succeeds later.
type HomeLeasedError struct {
	Home topology.RegionID
	// Left is how long that may be so.
	Left time.Duration
}

// Error says for how long.
func (e *HomeLeasedError) Error() string {
	return fmt.Sprintf("region %d may act as the home for %v still", e.Home, e.Left.Round(time.Millisecond))
}

// Leases say whether regions may act as homes, where a membership can give a region up that does not hear of it. Safe for
// concurrent use, and quick.
type Leases interface {
	// Held returns nil if this region may act as a home now, or else an error that matches ErrNoLease.
	Held() error
	// Left returns for how long still a region that is given up may act as a home; 0 means that it does not, for certain.
	Left(topology.RegionID) time.Duration
}

// leased returns ErrNoLease if this region must not act as a home now. It is asked before a write is proposed and again when it is
// answered: while the lease is held nobody has taken over.
func (p *Partition) leased() error {
	if p.leases == nil {
		return nil
	}
	return p.leases.Held()
}

// mayBeHome reports whether this region is a namespace's home as far as it knows, or may become one that never wrote.
func (p *Partition) mayBeHome(namespace string, first bool) bool {
	view := p.machine.View()
	self, _ := topology.ActorRegion(view.Outbox.Actor)
	home, epoch, _ := view.Home(namespace)
	return home == self || epoch == 0 && first
}

// homeAnswer judges the answer to a write at the home by whether this region may still give it. What was done is not known
// to count then, and a condition that failed was judged by what may not be the home's state any more.
func (p *Partition) homeAnswer(err error) error {
	lost := p.leased()
	switch _, judged := errors.AsType[*replica.OpError](err); {
	case lost == nil:
		return err
	case err == nil:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, lost)
	case judged:
		return lost
	}
	return err
}

// decides reports whether operations are on a namespace whose home is this region, whether or not they say so.
func (p *Partition) decides(ops []replica.Op) bool {
	view := p.machine.View()
	if p.leases == nil || len(view.Homes) == 0 {
		return false
	}
	self, _ := topology.ActorRegion(view.Outbox.Actor)
	return slices.ContainsFunc(ops, func(op replica.Op) bool {
		h, known := homeOf(view.Homes, op.Namespace)
		return known && view.Facts.isHome(self, &h)
	})
}

// mayFollow returns why this region cannot follow on a former home yet, or nil. It is asked before that is proposed, because what is
// applied must not depend on a clock: a wait that is over stays so.
func (p *Partition) mayFollow(h *replica.Home) error {
	if p.leases == nil {
		return nil
	}
	view := p.machine.View()
	self, _ := topology.ActorRegion(view.Outbox.Actor)
	var former topology.RegionID
	left := time.Duration(0)
	for _, r := range view.Facts.homes(h) {
		if r == self {
			continue // for what it was before it came back, Held waits
		}
		if of := p.leases.Left(r); of > left {
			former, left = r, of
		}
	}
	if left == 0 {
		return nil
	}
	if open := view.Facts.openHome(h, view.Outbox.Actor, view.Vector); open != nil {
		return open // waiting would not help
	}
	return &HomeLeasedError{Home: former, Left: left}
}
