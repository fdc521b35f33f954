package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// What Status calls the states of regions that scenarios wait for.
const (
	stateActive = "ACTIVE"
	stateFenced = "FENCED"
	stateClosed = "CLOSED"
)

const statusEvery = 100 * time.Millisecond

// regionIs returns a condition on the membership: that a region is in a state.
func regionIs(region, state string) func(*atollv1.StatusResponse) bool {
	return func(s *atollv1.StatusResponse) bool {
		m := memberIn(s, region)
		return m != nil && m.GetState() == state
	}
}

// memberIn returns what the membership says of a region; nil if nothing.
func memberIn(s *atollv1.StatusResponse, region string) *atollv1.Member {
	members := s.GetMembership().GetMembers()
	if i := slices.IndexFunc(members, func(m *atollv1.Member) bool { return m.GetRegion() == region }); i >= 0 {
		return members[i]
	}
	return nil
}

// awaitStatus waits until a region's status fulfils a condition, and returns how long that took.
func (s *stage) awaitStatus(ctx context.Context, region string, within time.Duration, what string, holds func(*atollv1.StatusResponse) bool) (time.Duration, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	last := "it does not answer"
	err := until(ctx, statusEvery, func(ctx context.Context) (bool, error) {
		status, err := s.deployment.clients[region].Status(ctx)
		if err != nil {
			return false, nil // it may be just starting
		}
		last = fmt.Sprint(status.GetMembership())
		return holds(status), nil
	})
	if err != nil {
		return 0, fmt.Errorf("%s does not say within %v that %s; the last it said: %s", region, within, what, last)
	}
	return time.Since(begin), nil
}

// refusedIn returns how many messages about partitions a region's nodes have refused since they started because of who
// sent them: what carries writes is among these, signs of life are not.
func (s *stage) refusedIn(ctx context.Context, region string) (uint64, error) {
	var total uint64
	for _, m := range s.deployment.of(region) {
		node := m.direct()
		status, err := node.regions.Status(ctx, &atollv1.StatusRequest{})
		node.close()
		if err != nil {
			return 0, fmt.Errorf("status of %s: %w", m.name, err)
		}
		total += refusals(status)
	}
	return total, nil
}

func refusals(s *atollv1.StatusResponse) uint64 {
	var total uint64
	for _, r := range s.GetRefused() {
		if r.Partition != nil && slices.Contains([]string{"given-up", "other-actor", "old-epoch"}, r.GetReason()) {
			total += r.GetCount()
		}
	}
	return total
}

// rest waits until a region's vector does not change any more, and returns by partition how far it has got with the
// events of another.
func (s *stage) rest(ctx context.Context, region, of string) ([]uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	var at []uint64
	since := time.Now()
	err := until(ctx, statusEvery, func(ctx context.Context) (bool, error) {
		vectors, err := s.vectorsOf(ctx, region)
		if err != nil {
			return false, err
		}
		var now []uint64
		for _, v := range vectors {
			now = append(now, v[of])
		}
		if !slices.Equal(at, now) {
			at, since = now, time.Now()
		}
		return time.Since(since) >= restTime, nil
	})
	if err != nil {
		return nil, fmt.Errorf("what %s has of %s: %w", region, of, err)
	}
	return at, nil
}

const (
	// restTime is for how long nothing must arrive for all to be there that is on its way.
	restTime     = time.Second
	restPatience = 20 * time.Second
)

// beyond returns how much further one is than all others, in total.
func beyond(one []uint64, others [][]uint64) uint64 {
	var total uint64
	for p, n := range one {
		most := uint64(0)
		for _, o := range others {
			most = max(most, o[p])
		}
		total += n - min(n, most)
	}
	return total
}
