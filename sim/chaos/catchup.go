package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	backlogKey   = "backlog/"
	backlogBytes = 256
	// hotBacklog is how many keys are written over and over.
	hotBacklog = 64
	// moderateRate is how many writes a second the region takes that is not written to as fast as it goes.
	moderateRate = 200
	// timesFaster is how many times the rate at which a backlog arose it must be caught up at: one of few keys, or of a
	// moderate rate. One of all keys at full rate must be caught up faster than it arose.
	timesFaster  = 10
	fullFaster   = 1
	catchUpEvery = 5 * time.Millisecond
	backlogRest  = 3 * time.Second
)

// backlog is one way to write while a region is cut off.
type backlog struct {
	name string
	// keys is how many there are; 0 means that no two writes have the same.
	keys int64
	// perSecond is how many writes there are; 0 means as many as are taken.
	perSecond int
	// faster is how many times as fast it must be caught up.
	faster float64
}

func backlogs() []backlog {
	return []backlog{
		{name: fmt.Sprintf("%d writes/s, all keys distinct", moderateRate), perSecond: moderateRate, faster: timesFaster},
		{name: fmt.Sprintf("full rate, %d keys", hotBacklog), keys: hotBacklog, faster: timesFaster},
		{name: "full rate, all keys distinct", faster: fullFaster},
	}
}

// caughtUp is what was measured of one.
type caughtUp struct {
	writes int64
	arose  time.Duration // in this time
	// took is the time from the healing until all was there, of which contact passed until the first of it was.
	took, contact time.Duration
	// outbox is what the origin kept of it, in bytes.
	outbox uint64
}

// times returns how many times as fast as it arose the backlog was caught up.
func (c caughtUp) times() float64 {
	if c.took <= 0 {
		return math.Inf(1)
	}
	return float64(c.arose) / float64(c.took)
}

func (c caughtUp) String() string {
	perSecond := func(d time.Duration) float64 { return float64(c.writes) / max(d, time.Millisecond).Seconds() }
	return fmt.Sprintf("%d writes in %.1f s: %.0f/s, %.1f MiB in the outbox; all there %s after healing, the first after %s: %.0f/s, %.1f times as fast",
		c.writes, c.arose.Seconds(), perSecond(c.arose), float64(c.outbox)/(1<<20), ms(c.took), ms(c.contact), perSecond(c.took), c.times())
}

// catchUp cuts a region off again and again while another is written to, and looks how long it takes afterwards until
// it has all.
func (s *stage) catchUp(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	if err := s.founded(ctx); err != nil {
		return err
	}
	order := s.random.Perm(len(s.deployment.regions))
	origin, behind := s.deployment.regions[order[0]], s.deployment.regions[order[1]]
	s.out.note("%s is written to, and %s cut off meanwhile", origin, behind)
	for i, b := range backlogs() {
		got, err := s.catchUpOnce(ctx, i, b, origin, behind)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		s.out.note("%s: %v", b.name, got)
		s.out.figure(b.name, "%v", got)
		err = nil
		if times := got.times(); times < b.faster {
			err = fmt.Errorf("it was caught up %.1f times as fast", times)
		}
		s.out.check(fmt.Sprintf("%s: the backlog is caught up at least %.0f times as fast as it arose", b.name, b.faster), err)
	}
	_, err := s.converge(ctx, convergeWithin)
	s.out.check("all regions have equal vectors and digests", err)
	return s.reportUse(ctx)
}

// catchUpOnce measures one backlog.
func (s *stage) catchUpOnce(ctx context.Context, number int, b backlog, origin, behind string) (c caughtUp, err error) {
	if _, err := s.converge(ctx, convergeWithin); err != nil {
		return c, err
	}
	before, err := s.vectorsOf(ctx, origin)
	if err != nil {
		return c, err
	}
	s.deployment.cut(behind)
	if c.writes, c.arose, err = s.fill(ctx, number, b, origin); err != nil {
		return c, err
	}
	target, err := s.vectorsOf(ctx, origin)
	if err != nil {
		return c, err
	}
	// Until what origin has to do for itself, and for the third region, is over.
	if err := pause(ctx, backlogRest); err != nil {
		return c, err
	}
	if c.outbox, err = s.outboxOf(ctx, origin); err != nil {
		return c, err
	}
	start, err := s.vectorsOf(ctx, behind)
	if err != nil {
		return c, err
	}
	if got, all := total(start, origin)-total(before, origin), total(target, origin)-total(before, origin); 20*got > all {
		return c, fmt.Errorf("%d of %d events have passed a cut link", got, all)
	}
	healed := time.Now()
	s.deployment.heal()
	patience, cancel := context.WithTimeout(ctx, convergeWithin)
	defer cancel()
	err = until(patience, catchUpEvery, func(ctx context.Context) (bool, error) {
		have, err := s.vectorsOf(ctx, behind)
		if err != nil {
			return false, err
		}
		if c.contact == 0 && total(have, origin) > total(start, origin) {
			c.contact = time.Since(healed)
		}
		return covers(have, target, origin), nil
	})
	c.took = time.Since(healed)
	if err != nil {
		return c, fmt.Errorf("%s does not catch up: %w", behind, err)
	}
	return c, nil
}

// outboxOf returns how many bytes a region keeps for others.
func (s *stage) outboxOf(ctx context.Context, region string) (bytes uint64, err error) {
	status, err := s.deployment.clients[region].Status(ctx)
	for _, p := range status.GetPartitions() {
		bytes += p.GetOutboxBytes()
	}
	return bytes, err
}

// total returns how many events of a region are in vectors.
func total(vectors []map[string]uint64, region string) (n uint64) {
	for _, v := range vectors {
		n += v[region]
	}
	return n
}

// fill writes for as long as the scenario says, and returns how much that was.
func (s *stage) fill(ctx context.Context, number int, b backlog, origin string) (int64, time.Duration, error) {
	var begun, done atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range s.settings.clients {
		random := rand.NewChaCha8([32]byte{byte(number), byte(i)})
		group.Go(func() error {
			value := make([]byte, backlogBytes) // of bytes without a pattern, which cannot be compressed
			for n := begun.Add(1); time.Since(began) < s.settings.duration; n = begun.Add(1) {
				if err := b.await(ctx, began, n); err != nil {
					return err
				}
				_, _ = random.Read(value) // it never fails
				if _, err := s.deployment.clients[origin].Put(ctx, b.key(number, n), value); err != nil {
					return fmt.Errorf("a write to %s: %w", origin, err)
				}
				done.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return done.Load(), time.Since(began), err
}

// await waits until it is time for the nth write.
func (b backlog) await(ctx context.Context, began time.Time, n int64) error {
	if b.perSecond == 0 {
		return ctx.Err()
	}
	return pause(ctx, time.Until(b.due(began, n)))
}

func (b backlog) due(began time.Time, n int64) time.Time {
	return began.Add(time.Duration(n) * time.Second / time.Duration(b.perSecond))
}

// key returns the key of the nth write of a backlog.
func (b backlog) key(number int, n int64) string {
	if b.keys > 0 {
		n %= b.keys
	}
	return fmt.Sprintf("%s%d/%d", backlogKey, number, n)
}
