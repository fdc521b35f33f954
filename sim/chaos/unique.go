package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
)

const (
	uniqueKey = "unique/key/"
	uniqueSet = "unique/set/"
	// uniqueSets are the sets to which one of uniqueAdds writes adds its name; the others put a key of that name.
	uniqueSets = 8
	uniqueAdds = 4
	// One of uniqueDeletes deletes a key of before, where the load does so at all.
	uniqueDeletes = 9
	// uniqueEvery is how often a client of a load begins a write, and uniquePatience how long it waits for an answer.
	uniqueEvery    = 20 * time.Millisecond
	uniquePatience = 3 * time.Second
)

// load is clients that write what nobody else writes: each write has a name of its own, which is found wherever the
// write is. So it can be told of every single one in which regions it is. The fields are set before start.
type load struct {
	client *client.Client
	// region and series begin the names.
	region, series string
	// deletes has it delete some of what it wrote, too.
	deletes bool
	options []client.WriteOption

	end  context.CancelFunc
	done errgroup.Group

	mu struct {
		sync.Mutex
		tally
	}
}

// tally is what became of the writes of a load, by name.
type tally struct {
	// acked are those that were acknowledged, perhaps those of unknown outcome.
	acked, perhaps map[string]bool
	// deleted are those of acked whose deletion was acknowledged, unsure those where that is unknown.
	deleted, unsure map[string]bool
	// refused were not done, fenced are those of them that were because the region may not write.
	refused, fenced int
	lastRefusal     error
	// took is how long each of acked took.
	took []time.Duration
}

func newTally() tally {
	return tally{acked: map[string]bool{}, perhaps: map[string]bool{}, deleted: map[string]bool{}, unsure: map[string]bool{}}
}

// start begins to write with so many clients. finish ends that.
func (l *load) start(ctx context.Context, clients int) {
	loop, end := context.WithCancel(ctx)
	l.end = end
	l.mu.tally = newTally()
	for i := range clients {
		l.done.Go(func() error {
			l.write(ctx, loop, fmt.Sprintf("%s/%s/%d/", l.region, l.series, i))
			return nil
		})
	}
}

// finish lets every write under way come to its end, begins no more, and returns what became of all.
func (l *load) finish() tally {
	l.end()
	_ = l.done.Wait() // clients return no errors
	return l.mu.tally
}

// so counts what there is so far: acknowledged, and refused because the region may not write.
func (l *load) so() (acked, fenced int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.acked), l.mu.fenced
}

// write does one write after the other until loop is done, each in ctx.
func (l *load) write(ctx, loop context.Context, prefix string) {
	tick := time.NewTicker(uniqueEvery)
	defer tick.Stop()
	var keys []string // that were acknowledged, and not deleted
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-loop.Done():
		}
		if loop.Err() != nil {
			return
		}
		if l.deletes && n%uniqueDeletes == 0 && len(keys) > 0 {
			l.delete(ctx, keys[0])
			keys = keys[1:]
			continue
		}
		name := prefix + strconv.Itoa(n)
		if l.add(ctx, n, name) && n%uniqueAdds != 0 {
			keys = append(keys, name)
		}
	}
}

// add does the nth write and reports whether it was acknowledged.
func (l *load) add(ctx context.Context, n int, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, uniquePatience)
	defer cancel()
	began := time.Now()
	var err error
	if n%uniqueAdds == 0 {
		set := uniqueSet + strconv.Itoa(n/uniqueAdds%uniqueSets)
		_, err = l.client.Set(set).Add(ctx, [][]byte{[]byte(name)}, l.options...)
	} else {
		_, err = l.client.Put(ctx, uniqueKey+name, []byte(name), l.options...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.added(name, time.Since(began), err)
}

func (l *load) delete(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, uniquePatience)
	defer cancel()
	_, err := l.client.Delete(ctx, uniqueKey+name)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.removed(name, err)
}

func isUnknown(err error) bool {
	return errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrInternal)
}

func (t *tally) added(name string, took time.Duration, err error) bool {
	switch {
	case err == nil:
		t.acked[name] = true
		t.took = append(t.took, took)
	case isUnknown(err):
		t.perhaps[name] = true
	default:
		t.refuse(err)
	}
	return err == nil
}

func (t *tally) removed(name string, err error) {
	switch {
	case err == nil:
		t.deleted[name] = true
	case isUnknown(err):
		t.unsure[name] = true
	default:
		t.refuse(err)
	}
}

func (t *tally) refuse(err error) {
	t.refused++
	t.lastRefusal = err
	if errors.Is(err, client.ErrFenced) {
		t.fenced++
	}
}

func (t *tally) String() string {
	took := slices.Sorted(slices.Values(t.took))
	return fmt.Sprintf("%d acknowledged (p50 %s, p99 %s), %d unknown, %d not done", len(t.acked), ms(quantile(took, 0.5)), ms(quantile(took, 0.99)),
		len(t.perhaps), t.refused)
}

// expect adds to what a region that has all of the load must have, and may have.
func (t *tally) expect(m members) {
	for name := range t.acked {
		if !t.deleted[name] {
			m[name] = !t.unsure[name]
		}
	}
	for name := range t.perhaps {
		m[name] = false
	}
}

// namesIn returns the names of all writes of all loads that a region has.
func namesIn(ctx context.Context, c *client.Client) (map[string]bool, error) {
	found := map[string]bool{}
	for entry, err := range c.Scan(ctx, client.ScanOptions{Prefix: uniqueKey}) {
		if err != nil {
			return nil, err
		}
		if entry.Key != uniqueKey+string(entry.Bytes) {
			return nil, fmt.Errorf("%s is %q, which nobody wrote", entry.Key, entry.Bytes)
		}
		found[string(entry.Bytes)] = true
	}
	for i := range uniqueSets {
		for element, err := range c.Set(uniqueSet + strconv.Itoa(i)).Members(ctx) {
			if err != nil {
				return nil, err
			}
			found[string(element)] = true
		}
	}
	return found, nil
}
