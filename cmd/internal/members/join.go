package members

import (
	"context"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// kindStanding asks another region's voter what its partitions have. The answer is that of kindShare, or empty if it
// is not known now.
const kindStanding = 62

// standing is what all partitions of a region have, as of one membership or later ones.
type standing struct {
	of  topology.RegionID
	led map[topology.PartitionID]Led
}

// taken is the least membership epoch that the partitions have taken in.
func (st *standing) taken() uint64 {
	least := ^uint64(0)
	for _, l := range st.led {
		least = min(least, l.Taken)
	}
	return least
}

// reached reports whether another region's partitions have everything that these had.
func (st *standing) reached(led map[topology.PartitionID]Led) bool {
	for p, want := range st.led {
		have := map[crdt.Actor]uint64{}
		for _, d := range led[p].Applied {
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

// serveStanding answers another region's voter.
func (s *Share) serveStanding(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) {
	known, _ := s.Current()
	st := s.has.Load()
	if st == nil {
		reply(nil, nil)
		return
	}
	var led []Led
	for _, l := range st.led {
		led = append(led, l)
	}
	reply(encodeLed(known.Epoch, led), nil)
}

// join ends this region's joining once it has all that some region that takes writes had, after everybody waited for
// this one: from then on it gets the rest as every other region does.
func (s *Share) join(ctx context.Context, known *membership.State, led map[topology.PartitionID]Led) {
	self := s.cfg.Region
	if known.MayCopy(self.ID) != nil || known.Region(self.ID).Actor().Epoch != self.Epoch {
		s.goal = nil
		return
	}
	since := known.Region(self.ID).AckedAt
	if s.goal == nil || s.goal.taken() < since || !known.Writing().Has(s.goal.of) {
		s.goal = s.pick(ctx, known, since)
	}
	if s.goal == nil || len(led) < int(s.cfg.Cluster.Partitions) || !s.goal.reached(led) {
		return
	}
	err := s.cfg.Host.Propose(ctx, membership.JoinCommand(self.ID, self.Epoch, s.goal.of, s.goal.taken()))
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("the region has not joined yet", "err", err)
	}
}

// pick returns what one region has that takes writes; nil if none tells.
func (s *Share) pick(ctx context.Context, known *membership.State, since uint64) *standing {
	for id := range known.Writing().All() {
		callCtx, cancel := context.WithTimeout(ctx, takeTime)
		answer, err := s.cfg.Host.layer.Call(callCtx, nodeOf(id), transport.Bulk, kindStanding, nil)
		cancel()
		if err != nil || len(answer) == 0 {
			continue
		}
		_, told, err := decodeLed(answer, s.cfg.Cluster.Partitions)
		if err != nil {
			s.cfg.Logger.Debug("a region does not tell what it has", "peer", id, "err", err)
			continue
		}
		st := &standing{of: id, led: map[topology.PartitionID]Led{}}
		for _, l := range told {
			st.led[l.Partition] = l
		}
		if len(st.led) == int(s.cfg.Cluster.Partitions) && st.taken() >= since {
			return st
		}
	}
	return nil
}
