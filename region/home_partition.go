package region

import (
	"context"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// AtHome returns nil if what a replica shows of a namespace is what its home shows. first says that this region is the
// home as long as there was no other. A region that writes no more, or not yet, is none: another may be the home
// without its knowledge. It is to be asked when the replica has been proved to be recent enough: no other home has decided
// anything by then.
// Errors: *NotHomeError, ErrFenced, ErrNoLease.
func (p *Partition) AtHome(r *replica.Replica, namespace string, first bool) error {
	if err := p.muted(); err != nil {
		return err
	}
	if err := atHome(r, namespace, first, &p.View().Facts); err != nil {
		return err
	}
	return p.leased()
}

// WriteHome is Write for operations on a namespace that has a home: it is refused where that is not. first says that
// this region is the home as long as there was no other; the same region everywhere.
//
// A nil error promises, besides what Write promises, that the operations took effect after all that were acknowledged
// at this or an earlier home of the namespace which gave it up, and before all that any later home does.
//
// Errors: *NotHomeError, ErrTooManyHomes, ErrNoLease, and those of Write.
func (p *Partition) WriteHome(ctx context.Context, opID string, ops []replica.Op, first bool) (WriteResult, error) {
	command, err := p.writeHomeCommand(opID, ops, first)
	if err != nil {
		return WriteResult{}, err
	}
	// Who is no home is told so where the command is applied; but it may have become one by then.
	return p.write(ctx, command, p.mayBeHome(ops[0].Namespace, first), true)
}

// writeHomeCommand returns what WriteHome proposes.
func (p *Partition) writeHomeCommand(opID string, ops []replica.Op, first bool) (*logv1.Command, error) {
	if err := p.writable(); err != nil {
		return nil, err
	}
	command := writeCommand(opID, ops)
	command.GetWrite().Home, command.GetWrite().FirstHome = true, first
	return command, nil
}

// HomeState is what a region knows of the home of a namespace.
type HomeState struct {
	// Home is the region, 0 if none is known.
	Home topology.RegionID
	// Heir is the region that is to take over from Home, which was given up; 0 if that has no heir.
	Heir topology.RegionID
	// Epoch is the home's ownership epoch, 0 if there never was any home but that of the configuration.
	Epoch uint64
	// Serving says that this region is the home, and serves: it has what it needs, takes writes, and has a lease.
	Serving bool
	// Waiting are regions that this home waits for, before it can move.
	Waiting []topology.RegionID
}

// Home returns what this region knows of a namespace's home, as of an instant between call and return. first says that this
// region is the home as long as there was no other.
//
// Errors: those of a linearizable Read.
func (p *Partition) Home(ctx context.Context, namespace string, first bool) (HomeState, error) {
	var state HomeState
	_, err := p.Read(ctx, ReadOptions{}, func(r *replica.Replica, _ hlc.Time) (err error) {
		state, err = p.homeState(r, namespace, first)
		return err
	})
	return state, err
}

// homeState is Home as a replica has it.
func (p *Partition) homeState(r *replica.Replica, namespace string, first bool) (HomeState, error) {
	homes, err := r.Homes()
	if err != nil {
		return HomeState{}, err
	}
	self, _ := topology.ActorRegion(r.Self())
	writes := p.muted() == nil && p.leased() == nil
	others := p.others()
	h, known := homeOf(homes, namespace)
	if !known && !first {
		return HomeState{}, nil
	}
	if !known {
		h = configured(self)
	}
	facts := &p.View().Facts
	state := HomeState{
		Home: topology.RegionID(h.Region), Heir: facts.heirOf(&h), Epoch: h.Epoch, Serving: writes && serves(&h, self, r.Vector(), facts),
	}
	switch {
	case !facts.isHome(self, &h):
	case known:
		state.Waiting = unheard(r, &h, others)
	default:
		state.Waiting = regionIDs(others)
	}
	return state, nil
}

// others returns the numbers of the regions that have to know of a home before it moves.
func (p *Partition) others() []uint32 {
	var ids []uint32
	for _, r := range p.waitsFor(p.View()) {
		ids = append(ids, uint32(r))
	}
	return ids
}

func regionIDs(ids []uint32) []topology.RegionID {
	regions := make([]topology.RegionID, len(ids))
	for i, id := range ids {
		regions[i] = topology.RegionID(id)
	}
	return regions
}

// MoveHome makes another region the home of a namespace whose home this region is; first says that it is as long as there
// was no other. It is the last that this region does for the namespace: once it returns nil, writes are refused here. The
// other region serves as soon as it has all that this one wrote. If this region knows that the other one is the home,
// it does nothing.
//
// Errors: *NotHomeError, ErrHomeUnsettled, *HomeTargetError, ErrTooManyHomes, and those of Write.
func (p *Partition) MoveHome(ctx context.Context, namespace string, to topology.RegionID, first bool) error {
	return p.moveHome(namespace, to, first, func(c *logv1.Command) error { return p.setHome(ctx, c) })
}

// moveHome is MoveHome, whose commands are proposed by a function.
func (p *Partition) moveHome(namespace string, to topology.RegionID, first bool, propose func(*logv1.Command) error) error {
	if err := p.writable(); err != nil {
		return err
	}
	self, _ := topology.ActorRegion(p.View().Outbox.Actor)
	h, known := homeOf(p.View().Homes, namespace)
	if !known && first {
		first := &logv1.HomeCommand{Namespace: namespace, Region: uint32(self), Epoch: firstHomeEpoch, First: true}
		if err := propose(homeCommand(first)); err != nil {
			return err
		}
		h, _ = homeOf(p.View().Homes, namespace)
	}
	if p.View().Facts.isHome(to, &h) {
		return nil
	}
	return propose(homeCommand(&logv1.HomeCommand{Namespace: namespace, Region: uint32(to), Epoch: h.Epoch + 1, Regions: p.others()}))
}

func homeCommand(c *logv1.HomeCommand) *logv1.Command {
	return &logv1.Command{Command: &logv1.Command_Home{Home: c}}
}

func (p *Partition) setHome(ctx context.Context, c *logv1.Command) error {
	_, err := p.batcher.do(ctx, c)
	return err
}

// TakeHome makes this region the home of a namespace whose home is closed for good: the membership has closed it, all that counts
// of it is here, and this region is its heir, or so it is with every other region. former is the region of the configuration.
// What the home acknowledged and nobody had when it was closed is lost. If this region is the home, it does nothing.
//
// Errors: *HomeNotClosedError, *HomeLeasedError, ErrHomeUnsettled, *NotHomeError, ErrTooManyHomes, and those of Write.
func (p *Partition) TakeHome(ctx context.Context, namespace string, former topology.RegionID) error {
	command, err := p.takeHomeCommand(namespace, former)
	if command == nil || err != nil {
		return err
	}
	return p.setHome(ctx, command)
}

// takeHomeCommand returns what TakeHome proposes, nil if this region is the home.
func (p *Partition) takeHomeCommand(namespace string, former topology.RegionID) (*logv1.Command, error) {
	if err := p.writable(); err != nil {
		return nil, err
	}
	self, _ := topology.ActorRegion(p.View().Outbox.Actor)
	h, known := homeOf(p.View().Homes, namespace)
	if !known {
		h = configured(former)
	}
	if known && p.View().Facts.isHome(self, &h) {
		return nil, nil
	}
	if err := p.mayFollow(&h); err != nil {
		return nil, err
	}
	return homeCommand(&logv1.HomeCommand{
		Namespace: namespace, Region: uint32(self), Epoch: nextTerm(h.Epoch), Take: true, OfClosed: true, Former: uint32(former),
	}), nil
}
