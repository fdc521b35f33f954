package api

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/region"
	"github.com/atolldb/atoll/topology"
)

// askWatermarksAgain is how often a write that waits for other regions asks them again.
const askWatermarksAgain = 250 * time.Millisecond

// commit runs operations of one partition here, waits for the other regions that they are to reach, and
// returns what to say of who answers.
func (s *Server) commit(
	ctx context.Context, p Partition, id topology.PartitionID, o *atollv1.WriteOptions, ops []replica.Op,
) (region.WriteResult, *atollv1.ReplyInfo, error) {
	token, err := s.beginWrite(p, o)
	if err != nil {
		return region.WriteResult{}, nil, err
	}
	result, err := s.writeAt(ctx, p, o.GetOpId(), ops)
	if err != nil {
		return result, nil, err
	}
	if len(result.Outcomes) != len(ops) {
		return result, nil, fmt.Errorf("%d operations have %d outcomes", len(ops), len(result.Outcomes))
	}
	info, err := s.writtenInfo(p, id, token, ops, &result)
	if err != nil {
		return result, nil, err
	}
	if wanted := int(o.GetRegions()); result.Elsewhere && wanted > 0 {
		if wanted > 1 { // where it was done it is known to be, and the others' watermarks of that region go there
			return result, info, s.short(1, wanted)
		}
		return result, info, nil
	}
	return result, info, s.reach(ctx, p, id, int(o.GetRegions()))
}

// reach waits until as many other regions as wanted have applied all that this one has done in a partition.
// What is waited for is done, and stays so.
func (s *Server) reach(ctx context.Context, p Partition, id topology.PartitionID, wanted int) error {
	if wanted == 0 {
		return nil
	}
	head := p.View().Outbox.Head
	reached, changed, known := s.others.Reached(id, head)
	if known && reached >= wanted {
		return nil
	}
	patience, cancel := s.patienceOf(ctx)
	defer cancel()
	again := time.NewTicker(askWatermarksAgain)
	defer again.Stop()
	s.others.AskWatermarks(id, head)
	for known && reached < wanted {
		select {
		case <-patience.Done():
			return s.short(reached, wanted)
		case <-again.C:
			s.others.AskWatermarks(id, head)
		case <-changed:
		}
		reached, changed, known = s.others.Reached(id, head)
	}
	if !known {
		return s.short(0, wanted) // another node leads now, and knows
	}
	return nil
}

// short is the failure of a write that is done in this region and has not reached as many others as wanted.
func (s *Server) short(reached, wanted int) *failure {
	return fail(reasonOutcomeUnknown, fmt.Sprintf(
		"the write is done in region %s, and known to be in %d of the %d other regions that it was to reach; it goes on to them", s.region.Name, reached, wanted),
		"done_in", s.region.Name, "regions_reached", strconv.Itoa(reached), "regions_wanted", strconv.Itoa(wanted))
}

// checkBeyond checks the options of a write that are about other regions.
func (s *Server) checkBeyond(o *atollv1.WriteOptions) *failure {
	others := 0
	if s.others != nil {
		others = len(s.cluster.Regions) - 1
	}
	if uint64(o.GetRegions()) > uint64(others) {
		return fail(reasonInvalidArgument, fmt.Sprintf("options.regions: there are only %d other regions", others),
			"field", "options.regions", "limit", strconv.Itoa(others))
	}
	if isLocal(o) && (o.GetRegions() > 0 || len(o.GetSession()) > 0 || o.GetWantSession()) {
		return invalid("options.durability", "a write that one node acknowledges has no place in a session yet, and reaches no other region; use DURABILITY_QUORUM")
	}
	return nil
}
