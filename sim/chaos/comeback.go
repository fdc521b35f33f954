package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/client"
)

// again is what is new of a region that has come back: the end of its data directories' names, and its series of writes.
const again = "again"

// change has the regions changed, and tries again for as long as no majority answers.
func (s *stage) change(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, fenceWithin)
	defer cancel()
	var last error
	err := until(ctx, statusEvery, func(ctx context.Context) (bool, error) {
		last = do(ctx)
		if errors.Is(last, client.ErrRegionRefused) {
			return false, last
		}
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// fence gives a region up, by way of another.
func (s *stage) fence(ctx context.Context, lost, by string) error {
	err := s.change(ctx, func(ctx context.Context) error {
		_, err := s.deployment.clients[by].FenceRegion(ctx, client.RegionChange{Region: lost, Note: "chaos"})
		return err
	})
	if err != nil {
		return fmt.Errorf("fence %s: %w", lost, err)
	}
	return nil
}

// comesBack has it decided, by way of another region, that a closed one may come back, and gives its nodes, and only
// them, the new epoch. It may be repeated.
func (s *stage) comesBack(ctx context.Context, lost, by string) (epoch uint32, err error) {
	err = s.change(ctx, func(ctx context.Context) error {
		plan, err := s.deployment.clients[by].RejoinRegion(ctx, client.RegionChange{Region: lost})
		epoch = plan.GetEpoch()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("rejoin %s: %w", lost, err)
	}
	for _, m := range s.deployment.of(lost) {
		for _, c := range m.config.GetCluster().GetRegions() {
			if c.GetName() == lost {
				c.Epoch, c.Joins = epoch, true
			}
		}
	}
	return epoch, s.deployment.writeConfigs()
}

// startEmpty starts a region that may come back with empty data directories, waits until it takes writes, and says what
// it has then.
func (s *stage) startEmpty(ctx context.Context, lost, by string) error {
	if _, err := s.comesBack(ctx, lost, by); err != nil {
		return err
	}
	d := s.deployment
	for _, m := range d.of(lost) {
		m.config.DataDir += "-" + again
	}
	if err := d.writeConfigs(); err != nil {
		return err
	}
	began := time.Now()
	if err := d.startAll(ctx, d.of(lost)); err != nil {
		return err
	}
	if _, err := s.awaitStatus(ctx, lost, activeWithin, lost+" is active", regionIs(lost, stateActive)); err != nil {
		return err
	}
	s.out.note("%s is back, with nothing of before but what others have", lost)
	s.out.figure(lost+" is active again", "%s after it was started empty", ms(time.Since(began)))
	found, err := namesIn(ctx, d.clients[lost])
	if err != nil {
		return err
	}
	s.out.figure("writes that "+lost+" has then", "%d, %d of them its own of before", len(found), len(ofRegion(found, lost)))
	return nil
}
