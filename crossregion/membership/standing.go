package membership

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/topology"
)

// Led is what a region's leader of a partition tells of it.
type Led struct {
	Partition topology.PartitionID
	// Taken is the membership epoch of the partition's facts, as of which Applied was read, or later.
	Taken   uint64
	Applied []crdt.Dot
}

// Standing is what all partitions of a region have, as of one membership or later ones. It is never changed once it is
// made.
type Standing struct {
	Of  topology.RegionID
	Led map[topology.PartitionID]Led
}

// Taken is the least membership epoch that the partitions have taken in.
func (st *Standing) Taken() uint64 {
	least := ^uint64(0)
	for _, l := range st.Led {
		least = min(least, l.Taken)
	}
	return least
}

// Applied returns how far each of so many partitions has applied an actor's events.
func (st *Standing) Applied(a crdt.Actor) []uint64 {
	vector := make([]uint64, len(st.Led))
	for p, l := range st.Led {
		for _, d := range l.Applied {
			if d.Actor == a {
				vector[p] = d.Seq
			}
		}
	}
	return vector
}

// Local returns what a member knows of its own partitions, if this is of all of them.
func (st *Standing) Local() Local { return Local{Taken: st.Taken(), Applied: st.Applied} }

// Suits reports whether a region that joins has all that it needs once it has what this one had: that one takes writes, and
// had taken in, when it told, that everybody waits for the one that joins.
func (st *Standing) Suits(s *State, joins topology.RegionID) bool {
	return s.MayCopy(joins) == nil && len(st.Led) == int(s.Partitions) && st.Taken() >= s.Region(joins).AckedAt &&
		s.Writing().Has(st.Of)
}

// Reached reports whether another region, all of whose partitions are told of, has everything that this one had.
func (st *Standing) Reached(by *Standing) bool {
	for p, want := range st.Led {
		have := map[crdt.Actor]uint64{}
		for _, d := range by.Led[p].Applied {
			have[d.Actor] = d.Seq
		}
		for _, d := range want.Applied {
			if have[d.Actor] < d.Seq {
				return false
			}
		}
	}
	return true
}

// TakesPart reports whether a region exchanges anything with others under an epoch. One that joins does so only once all the
// others wait for it: until then they may have removed what it would need to know of.
func (s *State) TakesPart(id topology.RegionID, e topology.Epoch) bool {
	return s.Living().Has(id) && s.Region(id).Actor().Epoch == e && !s.Awaited(id)
}

// Peer returns the epoch under which there is something to exchange with a region: one that takes part, or that was given up
// and that others may still lack something of. Otherwise it returns false.
func (s *State) Peer(id topology.RegionID) (topology.Epoch, bool) {
	r := s.Region(id)
	if r == nil || r.Actor().Released {
		return 0, false
	}
	return r.Actor().Epoch, true
}

// GivenUp reports whether a region takes no part any more: what it sends is refused.
func (s *State) GivenUp(id topology.RegionID) bool { return s.Founded() && !s.Living().Has(id) }
