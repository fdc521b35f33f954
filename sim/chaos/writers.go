package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/topology"
)

// writeEvery is how often each region begins a write. The writes go round the partitions, and each
// partition has a writer of its own, so that one without a leader does not hold up the others.
const writeEvery = 10 * time.Millisecond

// probeKeys are the keys that the writers of one partition use, all in that partition.
type probeKeys struct {
	counter, set string            // the same in all regions
	register     map[string]string // one for each region
}

// ledger is what one writer knows of its writes.
type ledger struct {
	acks      []time.Time
	latencies []time.Duration
	// added is what was added to the counter; perhaps is what may have been.
	added, perhaps int64
	elements       []string
	elementsMaybe  []string
	register       string // the last value acknowledged
	registerMaybe  []string
	refused        int
	lastRefusal    error
}

// writer writes to one partition of one region.
type writer struct {
	client    *client.Client
	region    string
	partition int
	keys      probeKeys
	count     int

	mu struct {
		sync.Mutex
		ledger
	}
}

// writers are all writers of a run.
type writers struct {
	all  []*writer
	stop context.CancelFunc
	done errgroup.Group
}

// partitionOf returns the partition of a key.
func partitionOf(key string, partitions uint32) int {
	return int(topology.PartitionOf("default", key, partitions))
}

// findKeys returns keys for the writers of each partition.
func findKeys(regions []string, partitions uint32) []probeKeys {
	find := func(kind string, p int) string {
		for i := 0; ; i++ {
			key := fmt.Sprintf("probe/%s/%d", kind, i)
			if partitionOf(key, partitions) == p {
				return key
			}
		}
	}
	keys := make([]probeKeys, partitions)
	for p := range keys {
		keys[p] = probeKeys{counter: find("counter", p), set: find("set", p), register: map[string]string{}}
		for _, r := range regions {
			keys[p].register[r] = find("register-"+r, p)
		}
	}
	return keys
}

// startWriters begins to write in all regions.
func startWriters(ctx context.Context, d *deployment) *writers {
	loop, cancel := context.WithCancel(ctx)
	w := &writers{stop: cancel}
	for p, keys := range findKeys(d.regions, d.partitions) {
		for _, r := range d.regions {
			one := &writer{client: d.clients[r], region: r, partition: p, keys: keys}
			w.all = append(w.all, one)
			w.done.Go(func() error {
				one.run(ctx, loop.Done(), time.Duration(p)*writeEvery, time.Duration(d.partitions)*writeEvery)
				return nil
			})
		}
	}
	return w
}

// finish lets every write under way come to its end, and begins no more.
func (w *writers) finish() {
	w.stop()
	_ = w.done.Wait() // the writers return no errors
}

// run writes once per period until stop is closed. Writes are never given up before the client does.
func (w *writer) run(ctx context.Context, stop <-chan struct{}, offset, period time.Duration) {
	if pause(ctx, offset) != nil {
		return
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.write(ctx)
		case <-stop:
			return
		}
	}
}

// write does one write: the counter, the set and the register take turns.
func (w *writer) write(ctx context.Context) {
	w.count++
	name := fmt.Sprintf("%s-%d", w.region, w.count)
	begin := time.Now()
	var err error
	switch w.count % 3 {
	case 0:
		_, err = w.client.Counter(w.keys.counter).Add(ctx, 1)
	case 1:
		_, err = w.client.Set(w.keys.set).Add(ctx, [][]byte{[]byte(name)})
	case 2:
		_, err = w.client.Put(ctx, w.keys.register[w.region], []byte(name))
	}
	end := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &w.mu.ledger
	switch unknown := errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrInternal); {
	case err == nil:
		l.acks = append(l.acks, end)
		l.latencies = append(l.latencies, end.Sub(begin))
		l.acknowledge(w.count%3, name)
	case unknown:
		l.doubt(w.count%3, name)
	default:
		l.refused++
		l.lastRefusal = err
	}
}

func (l *ledger) acknowledge(kind int, name string) {
	switch kind {
	case 0:
		l.added++
	case 1:
		l.elements = append(l.elements, name)
	case 2:
		l.register = name
	}
}

func (l *ledger) doubt(kind int, name string) {
	switch kind {
	case 0:
		l.perhaps++
	case 1:
		l.elementsMaybe = append(l.elementsMaybe, name)
	case 2:
		l.registerMaybe = append(l.registerMaybe, name)
	}
}

// ledger returns what the writer knows. Call it while the writer runs only for its acks.
func (w *writer) ledger() ledger {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.mu.ledger
	l.acks = slices.Clone(l.acks)
	return l
}

// gap returns the longest time without an acknowledged write in one of the region's partitions from
// begin to end, and the partition.
func (w *writers) gap(region string, begin, end time.Time) (longest time.Duration, partition int) {
	for _, one := range w.all {
		if one.region != region {
			continue
		}
		if g := longestGap(one.ledger().acks, begin, end); g > longest {
			longest, partition = g, one.partition
		}
	}
	return longest, partition
}

// longestGap returns the longest time between two moments that follow each other: begin, those of
// acks that are between begin and end, and end. acks are in order.
func longestGap(acks []time.Time, begin, end time.Time) time.Duration {
	previous, longest := begin, time.Duration(0)
	for _, at := range acks {
		if at.After(begin) && at.Before(end) {
			longest = max(longest, at.Sub(previous))
			previous = at
		}
	}
	return max(longest, end.Sub(previous))
}

// totals adds up all ledgers. Call it after finish.
func (w *writers) totals() (acked, unknown, refused int, latencies []time.Duration, lastRefusal error) {
	for _, one := range w.all {
		l := one.ledger()
		acked += len(l.acks)
		unknown += int(l.perhaps) + len(l.elementsMaybe) + len(l.registerMaybe)
		refused += l.refused
		latencies = append(latencies, l.latencies...)
		if l.lastRefusal != nil {
			lastRefusal = l.lastRefusal
		}
	}
	slices.Sort(latencies)
	return acked, unknown, refused, latencies, lastRefusal
}

// ledgerExpectation turns the ledgers into what every region must hold.
func (w *writers) expectation() *expectation {
	e := newExpectation()
	for _, one := range w.all {
		l := one.ledger()
		c := e.counters[one.keys.counter]
		e.counters[one.keys.counter] = bounds{c.least + l.added, c.most + l.added + l.perhaps}
		e.sets[one.keys.set] = e.sets[one.keys.set].with(l.elements, l.elementsMaybe)
		register := one.keys.register[one.region]
		e.registers[register] = append(slices.Clone(l.registerMaybe), l.register)
		if l.register == "" { // nothing acknowledged: it may be absent
			delete(e.registers, register)
		}
	}
	return e
}

// names returns a map's keys in order.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
