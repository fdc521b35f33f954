package region

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// firstHomeEpoch is the ownership epoch of a home that is one by configuration. Moving a home adds 1; taking one over
// by force needs a term of its own, the upper half of the epoch, which no move of the former home reaches.
const firstHomeEpoch = 1 << 32

// maxHomes bounds the namespaces that get a home in a partition: as many as a configuration can name. What other regions
// made homes of counts, but is not refused: whoever does not know of a home might act as one.
const maxHomes = 256

// ErrTooManyHomes means that a namespace cannot get a home, because maxHomes others have one. Nothing was done.
var ErrTooManyHomes = errors.New("too many namespaces have a home")

// NotHomeError means that an operation has to be done at the home of its namespace, and that is not here, or not yet:
// nothing was done.
type NotHomeError struct {
	Namespace string
	// Home is the home as far as this partition knows; this region itself if it has yet to see what the home before
	// it did; 0 if it knows of none.
	Home topology.RegionID
	// Epoch is the home's ownership epoch.
	Epoch uint64
	// Former is set if Home is the heir of a home that was given up, and has yet to take over from that.
	Former topology.RegionID
}

// Error names the home.
func (e *NotHomeError) Error() string {
	if e.Former != 0 {
		return fmt.Sprintf("region %d is to take over the namespace's home, under epoch %d, from region %d", e.Home, e.Epoch, e.Former)
	}
	return fmt.Sprintf("the namespace's home is region %d, under epoch %d", e.Home, e.Epoch)
}

// ErrHomeUnsettled means that a home cannot be moved yet: some region has not told that it knows of the home, so that writes
// of it may still come too late. Nothing was done; the same call succeeds once all regions were heard of.
var ErrHomeUnsettled = errors.New("not every region knows of the home yet")

// HomeTargetError means that a region cannot become a home, because it takes no writes. Nothing was done.
type HomeTargetError struct{ Region topology.RegionID }

// Error names the region.
func (e *HomeTargetError) Error() string { return fmt.Sprintf("region %d takes no writes", e.Region) }

// HomeNotClosedError means that a namespace cannot be taken over from its home: the home is not closed for good, or there is
// another region that could take over, too. Nothing was done.
type HomeNotClosedError struct {
	Home topology.RegionID
	// Heir is the region that is to take over; 0 if the home has no heir.
	Heir topology.RegionID
}

// Error names the home.
func (e *HomeNotClosedError) Error() string {
	if e.Heir != 0 {
		return fmt.Sprintf("region %d is the home's heir, and has to have all of region %d, closed", e.Heir, e.Home)
	}
	return fmt.Sprintf("region %d is the home, and not all regions but this one are closed", e.Home)
}

// homeOf returns what is known of a namespace's home.
func homeOf(homes []replica.Home, namespace string) (replica.Home, bool) {
	i := slices.IndexFunc(homes, func(h replica.Home) bool { return h.Namespace == namespace })
	if i < 0 {
		return replica.Home{}, false
	}
	return homes[i], true
}

// serves reports whether a region is the home, and has all that it needs to be. What lies beyond the cut of an actor that is
// closed will never come, wherever it was: nobody waits for it. What its own former actors wrote as home, after it became that, is
// not in After.
func serves(h *replica.Home, self topology.RegionID, have crdt.VersionVector, facts *Facts) bool {
	return facts.isHome(self, h) && !facts.lacksOf(self, have) && !slices.ContainsFunc(h.After.Entries(), func(needed crdt.Dot) bool {
		if fact, known := facts.of(needed.Actor); known && fact.State == ActorClosed {
			needed.Seq = min(needed.Seq, fact.Cut)
		}
		return needed.Seq > 0 && !have.Covers(needed)
	})
}

// Home returns the home of a namespace as a view has it, or the heir that is to take over, and whether it is this region and
// serves. The epoch is 0 if none is known.
func (v *MachineView) Home(namespace string) (home topology.RegionID, epoch uint64, serving bool) {
	h, ok := homeOf(v.Homes, namespace)
	if !ok {
		return 0, 0, false
	}
	self, _ := topology.ActorRegion(v.Outbox.Actor)
	if heir := v.Facts.heirOf(&h); heir != 0 {
		return heir, h.Epoch, false
	}
	return topology.RegionID(h.Region), h.Epoch, serves(&h, self, v.Vector, &v.Facts)
}

// atHome is Partition.AtHome of a region that writes.
func atHome(r *replica.Replica, namespace string, first bool, facts *Facts) error {
	homes, err := r.Homes()
	if err != nil {
		return err
	}
	self, _ := topology.ActorRegion(r.Self())
	h, ok := homeOf(homes, namespace)
	if !ok && first {
		h = configured(self)
	}
	if serves(&h, self, r.Vector(), facts) {
		return nil
	}
	return facts.notHome(namespace, &h)
}

func (a *application) region() topology.RegionID {
	self, _ := topology.ActorRegion(a.replica.Self())
	return self
}

// home runs a change of a home.
func (a *application) home(now hlc.Time, c *logv1.HomeCommand) (result, error) {
	target := replica.Home{Namespace: c.GetNamespace(), Epoch: c.GetEpoch(), Region: c.GetRegion()}
	if !possible(&target) {
		return result{err: ErrBadCommand}, nil
	}
	have, known := homeOf(a.state.homes, target.Namespace)
	if known && have.Epoch == target.Epoch && have.Region == target.Region {
		return result{}, nil // a repetition
	}
	refused, err := a.mayBecome(c, &target, have, known)
	if refused != nil || err != nil {
		return result{err: refused}, err
	}
	return result{}, a.setHome(now, target)
}

// mayBecome returns why a region cannot become the home now, or nil. Its second error is the storage's.
func (a *application) mayBecome(c *logv1.HomeCommand, target *replica.Home, have replica.Home, known bool) (refused, err error) {
	own := target.Region == uint32(a.region())
	elsewhere := a.state.facts.notHome(target.Namespace, &have)
	switch {
	case c.GetOfClosed():
		if own && target.Epoch == nextTerm(have.Epoch) {
			return a.mayTake(c, &have, known), nil
		}
	case c.GetTake():
		if own && target.Epoch > have.Epoch {
			return nil, nil
		}
	case c.GetFirst():
		if own && !known && target.Epoch == firstHomeEpoch {
			return a.mayBegin(target.Namespace), nil
		}
	case known && target.Epoch == have.Epoch+1 && serves(&have, a.region(), a.replica.Vector(), &a.state.facts):
		return a.mayMove(target, c.GetRegions())
	}
	return elsewhere, nil
}

// mayBegin returns why this region, which is a namespace's home by configuration, cannot say so, or nil.
func (a *application) mayBegin(namespace string) error {
	if h := configured(a.region()); !a.state.facts.isHome(a.region(), &h) {
		return a.state.facts.notHome(namespace, &h)
	}
	return a.roomForHome()
}

// roomForHome returns why no further namespace gets a home, or nil.
func (a *application) roomForHome() error {
	if len(a.state.homes) >= maxHomes {
		return ErrTooManyHomes
	}
	return nil
}

// nextTerm returns the epoch of who takes over from a home; epoch is 0 if that never said that it is one.
func nextTerm(epoch uint64) uint64 {
	return (max(epoch, firstHomeEpoch)/firstHomeEpoch + 1) * firstHomeEpoch
}

// mayTake returns why this region cannot take over a namespace from its home, or nil. The fence is what the partition knows of
// the membership: nothing comes of the home any more, all that counts is here, and there is nobody else to take over, because
// this is the heir or the only region left.
func (a *application) mayTake(c *logv1.HomeCommand, have *replica.Home, known bool) error {
	if !known {
		*have = configured(topology.RegionID(c.GetFormer()))
	}
	needed := replica.Home{Region: uint32(a.region()), After: have.After}
	open := a.state.facts.openHome(have, a.replica.Self(), a.replica.Vector())
	switch {
	case open != nil:
		return open
	case !serves(&needed, a.region(), a.replica.Vector(), &a.state.facts):
		return ErrHomeUnsettled
	case !known:
		return a.roomForHome()
	}
	return nil
}

// mayMove returns why a home that serves here cannot move now, or nil. Its second error is the storage's.
func (a *application) mayMove(target *replica.Home, regions []uint32) (refused, err error) {
	to := topology.RegionID(target.Region)
	if !a.state.facts.writes(to) {
		return &HomeTargetError{Region: to}, nil
	}
	homes, err := a.replica.Homes()
	if err != nil {
		return nil, err
	}
	h, _ := homeOf(homes, target.Namespace)
	for _, r := range regions {
		if r == 0 || r > topology.MaxRegionID {
			return ErrBadCommand, nil
		}
	}
	if len(unheard(a.replica, &h, regions)) > 0 {
		return ErrHomeUnsettled, nil
	}
	return nil, nil
}

// possible reports whether a home can be that.
func possible(h *replica.Home) bool {
	return h.Region > 0 && h.Region <= topology.MaxRegionID && h.Namespace != "" && len(h.Namespace) <= replica.MaxNamespaceBytes
}

// unheard returns which of the given regions, and of those whose events are here, have not told that they know of a
// home, so that writes may still come too late for it. Only the first home of a term has to ask: later ones have it from
// that.
func unheard(r *replica.Replica, h *replica.Home, regions []uint32) []topology.RegionID {
	if h.Epoch%firstHomeEpoch != 0 {
		return nil
	}
	own, _ := topology.ActorRegion(r.Self())
	waiting := map[topology.RegionID]bool{}
	for _, id := range regions {
		waiting[topology.RegionID(id)] = topology.RegionID(id) != own
	}
	unaware := map[topology.RegionID]bool{}
	for _, last := range r.Vector().Entries() {
		id, _ := topology.ActorRegion(last.Actor)
		if last.Actor != r.Self() && !r.Knows(last.Actor, h.Dot) {
			unaware[id] = true
		}
		waiting[id] = false
	}
	maps.Copy(waiting, unaware)
	maps.DeleteFunc(waiting, func(_ topology.RegionID, waits bool) bool { return !waits })
	return slices.Sorted(maps.Keys(waiting))
}

// setHome makes a region the home. Of which actor of it is noted, for that may be given up, and have an heir.
func (a *application) setHome(now hlc.Time, h replica.Home) error {
	if h.Given = a.replica.Self(); h.Region != uint32(a.region()) {
		h.Given = a.state.facts.actorOf(topology.RegionID(h.Region))
	}
	deltas, err := a.replica.SetHome(now, h)
	if err != nil {
		return err
	}
	if err := a.ship(deltas); err != nil {
		return err
	}
	return a.learnHomes()
}

// learnHomes reads which homes there are, after an event that changed one.
func (a *application) learnHomes() (err error) {
	if a.state.homes, err = a.replica.Homes(); err != nil {
		return err
	}
	a.useHomes()
	return nil
}

// useHomes tells the replica of which namespaces this region is the home, or will be. A region that writes no more is none.
func (a *application) useHomes() {
	var mine []replica.Home
	if !a.state.facts.mute(a.replica.Self()) {
		for _, h := range a.state.homes {
			if a.state.facts.isHome(a.region(), &h) {
				mine = append(mine, h)
			}
		}
	}
	a.replica.UseHomes(mine)
}

// atHome gives a write's operations the epochs of their namespaces' homes, or refuses them here. Its error is the
// storage's.
func (a *application) atHome(now hlc.Time, w *logv1.WriteCommand, ops []replica.Op) (refused, err error) {
	for i := range ops {
		h, known := homeOf(a.state.homes, ops[i].Namespace)
		if !known && !w.GetHome() {
			continue
		}
		if !known && w.GetFirstHome() {
			if refused := a.mayBegin(ops[i].Namespace); refused != nil {
				return refused, nil
			}
			h = replica.Home{Namespace: ops[i].Namespace, Epoch: firstHomeEpoch, Region: uint32(a.region())}
			if err := a.setHome(now, h); err != nil {
				return nil, err
			}
			h, known = homeOf(a.state.homes, ops[i].Namespace)
		}
		if !known || !serves(&h, a.region(), a.replica.Vector(), &a.state.facts) {
			return a.state.facts.notHome(ops[i].Namespace, &h), nil
		}
		ops[i].Home = h.Epoch
	}
	return nil, nil
}

// late reports whether a delta has writes that came too late for a home which this region is.
func (a *application) late(d *replica.Delta) bool {
	return slices.ContainsFunc(a.state.homes, func(h replica.Home) bool { return a.state.facts.isHome(a.region(), &h) && h.Late(d) })
}

// mergedHomes does what deltas of others are a reason for: it learns of homes, and insists on what late writes were about.
func (a *application) mergedHomes(now hlc.Time, changed bool) error {
	if changed {
		if err := a.learnHomes(); err != nil {
			return err
		}
	}
	deltas, err := a.replica.Insist(now)
	if err != nil || len(deltas) == 0 {
		return err
	}
	a.note(CauseLocal, deltas)
	return a.ship(deltas)
}

// changesHomes reports whether deltas say which region is a home.
func changesHomes(deltas []replica.Delta) bool {
	return slices.ContainsFunc(deltas, func(d replica.Delta) bool {
		return slices.ContainsFunc(d.Effects, func(e replica.Effect) bool { return e.Namespace == replica.HomeNamespace })
	})
}

func decodeHomes(encoded []*logv1.HomeRecord) ([]replica.Home, error) {
	homes := make([]replica.Home, 0, len(encoded))
	for _, e := range encoded {
		after, err := crdt.DecodeVersionVector(e.GetAfter())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errState, err)
		}
		homes = append(homes, replica.Home{
			Namespace: e.GetNamespace(), Epoch: e.GetEpoch(), Region: e.GetRegion(), Given: crdt.Actor(e.GetGiven()), After: after,
		})
	}
	return homes, nil
}

func encodeHomes(homes []replica.Home) []*logv1.HomeRecord {
	encoded := make([]*logv1.HomeRecord, len(homes))
	for i, h := range homes {
		encoded[i] = &logv1.HomeRecord{
			Namespace: h.Namespace, Epoch: h.Epoch, Region: h.Region, Given: uint32(h.Given), After: h.After.Append(nil),
		}
	}
	return encoded
}
