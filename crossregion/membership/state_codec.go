package membership

import (
	"github.com/atolldb/atoll/topology"
)

// Encode returns the state's one encoding, checksummed.
func (s *State) Encode() []byte {
	w := newWriter(stateMagic, len(s.Heirs) > 0)
	w.number(s.Epoch)
	w.text(s.Cluster)
	w.number(uint64(s.Partitions))
	w.text(s.Witness.Name)
	w.text(s.Witness.Address)
	w.number(s.Lineage)
	w.number(uint64(len(s.Overrides)))
	for _, o := range s.Overrides {
		w.number(o.Nonce)
		w.number(o.Epoch)
		w.number(uint64(o.Dead))
		w.text(o.Note)
	}
	w.number(uint64(len(s.Regions)))
	for i := range s.Regions {
		s.Regions[i].append(w)
	}
	if len(s.Heirs) > 0 {
		appendHeirs(w, s.Heirs)
	}
	return w.seal()
}

func (r *Region) append(w *writer) {
	w.number(uint64(r.ID))
	w.number(uint64(r.State))
	w.text(r.Name)
	w.text(r.Address)
	w.number(uint64(r.Awaiting))
	w.number(r.AckedAt)
	w.number(uint64(len(r.Actors)))
	for i := range r.Actors {
		r.Actors[i].append(w)
	}
}

func (a *Actor) append(w *writer) {
	w.number(uint64(a.Epoch))
	w.number(uint64(a.State))
	w.flag(a.Graceful)
	w.flag(a.Released)
	w.number(a.Round)
	w.number(uint64(a.Drained))
	w.vector(a.Cut)
	w.number(uint64(len(a.Reports)))
	for i := range a.Reports {
		w.number(uint64(a.Reports[i].Member))
		w.vector(a.Reports[i].Vector)
	}
}

// DecodeState reads a state. Errors: ErrEncoding.
func DecodeState(data []byte) (*State, error) {
	r := newReader(stateMagic, data, maxSnapshotBytes)
	s := &State{
		Epoch: r.number(^uint64(0)), Cluster: r.text(maxClusterBytes), Partitions: uint32(r.number(topology.MaxPartitions)),
		Witness: topology.Witness{Name: r.text(maxClusterBytes), Address: r.text(maxAddressBytes)}, Lineage: r.number(^uint64(0)),
	}
	for range r.count(maxOverrides, 4) {
		s.Overrides = append(s.Overrides, Override{Nonce: r.number(^uint64(0)), Epoch: r.number(s.Epoch), Dead: r.set(), Note: r.text(maxNoteBytes)})
	}
	for range r.count(topology.MaxRegionID, 8) {
		region := s.readRegion(r)
		if n := len(s.Regions); n > 0 && s.Regions[n-1].ID >= region.ID {
			r.fail("regions are not in order")
		}
		s.Regions = append(s.Regions, region)
	}
	if r.heirs {
		s.Heirs = readHeirs(r)
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *State) readRegion(r *reader) Region {
	region := Region{
		ID: r.region(), State: RegionState(r.number(uint64(Removed))), Name: r.text(maxNameBytes), Address: r.text(maxAddressBytes),
		Awaiting: r.set(), AckedAt: r.number(s.Epoch),
	}
	for range r.count(topology.MaxEpoch, 8) {
		a := s.readActor(r)
		if n := len(region.Actors); n > 0 && region.Actors[n-1].Epoch >= a.Epoch {
			r.fail("epochs are not in order")
		}
		region.Actors = append(region.Actors, a)
	}
	if region.ID == 0 || region.State == 0 || region.Name == "" || len(region.Actors) == 0 {
		r.fail("a region has no id, state, name or actor")
	}
	return region
}

func (s *State) readActor(r *reader) Actor {
	a := Actor{
		Epoch: r.epoch(), State: ActorState(r.number(uint64(ActorClosed))), Graceful: r.flag(), Released: r.flag(),
		Round: r.number(s.Epoch), Drained: r.set(), Cut: r.vector(),
	}
	for range r.count(topology.MaxRegionID, 2) {
		report := Report{Member: r.region(), Vector: r.vector()}
		if n := len(a.Reports); n > 0 && a.Reports[n-1].Member >= report.Member {
			r.fail("reports are not in order")
		}
		if len(report.Vector) != int(s.Partitions) {
			r.fail("a report has %d partitions", len(report.Vector))
		}
		a.Reports = append(a.Reports, report)
	}
	closed := a.State == ActorClosed
	if a.State == 0 || closed != (len(a.Cut) > 0) || closed && (len(a.Cut) != int(s.Partitions) || len(a.Reports) > 0) || a.Released && !closed {
		r.fail("an actor's state and its cut do not fit together")
	}
	return a
}
