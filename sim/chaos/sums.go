package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
)

const (
	sumPrefix = "sum/"
	// sumKeys are the counters, of which a tenth get half of the increments.
	sumKeys = 64
	// sumPatience is how long an increment is tried in one region before it is tried in another. One of
	// sumHastyOf gets only sumHasty: most of these are done where they were given up.
	sumPatience = 2 * time.Second
	sumHasty    = 4 * time.Millisecond
	sumHastyOf  = 50
	// sumTries is how often one is tried, everywhere together.
	sumTries = 200
	sumPause = 20 * time.Millisecond
	// sumDown and sumCut are how long a killed node stays down and a region cut off.
	sumDown = 2 * time.Second
	sumCut  = 8 * time.Second
	sumCalm = 2 * time.Second
)

// sumRun increments counters in all regions, each time until somebody says that it is done, while nodes are
// killed and regions cut off. What is tried again, elsewhere, has the same operation id: it counts once.
type sumRun struct {
	*stage
	begun, done, elsewhere atomic.Int64
	sums                   [sumKeys]atomic.Int64
	kills, cuts            int
}

// sumsUp plays the scenario sums.
func (s *stage) sumsUp(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	r := &sumRun{stage: s}
	began := time.Now()
	finished := make(chan struct{})
	var load errgroup.Group
	for i := range s.settings.clients {
		random := rand.New(rand.NewPCG(s.settings.seed, uint64(i+1)))
		load.Go(func() error { return r.increment(ctx, random) })
	}
	var loadErr error
	go func() {
		loadErr = load.Wait()
		close(finished)
	}()
	err := r.harm(ctx, finished)
	<-finished
	if err = errors.Join(err, loadErr); err != nil {
		return err
	}
	took := time.Since(began)
	s.deployment.heal()
	s.out.figure("increments", "%d in %.0f s: %.0f/s; %d were tried in more than one region", r.done.Load(), took.Seconds(), float64(r.done.Load())/took.Seconds(), r.elsewhere.Load())
	s.out.figure("harm", "%d kill -9, %d regions cut off for %v", r.kills, r.cuts, sumCut)
	equal, err := s.converge(ctx, convergeWithin)
	s.out.check("all regions have equal vectors and digests", err)
	if err == nil {
		s.out.figure("regions equal after the last increment", "%s", ms(equal))
	}
	e := newExpectation()
	for i := range r.sums {
		sum := r.sums[i].Load()
		e.counters[sumKey(i)] = bounds{sum, sum}
	}
	s.verifyAll(ctx, "sums are exact", e)
	if r.elsewhere.Load() == 0 || r.kills == 0 || r.cuts == 0 {
		s.out.check("every kind of harm was done", errors.New("give it more increments"))
	}
	return s.reportUse(ctx)
}

func sumKey(i int) string { return fmt.Sprintf("%s%d", sumPrefix, i) }

// increment increments counters until there are as many increments as wanted.
func (r *sumRun) increment(ctx context.Context, random *rand.Rand) error {
	for ctx.Err() == nil {
		n := r.begun.Add(1)
		if n > int64(r.settings.operations) {
			return nil
		}
		key := random.IntN(sumKeys)
		if random.IntN(2) == 0 {
			key %= sumKeys / 10
		}
		by := 1 + random.Int64N(9)
		if err := r.once(ctx, random, fmt.Sprintf("sum-%d-%d", r.settings.seed, n), sumKey(key), by); err != nil {
			return err
		}
		r.sums[key].Add(by)
		r.done.Add(1)
	}
	return ctx.Err()
}

// once does one increment: here or there, but somewhere.
func (r *sumRun) once(ctx context.Context, random *rand.Rand, id, key string, by int64) error {
	region := random.IntN(len(r.deployment.regions))
	patience := sumPatience
	if random.IntN(sumHastyOf) == 0 {
		patience = sumHasty
	}
	var err error
	for try := range sumTries {
		if try == 1 {
			r.elsewhere.Add(1)
		}
		tried, cancel := context.WithTimeout(ctx, patience)
		c := r.deployment.clients[r.deployment.regions[region]]
		_, err = c.Counter(key).Add(tried, by, client.WithOpID(id))
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		patience = sumPatience
		region = (region + 1) % len(r.deployment.regions)
		if try >= len(r.deployment.regions) && pause(ctx, sumPause) != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s was tried %d times: %w", id, sumTries, err)
}

// harm kills nodes and cuts regions off until all is done.
func (r *sumRun) harm(ctx context.Context, finished <-chan struct{}) error {
	for n := 0; ; n++ {
		if over, err := pauseUnless(ctx, finished, sumCalm); over || err != nil {
			return err
		}
		if n%4 == 3 {
			region := r.deployment.regions[r.random.IntN(len(r.deployment.regions))]
			r.deployment.cut(region)
			_, err := pauseUnless(ctx, finished, sumCut)
			r.deployment.heal()
			if err != nil {
				return err
			}
			r.cuts++
			r.out.note("%s was cut off; %d increments are done", region, r.done.Load())
			continue
		}
		m := r.deployment.members[r.random.IntN(len(r.deployment.members))]
		m.crash()
		err := pause(ctx, sumDown)
		if err = errors.Join(err, r.deployment.startAll(ctx, []*member{m})); err != nil {
			return err
		}
		r.kills++
		r.out.note("kill -9 %s; %d increments are done", m.name, r.done.Load())
	}
}
