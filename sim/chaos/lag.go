package main

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
)

const (
	lagKey        = "probe/lag/"
	lagWriteEvery = 100 * time.Millisecond
	lagReadEvery  = 10 * time.Millisecond
)

// lagWatch measures how long a write of one region takes to be seen in the others. All regions here
// have the same clock, so that the written time can be compared with the time of reading.
type lagWatch struct {
	origin string
	stop   context.CancelFunc
	done   errgroup.Group

	mu struct {
		sync.Mutex
		seen map[string][]time.Duration // by region
	}
}

func startLagWatch(ctx context.Context, d *deployment, origin string) *lagWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &lagWatch{origin: origin, stop: cancel}
	w.mu.seen = map[string][]time.Duration{}
	w.done.Go(func() error {
		return until(ctx, lagWriteEvery, func(ctx context.Context) (bool, error) {
			// A write that fails leaves nothing to see.
			_, _ = d.clients[origin].Put(ctx, lagKey+origin, strconv.AppendInt(nil, time.Now().UnixNano(), 10))
			return false, nil
		})
	})
	for _, r := range d.regions {
		if r != origin {
			w.done.Go(func() error { return w.read(ctx, r, d.clients[r]) })
		}
	}
	return w
}

// read looks for values not seen before.
func (w *lagWatch) read(ctx context.Context, region string, c *client.Client) error {
	var last int64
	return until(ctx, lagReadEvery, func(ctx context.Context) (bool, error) {
		value, err := c.Get(ctx, lagKey+w.origin, client.Eventual())
		if err != nil {
			return false, nil // not there yet, or nobody to ask
		}
		written, err := strconv.ParseInt(string(value.Bytes), 10, 64)
		if err != nil || written <= last {
			return false, err
		}
		last = written
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.seen[region] = append(w.mu.seen[region], time.Since(time.Unix(0, written)))
		return false, nil
	})
}

// finish ends the measurement, puts its figures into the table, and returns all of them in order.
func (w *lagWatch) finish(out *report) []time.Duration {
	w.stop()
	_ = w.done.Wait() // every loop ends because it was stopped
	var all []time.Duration
	for _, r := range names(w.mu.seen) {
		seen := w.mu.seen[r]
		slices.Sort(seen)
		out.figure("visible lag from "+w.origin+" to "+r, "p50 %s, p99 %s, max %s (%d values)",
			ms(quantile(seen, 0.5)), ms(quantile(seen, 0.99)), ms(quantile(seen, 1)), len(seen))
		all = append(all, seen...)
	}
	slices.Sort(all)
	return all
}
