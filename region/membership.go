package region

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// ErrFenced means that this region's actor writes no more: it drains, or the others have given it up.
// Nothing was done.
var ErrFenced = errors.New("this region writes no more under its epoch")

// FencedError is ErrFenced with a reason of its own.
type FencedError struct{ Why string }

// Error says why, and what to do.
func (e *FencedError) Error() string { return e.Why }

// Unwrap makes it match ErrFenced.
func (e *FencedError) Unwrap() error { return ErrFenced }

// ErrClosing means that an actor is being closed: none of its events are merged until its cut is known.
// Nothing was done; the same call may succeed later.
var ErrClosing = errors.New("the actor is being closed")

// ActorState says what becomes of an actor's events. Its numbers are on disk.
type ActorState uint8

// The states of an actor.
const (
	// ActorOpen: they are merged as they come.
	ActorOpen ActorState = 1
	// ActorFenced: none are merged.
	ActorFenced ActorState = 2
	// ActorClosed: those up to the cut are merged, and none beyond it.
	ActorClosed ActorState = 3
)

// maxFacts bounds the facts of a partition: of 63 regions as many actors as are remembered.
const maxFacts = topology.MaxRegionID * 8

// Fact is what a partition knows of one actor.
type Fact struct {
	Region topology.RegionID
	Actor  crdt.Actor
	State  ActorState
	// Cut is the last event that counts, of a closed actor.
	Cut uint64
	// Released means that every region that takes part is at the cut.
	Released bool
	// Destination means that outboxes wait for the region, under this actor.
	Destination bool
	// Joining means that the region issues no events yet.
	Joining bool
}

// Facts are what a partition knows of the membership of regions as of a membership epoch, in ascending
// order of regions and then of actors. Without any, at epoch 0, the configuration says who takes part,
// and every actor is open. Facts are never changed once they are made.
type Facts struct {
	Epoch uint64
	Facts []Fact
	// Heirs are all that were ever named, in ascending order of the actors that they are of.
	Heirs []Heir
}

// ClosedError means that an event lies beyond the cut of a closed actor, or is of one that is not known to
// the membership: it is never merged. Nothing was done.
type ClosedError struct {
	Dot crdt.Dot
	// Cut is 0 if the actor is not known.
	Cut uint64
}

// Error says where the actor was closed.
func (e *ClosedError) Error() string {
	return fmt.Sprintf("event %d of actor %d is refused: the actor counts up to %d", e.Dot.Seq, e.Dot.Actor, e.Cut)
}

// of returns what is known of an actor.
func (f *Facts) of(a crdt.Actor) (Fact, bool) {
	i := slices.IndexFunc(f.Facts, func(fact Fact) bool { return fact.Actor == a })
	if i < 0 {
		return Fact{}, false
	}
	return f.Facts[i], true
}

// Admits returns nil if the partition may have an actor's events up to a sequence number, by merging
// them or by taking over another region's state, or has them. have is how far it has applied the actor.
// Errors: ErrClosing, *ClosedError.
func (f *Facts) Admits(upTo crdt.Dot, have uint64) error {
	fact, known := f.of(upTo.Actor)
	switch {
	case f.Epoch == 0 || upTo.Seq <= have || known && fact.State == ActorOpen:
		return nil
	case known && fact.State == ActorFenced:
		return fmt.Errorf("%w: actor %d", ErrClosing, upTo.Actor)
	case known && upTo.Seq <= fact.Cut:
		return nil
	}
	return &ClosedError{Dot: upTo, Cut: fact.Cut}
}

// last returns the last event of an actor that may be merged now.
func (f *Facts) last(a crdt.Actor, have uint64) uint64 {
	const all = ^uint64(0)
	if f.Admits(crdt.Dot{Actor: a, Seq: all}, have) == nil {
		return all
	}
	if fact, known := f.of(a); known && fact.State == ActorClosed {
		return max(fact.Cut, have)
	}
	return have
}

// mute reports whether an actor issues no events any more.
func (f *Facts) mute(self crdt.Actor) bool {
	if f.Epoch == 0 {
		return false
	}
	fact, known := f.of(self)
	return !known || fact.State != ActorOpen || fact.Joining
}

// writes reports whether a region has an actor that issues events.
func (f *Facts) writes(r topology.RegionID) bool {
	return f.Epoch == 0 || slices.ContainsFunc(f.Facts, func(fact Fact) bool {
		return fact.Region == r && fact.State == ActorOpen && !fact.Joining
	})
}

// alone reports whether an actor is the only one that issues events or can come to that, and has all that counts of all
// others.
func (f *Facts) alone(self crdt.Actor, have crdt.VersionVector) bool {
	return f.Epoch > 0 && !slices.ContainsFunc(f.Facts, func(fact Fact) bool {
		if fact.Actor == self {
			return fact.State != ActorOpen || fact.Joining
		}
		return fact.State != ActorClosed || !fact.Released || have.Get(fact.Actor) < fact.Cut
	})
}

// released returns the cuts of the actors of which nothing will come, nor is under way anywhere.
func (f *Facts) released() map[crdt.Actor]uint64 {
	var cuts map[crdt.Actor]uint64
	for _, fact := range f.Facts {
		if fact.Released {
			if cuts == nil {
				cuts = map[crdt.Actor]uint64{}
			}
			cuts[fact.Actor] = fact.Cut
		}
	}
	return cuts
}

// Lacks reports whether a partition that has applied vector, and has a part of what ahead includes beyond that, lacks events
// that nobody ships any more: those within the cut of an actor that is released, or whose region has begun another epoch
// since. So it is with a region that joins, and with one that was not at the cut yet when another came back: the others have
// them in their states only. It lacks, too, the rest of what it has in part.
func (f *Facts) Lacks(vector, ahead crdt.VersionVector) bool {
	for i, fact := range f.Facts {
		over := i+1 < len(f.Facts) && f.Facts[i+1].Region == fact.Region
		if (fact.Released || fact.State == ActorClosed && over) && vector.Get(fact.Actor) < fact.Cut {
			return true
		}
	}
	return f.InPart(vector, ahead)
}

// InPart reports whether a partition that has applied vector, and has a part of what ahead includes beyond that, has a part of
// a fenced actor's events. It cannot tell how far it has that actor before it has taken over a state that has all of them:
// what was joined of one counts only then, and a cut from before would leave it behind, here and nowhere else.
func (f *Facts) InPart(vector, ahead crdt.VersionVector) bool {
	return slices.ContainsFunc(f.Facts, func(fact Fact) bool {
		return fact.State == ActorFenced && vector.Get(fact.Actor) < ahead.Get(fact.Actor)
	})
}

// lacksOf reports whether events are missing of a region's actors that issue none any more, or may be: of one that is not
// closed it is not known yet how many count.
func (f *Facts) lacksOf(r topology.RegionID, have crdt.VersionVector) bool {
	return slices.ContainsFunc(f.Facts, func(fact Fact) bool {
		return fact.Region == r && (fact.State == ActorFenced || fact.State == ActorClosed && have.Get(fact.Actor) < fact.Cut)
	})
}

// destinations returns the regions that the outbox of a partition waits for.
func (f *Facts) destinations(self crdt.Actor) []topology.RegionID {
	own, _ := topology.ActorRegion(self)
	var to []topology.RegionID
	for _, fact := range f.Facts {
		if fact.Destination && fact.Region != own {
			to = append(to, fact.Region)
		}
	}
	return to
}

// lives returns how many actors of a region are known.
func (f *Facts) lives(r topology.RegionID) (n int) {
	for _, fact := range f.Facts {
		if fact.Region == r {
			n++
		}
	}
	return n
}

// membership takes in facts. A region that is waited for under an actor that was not known has none of
// this partition's deltas: what it had acknowledged in an earlier life does not count.
func (a *application) membership(c *logv1.MembershipCommand) (result, error) {
	next, err := decodeFacts(c.GetEpoch(), c.GetFacts(), c.GetHeirs())
	if err != nil {
		return result{err: err}, nil
	}
	if next.Epoch <= a.state.facts.Epoch {
		return result{}, nil
	}
	same := map[topology.RegionID]bool{}
	for _, fact := range next.Facts {
		_, known := a.state.facts.of(fact.Actor)
		// The first facts: what is on record is of a region's first life, if it had no other.
		known = known || a.state.facts.Epoch == 0 && next.lives(fact.Region) == 1
		if known && fact.Destination {
			same[fact.Region] = true
		}
	}
	maps.DeleteFunc(a.state.watermarks, func(k watermarkKey, _ uint64) bool { return !same[k.region] })
	maps.DeleteFunc(a.state.evictions, func(r topology.RegionID, _ Eviction) bool { return !same[r] })
	a.state.facts = next
	a.replica.UseReleased(next.released())
	a.useHomes()
	return result{}, nil
}

func decodeFacts(epoch uint64, encoded []*logv1.MemberFact, heirs []*logv1.HeirFact) (f Facts, err error) {
	if len(encoded) > maxFacts {
		return Facts{}, fmt.Errorf("%w: %d facts of the membership", ErrBadCommand, len(encoded))
	}
	f.Epoch = epoch
	if f.Heirs, err = decodeHeirs(heirs); err != nil {
		return Facts{}, err
	}
	last := crdt.Actor(0)
	for i, e := range encoded {
		fact := Fact{
			Region: topology.RegionID(e.GetRegion()), Actor: crdt.Actor(e.GetActor()), State: ActorState(e.GetState()),
			Cut: e.GetCut(), Released: e.GetReleased(), Destination: e.GetDestination(),
			Joining: e.GetJoining(),
		}
		region, _ := topology.ActorRegion(fact.Actor)
		ordered := i == 0 || f.Facts[i-1].Region < fact.Region || f.Facts[i-1].Region == fact.Region && last < fact.Actor
		if uint32(region) != e.GetRegion() || region == 0 || e.GetState() < 1 || e.GetState() > 3 || !ordered {
			return Facts{}, fmt.Errorf("%w: fact %d of the membership", ErrBadCommand, i)
		}
		last = fact.Actor
		f.Facts = append(f.Facts, fact)
	}
	return f, nil
}

func encodeFacts(f Facts) []*logv1.MemberFact {
	encoded := make([]*logv1.MemberFact, len(f.Facts))
	for i, fact := range f.Facts {
		encoded[i] = &logv1.MemberFact{
			Region: uint32(fact.Region), Actor: uint32(fact.Actor), State: uint32(fact.State), Cut: fact.Cut,
			Released: fact.Released, Destination: fact.Destination, Joining: fact.Joining,
		}
	}
	return encoded
}

// TakeMembership has the partition take in facts of the membership, through Raft. A nil error promises
// that they, or later ones, hold from the next entry on, on every replica: View, asked after that, tells
// what was merged before. It proposes nothing if they are known.
//
// Errors: those of Write, but for refusals of operations; ErrBadCommand if the facts make no sense.
func (p *Partition) TakeMembership(ctx context.Context, f Facts) error {
	if err := p.leading(); err != nil {
		return err
	}
	command := p.membershipCommand(f)
	if command == nil {
		return nil
	}
	_, err := p.batcher.do(ctx, command)
	return err
}

// membershipCommand returns what TakeMembership proposes, nil if the facts are known.
func (p *Partition) membershipCommand(f Facts) *logv1.Command {
	if f.Epoch <= p.machine.View().Facts.Epoch {
		return nil
	}
	command := &logv1.MembershipCommand{Epoch: f.Epoch, Facts: encodeFacts(f), Heirs: encodeHeirs(f.Heirs)}
	return &logv1.Command{Command: &logv1.Command_Membership{Membership: command}}
}

// waitsFor returns the regions whose watermarks the outbox waits for: those of the configuration, until
// the membership tells.
func (p *Partition) waitsFor(view *MachineView) []topology.RegionID {
	if view.Facts.Epoch == 0 {
		return p.destinations
	}
	return view.Facts.destinations(view.Outbox.Actor)
}

// writes reports whether a command makes events of this region.
func writes(c *logv1.Command) bool {
	return c.GetWrite() != nil || c.GetQueued() != nil || c.GetTick() != nil || c.GetExpire() != nil || c.GetHome() != nil
}

// cut is Partition.holder of a region that knows the membership: most, or less, where an event of an actor may
// still arrive. One that is closed counts until everybody is at its cut, and this partition, too.
func (f *Facts) cut(most hlc.Time, view *MachineView) (cut hlc.Time, by topology.RegionID) {
	for _, fact := range f.Facts {
		if fact.Actor != view.Outbox.Actor && !(fact.Released && view.Vector.Get(fact.Actor) >= fact.Cut) {
			if at := view.HLCs[fact.Actor]; at < most {
				most = at
				by, _ = topology.ActorRegion(fact.Actor)
			}
		}
	}
	return most, by
}

// Closed returns the instant of an actor's last event in this partition, if there will be no further one: the actor
// is closed at a cut, and all up to it is here. One of an epoch before those that are known of its region was
// closed and everywhere long ago.
func (v *MachineView) Closed(a crdt.Actor) (last hlc.Time, closed bool) {
	if fact, known := v.Facts.of(a); known {
		return v.HLCs[a], fact.State == ActorClosed && v.Vector.Get(a) >= fact.Cut
	}
	region, epoch := topology.ActorRegion(a)
	for _, fact := range v.Facts.Facts {
		if fact.Region == region {
			_, first := topology.ActorRegion(fact.Actor)
			return v.HLCs[a], epoch < first
		}
	}
	return 0, false
}
