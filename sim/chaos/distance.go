package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/wan"
)

const (
	// lagBeyondDelay is how much longer than a packet's way a write may take until it is seen elsewhere, in 99
	// of 100 cases.
	lagBeyondDelay = 250 * time.Millisecond
	ingestPrefix   = "probe/ingest/"
	ingestKeys     = 20_000
	ingestBytes    = 256
	// keepsUp is what part of the time in which they were written other regions may take longer to get writes.
	keepsUp = 0.1
)

// addNet has each region run in a network namespace of its own.
func (d *deployment) addNet(ctx context.Context) error {
	var err error
	d.net, err = wan.NewNet(ctx, wan.NetConfig{
		Sites: len(d.regions), Delay: d.settings.delay, Loss: d.settings.loss, Seed: d.settings.seed, Clock: time.Now,
	})
	if err != nil {
		return err
	}
	d.cleanups = append(d.cleanups, d.net.Close)
	moved := map[string]string{} // node's name to its address
	for i, region := range d.regions {
		for k, m := range d.of(region) {
			m.namespace = d.net.Namespace(i + 1)
			moved[m.name] = d.net.Addr(i+1, k+1)
		}
	}
	for _, m := range d.members {
		for _, r := range m.config.GetCluster().GetRegions() {
			for _, n := range r.GetNodes() {
				for _, field := range []*string{&n.Api, &n.Raft, &n.Nats, &n.NatsCluster} {
					_, port, err := net.SplitHostPort(*field)
					if err != nil {
						return err
					}
					*field = net.JoinHostPort(moved[n.GetName()], port)
				}
				if n.GetName() == m.name {
					m.api = n.GetApi()
				}
			}
		}
	}
	return d.connect()
}

// connect makes clients of where the members are.
func (d *deployment) connect() error {
	for _, region := range d.regions {
		var endpoints []string
		for _, m := range d.of(region) {
			endpoints = append(endpoints, "http://"+m.api)
		}
		c, err := client.New(endpoints)
		if err != nil {
			return err
		}
		if old := d.clients[region]; old != nil {
			old.Close()
		}
		d.clients[region] = c
	}
	return nil
}

// distance measures the lag between regions that are far apart.
func (s *stage) distance(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := pause(ctx, togetherTime); err != nil {
		return err
	}
	var watches []*lagWatch
	for _, r := range s.deployment.regions {
		watches = append(watches, startLagWatch(ctx, s.deployment, r))
	}
	if err := pause(ctx, s.settings.duration); err != nil {
		return err
	}
	var seen []time.Duration
	for _, w := range watches {
		seen = append(seen, w.finish(s.out)...)
	}
	slices.Sort(seen)
	p99, bound := quantile(seen, 0.99), s.settings.delay+lagBeyondDelay
	s.out.figure("visible lag of all", "p50 %s, p99 %s, max %s (%d values)", ms(quantile(seen, 0.5)), ms(p99), ms(quantile(seen, 1)), len(seen))
	var err error
	if p99 > bound || len(seen) == 0 {
		err = fmt.Errorf("p99 of %d values is %s", len(seen), ms(p99))
	}
	if first := quantile(seen, 0); err == nil && first < s.settings.delay {
		err = fmt.Errorf("one was seen after %s: the regions are not apart", ms(first))
	}
	s.out.check(fmt.Sprintf("99 of 100 writes are seen elsewhere within %v", bound), err)
	if err := s.ingest(ctx); err != nil {
		return err
	}
	passed, lost := s.deployment.net.Packets()
	s.out.figure("packets between regions", "%d, %d of them lost", passed+lost, lost)
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.end(ctx)
}

// ingest writes as much as one region takes, and looks how long the others take to have it.
func (s *stage) ingest(ctx context.Context) error {
	origin := s.deployment.regions[0]
	var written atomic.Int64
	value := make([]byte, ingestBytes)
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	for range s.settings.clients {
		group.Go(func() error {
			for groupCtx.Err() == nil && time.Since(began) < s.settings.duration/2 {
				key := ingestPrefix + strconv.FormatInt(written.Add(1)%ingestKeys, 10)
				if _, err := s.deployment.clients[origin].Put(groupCtx, key, value); err != nil {
					return fmt.Errorf("write as fast as possible: %w", err)
				}
			}
			return groupCtx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	took := time.Since(began)
	begin := time.Now()
	last := ingestPrefix + "last"
	if _, err := s.deployment.clients[origin].Put(ctx, last, value); err != nil {
		return err
	}
	target, err := s.vectorsOf(ctx, origin)
	if err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, convergeWithin)
	defer cancel()
	for _, r := range s.deployment.regions[1:] {
		err := until(patience, lagReadEvery*5, func(ctx context.Context) (bool, error) {
			have, err := s.vectorsOf(ctx, r)
			return err == nil && covers(have, target, origin), nil
		})
		if err != nil {
			return fmt.Errorf("%s does not catch up: %w", r, err)
		}
	}
	behind := time.Since(begin)
	s.out.figure("ingest into "+origin, "%d writes of %d bytes in %.1f s: %.0f/s; all elsewhere %s later",
		written.Load(), ingestBytes, took.Seconds(), float64(written.Load())/took.Seconds(), ms(behind))
	if limit := time.Duration(keepsUp*float64(took)) + s.settings.delay + lagBeyondDelay; behind > limit {
		err = fmt.Errorf("it took %s longer, more than %s", ms(behind), ms(limit))
	}
	s.out.check("other regions keep up with what one takes", err)
	return nil
}

// vectorsOf returns how far a region has got with the events of each region, by partition.
func (s *stage) vectorsOf(ctx context.Context, region string) ([]map[string]uint64, error) {
	status, err := s.deployment.clients[region].Status(ctx)
	if err != nil {
		return nil, err
	}
	vectors := make([]map[string]uint64, s.deployment.partitions)
	for i, p := range status.GetPartitions() {
		vectors[i] = map[string]uint64{}
		for _, e := range p.GetVector() {
			vectors[i][e.GetRegion()] += e.GetSeq()
		}
	}
	return vectors, nil
}

// covers reports whether have is as far as target with a region's events.
func covers(have, target []map[string]uint64, region string) bool {
	for i := range target {
		if have[i][region] < target[i][region] {
			return false
		}
	}
	return true
}
