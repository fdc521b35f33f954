package members

import (
	"context"

	"github.com/atolldb/atoll/crossregion/membership"
	"github.com/atolldb/atoll/region/transport"
	"github.com/atolldb/atoll/topology"
)

// kindStanding asks another region's voter what its partitions have. The answer is that of kindShare, or empty if it
// is not known now.
const kindStanding = 62

// serveStanding answers another region's voter.
func (s *Share) serveStanding(_ topology.NodeID, _ uint8, _ []byte, reply func([]byte, error)) {
	known, _ := s.Current()
	st := s.has.Load()
	if st == nil {
		reply(nil, nil)
		return
	}
	var led []membership.Led
	for _, l := range st.Led {
		led = append(led, l)
	}
	reply(encodeLed(known.Epoch, led), nil)
}

// join ends this region's joining once it has all that some region that takes writes had, after everybody waited for
// this one: from then on it gets the rest as every other region does.
func (s *Share) join(ctx context.Context, known *membership.State, led map[topology.PartitionID]membership.Led) {
	self := s.cfg.Region
	if known.MayCopy(self.ID) != nil || known.Region(self.ID).Actor().Epoch != self.Epoch {
		s.goal = nil
		return
	}
	if s.goal == nil || !s.goal.Suits(known, self.ID) {
		s.goal = s.pick(ctx, known)
	}
	if s.goal == nil || len(led) < int(s.cfg.Cluster.Partitions) || !s.goal.Reached(&membership.Standing{Of: self.ID, Led: led}) {
		return
	}
	err := s.cfg.Host.Propose(ctx, membership.JoinCommand(self.ID, self.Epoch, s.goal.Of, s.goal.Taken()))
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("the region has not joined yet", "err", err)
	}
}

// pick returns what one region has that takes writes; nil if none tells.
func (s *Share) pick(ctx context.Context, known *membership.State) *membership.Standing {
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
		st := &membership.Standing{Of: id, Led: map[topology.PartitionID]membership.Led{}}
		for _, l := range told {
			st.Led[l.Partition] = l
		}
		if st.Suits(known, s.cfg.Region.ID) {
			return st
		}
	}
	return nil
}
