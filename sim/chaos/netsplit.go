package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/client"
)

const (
	// togetherTime is how long the writers run before the netsplit.
	togetherTime = 5 * time.Second
	cutKey       = "probe/cut"
)

// netsplit cuts the last region off from the others while all are written to, heals, and checks.
func (s *stage) netsplit(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := pause(ctx, togetherTime); err != nil {
		return err
	}
	alone := s.deployment.regions[len(s.deployment.regions)-1]
	others := s.deployment.regions[0]
	s.deployment.cut(alone)
	begin := time.Now()
	s.out.note("%s is cut off for %v", alone, s.settings.cut)
	written := map[string]string{} // by region: what it wrote into a key of its own during the cut
	for _, r := range []string{others, alone} {
		written[r] = cutKey + "/" + r
		if _, err := s.deployment.clients[r].Put(ctx, written[r], []byte("written in "+r)); err != nil {
			return fmt.Errorf("write in %s during the netsplit: %w", r, err)
		}
	}
	if err := pause(ctx, s.settings.cut); err != nil {
		return err
	}
	end := time.Now()
	s.out.check("nothing passes a cut link", errors.Join(
		s.absent(ctx, alone, written[others]), s.absent(ctx, others, written[alone])))
	for _, r := range s.deployment.regions {
		gap, _ := s.writers.gap(r, begin, end)
		s.out.figure("longest pause of writes in "+r+" while cut", "%s", ms(gap))
		var err error
		if gap > s.settings.maxUnavailable {
			err = fmt.Errorf("writes paused for %s", ms(gap))
		}
		s.out.check(r+" takes writes during the netsplit", err)
	}
	s.writers.finish()
	s.out.note("the writers have stopped; the links heal")
	s.deployment.heal()
	took, err := s.converge(ctx, convergeWithin)
	s.out.check("all regions have equal vectors and digests", err)
	if err == nil {
		s.out.figure("regions equal after healing", "%s", ms(took))
	}
	e := newExpectation()
	for r, key := range written {
		e.registers[key] = []string{"written in " + r}
	}
	s.verifyAll(ctx, "written during the netsplit", e)
	return s.end(ctx)
}

// absent returns an error if a region has the key.
func (s *stage) absent(ctx context.Context, region, key string) error {
	_, err := s.deployment.clients[region].Get(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("read %s in %s: %w", key, region, err)
	default:
		return fmt.Errorf("%s has reached %s", key, region)
	}
}
