package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/atolldb/atoll/client"
)

// What the writes in the scenario wipe wait for begins their names' series.
const (
	reachedSeries = "reached" // one other region
	plainSeries   = "plain"   // their own region
)

// aloneBefore is how long a region is cut off before it is destroyed: what it acknowledges then is lost.
const aloneBefore = 300 * time.Millisecond

// wipeRun destroys a region, with all that it has on disk.
type wipeRun struct {
	*stage
	// origin is destroyed; near hears it, and far hears it by way of near only.
	origin, near, far string
	// reached are the loads whose writes wait for one other region, by region; plain is another one of origin.
	reached map[string]*load
	plain   *load
}

// wipe plays the scenario of the same name.
func (s *stage) wipe(ctx context.Context) error {
	order := s.random.Perm(3)
	at := func(i int) string { return s.deployment.regions[order[i]] }
	r := &wipeRun{stage: s, origin: at(0), near: at(1), far: at(2), reached: map[string]*load{}}
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	if err := s.founded(ctx); err != nil {
		return err
	}
	s.deployment.cutBetween(r.origin, r.far)
	for _, region := range s.deployment.regions {
		l := &load{
			client: s.deployment.clients[region], region: region, series: reachedSeries, deletes: region != r.origin,
			options: []client.WriteOption{client.WithRegions(1)},
		}
		l.start(ctx, s.settings.clients)
		defer l.finish()
		r.reached[region] = l
	}
	r.plain = &load{client: s.deployment.clients[r.origin], region: r.origin, series: plainSeries}
	r.plain.start(ctx, s.settings.clients)
	defer r.plain.finish()
	s.out.note("all regions are written to; %s hears %s by way of %s only", r.far, r.origin, r.near)
	if err := pause(ctx, s.settings.duration); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{r.destroy, r.giveUp, r.judge} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.reportUse(ctx)
}

// destroy cuts origin off, ends all its processes at once, and deletes what they have stored.
func (r *wipeRun) destroy(ctx context.Context) error {
	r.deployment.cutBetween(r.origin, r.near)
	if err := pause(ctx, aloneBefore); err != nil {
		return err
	}
	members := r.deployment.of(r.origin)
	if err := signalAll(members, syscall.SIGKILL); err != nil {
		return err
	}
	for _, m := range members {
		m.crash()
		if err := os.RemoveAll(m.config.GetDataDir()); err != nil {
			return err
		}
	}
	r.out.note("the %d nodes of %s are killed and what they had stored is deleted", len(members), r.origin)
	return pause(ctx, togetherTime)
}

// giveUp has origin given up, and looks what the others have of it when it is closed.
func (r *wipeRun) giveUp(ctx context.Context) error {
	asked := time.Now()
	if err := r.fence(ctx, r.origin, r.near); err != nil {
		return err
	}
	for _, region := range []string{r.near, r.far} {
		if _, err := r.awaitStatus(ctx, region, closedWithin, r.origin+" is closed", regionIs(r.origin, stateClosed)); err != nil {
			return err
		}
	}
	r.out.figure(r.origin+" is closed", "%s after that was asked for", ms(time.Since(asked)))
	reached, plain := r.reached[r.origin].finish(), r.plain.finish()
	var left []map[string]bool
	for _, region := range []string{r.near, r.far} {
		found, err := namesIn(ctx, r.deployment.clients[region])
		if err != nil {
			return fmt.Errorf("what %s has: %w", region, err)
		}
		left = append(left, found)
		r.out.check(fmt.Sprintf("%s has all %d writes of %s that were acknowledged with regions=1", region, len(reached.acked), r.origin),
			lacking(region, found, reached.acked))
	}
	_, lost := split(plain.acked, left[0])
	r.out.figure("writes of "+r.origin+" with regions=1", "%v", &reached)
	r.out.figure("writes of "+r.origin+" without", "%v; %d of them lost", &plain, lost)
	if lost == 0 || len(reached.acked) == 0 {
		r.out.check("something was lost that had not been waited for", errors.New("the region was destroyed when it had nothing for itself"))
	}
	r.out.check("both regions have the same of it", errors.Join(
		lacking(r.near, left[0], ofRegion(left[1], r.origin)), lacking(r.far, left[1], ofRegion(left[0], r.origin))))
	return nil
}

// lacking returns an error if a region lacks any of what it must have.
func lacking(region string, found, must map[string]bool) error {
	var f faults
	for _, name := range names(must) {
		if !found[name] {
			f.add("%s lacks %q", region, name)
		}
	}
	return f.err()
}

// judge has origin come back with nothing, ends the load, and looks what is where.
func (r *wipeRun) judge(ctx context.Context) error {
	r.deployment.heal()
	if err := r.startEmpty(ctx, r.origin, r.near); err != nil {
		return err
	}
	want := members{}
	for _, region := range names(r.reached) {
		t := r.reached[region].finish()
		t.expect(want)
		if region != r.origin {
			r.out.figure("writes of "+region+" with regions=1", "%v", &t)
		}
	}
	plain := r.plain.finish()
	want = want.with(nil, slices.Concat(names(plain.acked), names(plain.perhaps)))
	took, err := r.converge(ctx, convergeWithin)
	r.out.check("all regions have equal vectors and digests", err)
	if err == nil {
		r.out.figure("regions equal after the last write", "%s", ms(took))
	}
	for _, region := range r.deployment.regions {
		found, err := namesIn(ctx, r.deployment.clients[region])
		if err != nil {
			return fmt.Errorf("what %s has: %w", region, err)
		}
		r.out.check(region+" has what it must have, and nothing that nobody wrote", compareNames(region, found, want))
	}
	return nil
}
