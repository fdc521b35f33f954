package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/bench/figures"
)

// members is how many server processes each system has.
const members = 3

const (
	startPatience = time.Minute
	// restTime lets a system finish what is under way before it is frozen.
	restTime = 300 * time.Millisecond
	// settled is for how long writes have to succeed before a system counts as awake.
	settled    = 500 * time.Millisecond
	probeKeys  = 64
	probeEvery = 100 * time.Millisecond
	// probeWithin bounds one write of a probe.
	probeWithin = 2 * time.Second
	loaders     = 256
)

// system is how one product is started and talked to.
type system interface {
	// start starts its servers, in a directory of their own.
	start(ctx context.Context, s *settings, dir string) ([]*server, error)
	// dial connects as the contender's users do, for that many clients.
	dial(ctx context.Context, s *settings, contender string, clients int) (driver, error)
	// verify checks, once writes succeed, that what is acknowledged is as durable as it has to be.
	verify(ctx context.Context) error
	// tidy does between rounds what an operator has done regularly.
	tidy(ctx context.Context) error
	// profiles returns where the servers' CPU profiles can be had, if they were started with them.
	profiles() []string
}

// driver is a connected client. Its calls are safe for concurrent use; worker says which of the clients
// makes the call.
type driver interface {
	put(ctx context.Context, worker int, key string, value []byte) error
	// get reads; linearizable or, if eventual, from any replica.
	get(ctx context.Context, worker int, key string, eventual bool) ([]byte, error)
	// load writes many keys at once, by whatever is quickest.
	load(ctx context.Context, keys []string, values [][]byte) error
	close() error
}

// cluster is a running system.
type cluster struct {
	system
	name    string
	servers []*server
	spaces  map[int]*keySpace // by value size; loaded when there
	paused  bool
}

// startCluster starts a system and waits until it is awake.
func startCluster(ctx context.Context, s *settings, name string, sys system, dir string) (*cluster, error) {
	c := &cluster{system: sys, name: name, spaces: map[int]*keySpace{}}
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if c.servers, err = sys.start(ctx, s, dir); err != nil {
		c.stop()
		return nil, err
	}
	if err := c.awake(ctx, s); err != nil {
		c.stop()
		return nil, err
	}
	if err := c.verify(ctx); err != nil {
		c.stop()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// awake waits until writes succeed, for a while and all over the key space.
func (c *cluster) awake(ctx context.Context, s *settings) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var since time.Time
	return until(ctx, probeEvery, func(ctx context.Context) error {
		if err := c.running(); err != nil {
			cancel() // no use in waiting
			return err
		}
		if err := c.probe(ctx, s); err != nil {
			since = time.Time{}
			return fmt.Errorf("%s does not take writes: %w%s", c.name, err, tail(c.servers[0].log))
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < settled {
			return fmt.Errorf("%s is not settled", c.name)
		}
		return nil
	})
}

func (c *cluster) probe(ctx context.Context, s *settings) error {
	d, err := c.dial(ctx, s, c.name, 1)
	if err != nil {
		return err
	}
	defer d.close()
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for i := range probeKeys {
		group.Go(func() error { return d.put(ctx, 0, fmt.Sprintf("probe/%d", i), []byte("awake?")) })
	}
	return group.Wait()
}

// rest freezes the servers; wake lets them go on.
func (c *cluster) rest(ctx context.Context) error {
	if c.paused {
		return nil
	}
	if err := sleep(ctx, restTime); err != nil {
		return err
	}
	c.paused = true
	for _, s := range c.servers {
		if err := errors.Join(s.running(), s.pause()); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) wake(ctx context.Context, s *settings) error {
	if !c.paused {
		return nil
	}
	c.paused = false
	for _, s := range c.servers {
		if err := s.resume(); err != nil {
			return err
		}
	}
	return c.awake(ctx, s)
}

// space returns the keys for values of a size, and writes each of them once when they are first asked for.
func (c *cluster) space(ctx context.Context, s *settings, bytes int) (*keySpace, error) {
	if k := c.spaces[bytes]; k != nil {
		return k, nil
	}
	d, err := c.dial(ctx, s, c.name, loaders)
	if err != nil {
		return nil, err
	}
	defer d.close()
	k := newKeySpace(s.keys, bytes)
	if err := fill(ctx, d, k); err != nil {
		return nil, err
	}
	c.spaces[bytes] = k
	return k, nil
}

// running returns an error if a server has ended.
func (c *cluster) running() error {
	for _, s := range c.servers {
		if err := s.running(); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the servers, all at once.
func (c *cluster) stop() {
	var group errgroup.Group
	for _, s := range c.servers {
		group.Go(func() error { s.stop(); return nil })
	}
	_ = group.Wait() // stop returns no error
}

func (c *cluster) pids() []int {
	var pids []int
	for _, s := range c.servers {
		pids = append(pids, s.pid())
	}
	return pids
}

// systemOf returns the system that a contender is a client of.
func systemOf(contender string) string {
	if figures.Ours(contender) {
		return figures.Atoll
	}
	return contender
}
