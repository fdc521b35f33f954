package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/bench/figures"
)

const (
	// stragglers is how long operations may go on after the measurement before they count as errors.
	stragglers = 15 * time.Second
	// shards bounds how many histograms there are: one per client would be 180 KiB a client.
	shards = 32
	// afterError keeps a client whose server refuses it at once from doing nothing but that.
	afterError = 10 * time.Millisecond
	// putShare is how many of ten operations of the mix are puts.
	putShare = 2
	// loadTries is how often the first values are written at most: large ones all at once are hard on
	// anything that has just been woken.
	loadTries = 3
	// shownErrors bounds how many errors of a round are printed.
	shownErrors = 3
	// sampled is how many keys are read back after a round of writes.
	sampled = 500
)

// The phases of a round.
const (
	warming int32 = iota
	measuring
	over
)

// load is one round of one contender: closed-loop clients, each of which begins its next operation when
// the last has ended.
type load struct {
	row      figures.Row
	driver   driver
	keys     *keySpace
	weakGets bool // gets of the mix are not linearizable
	phase    atomic.Int32
	shards   [shards]shard
	errs     errorLog
	ops      atomic.Int64
	errors   atomic.Int64
	wrong    atomic.Int64
}

type shard struct {
	sync.Mutex
	histogram *hdrhistogram.Histogram
}

// errorLog keeps the first few errors, and ignores nil.
type errorLog struct {
	sync.Mutex
	first []error
}

func (l *errorLog) add(err error) {
	l.Lock()
	defer l.Unlock()
	if err != nil && len(l.first) < shownErrors {
		l.first = append(l.first, err)
	}
}

func newLoad(row figures.Row, d driver, keys *keySpace) *load {
	l := &load{row: row, driver: d, keys: keys}
	for i := range l.shards {
		l.shards[i].histogram = figures.NewHistogram()
	}
	return l
}

// run warms up, measures, and returns what it measured. during is called in the middle of it, as long
// as the measurement takes.
func (l *load) run(ctx context.Context, s *settings, pids []int, during func(context.Context) error) (figures.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, s.warmup+s.measure+stragglers)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for client := range l.row.Clients {
		group.Go(func() error { return l.client(ctx, client) })
	}
	sample, err := l.measure(ctx, s, pids, during)
	l.phase.Store(over)
	if err != nil {
		cancel()
	}
	if err := errors.Join(err, group.Wait()); err != nil {
		return figures.Sample{}, err
	}
	// Operations that hung until the round's end count too.
	sample.Errors, sample.Wrong = l.errors.Load(), l.wrong.Load()
	return sample, nil
}

func (l *load) measure(ctx context.Context, s *settings, pids []int, during func(context.Context) error) (figures.Sample, error) {
	if err := sleep(ctx, s.warmup); err != nil {
		return figures.Sample{}, err
	}
	before, err := takeReading(pids)
	if err != nil {
		return figures.Sample{}, err
	}
	l.phase.Store(measuring)
	var profiling errgroup.Group
	profiling.Go(func() error { return during(ctx) })
	if err := sleep(ctx, s.measure); err != nil {
		return figures.Sample{}, errors.Join(err, profiling.Wait())
	}
	after, err := takeReading(pids)
	ops := l.ops.Load()
	l.phase.Store(over)
	if err := errors.Join(err, profiling.Wait()); err != nil {
		return figures.Sample{}, err
	}
	sample := after.since(before)
	sample.Row, sample.Ops = l.row, ops
	var parts []*hdrhistogram.Histogram
	for i := range l.shards {
		l.shards[i].Lock()
		parts = append(parts, l.shards[i].histogram)
		defer l.shards[i].Unlock()
	}
	sample.SetLatencies(parts)
	return sample, nil
}

// reading is what clocks and counters say at one moment.
type reading struct {
	at              time.Time
	servers, client usage
	machine         time.Duration
}

func takeReading(pids []int) (reading, error) {
	r := reading{at: time.Now()}
	var errs [3]error
	r.servers, errs[0] = usageOf(pids...)
	r.client, errs[1] = usageOf(os.Getpid())
	r.machine, errs[2] = machineCPU()
	return r, errors.Join(errs[:]...)
}

func (r reading) since(before reading) figures.Sample {
	servers, client := r.servers.cpu-before.servers.cpu, r.client.cpu-before.client.cpu
	return figures.Sample{
		Seconds:   r.at.Sub(before.at).Seconds(),
		ServerCPU: servers.Seconds(),
		ClientCPU: client.Seconds(),
		OtherCPU:  max(0, (r.machine - before.machine - servers - client).Seconds()),
		Written:   r.servers.written - before.servers.written,
		Resident:  r.servers.resident,
	}
}

// client is one closed-loop client.
func (l *load) client(ctx context.Context, number int) error {
	random := rand.New(rand.NewPCG(uint64(number), uint64(l.row.Bytes)))
	own, exclusive := l.keys.share(number, l.row.Clients)
	buf := make([]byte, 0, l.row.Bytes)
	for l.phase.Load() != over {
		began := time.Now()
		var err error
		if l.row.Work == figures.Put || l.row.Work == figures.Mix && random.IntN(10) < putShare {
			key := own(random)
			write, value := l.keys.begin(key, random, buf)
			err = l.driver.put(ctx, number, l.keys.names[key], value)
			l.keys.end(key, write, err)
			if !exclusive {
				l.keys.doubt(key)
			}
		} else {
			err = l.read(ctx, number, random.IntN(len(l.keys.names)), exclusive)
		}
		took := time.Since(began)
		if err == nil {
			l.record(number, took)
			continue
		}
		if ctx.Err() != nil && l.phase.Load() == warming {
			return nil // the run was ended
		}
		l.errs.add(err)
		l.errors.Add(1)
		_ = sleep(ctx, afterError) // the loop ends by itself
	}
	return nil
}

// read reads a key and verifies the value.
func (l *load) read(ctx context.Context, worker, key int, exclusive bool) error {
	eventual := l.row.Work == figures.Eventual
	atLeast := l.keys.acknowledged(key)
	value, err := l.driver.get(ctx, worker, l.keys.names[key], eventual)
	if err != nil {
		return err
	}
	if err := l.keys.check(key, atLeast, exclusive && !eventual && !l.weakGets, value); err != nil {
		l.wrong.Add(1)
		return fmt.Errorf("key %s: %w", l.keys.names[key], err)
	}
	return nil
}

// record counts an operation that ended during the measurement.
func (l *load) record(client int, took time.Duration) {
	s := &l.shards[client%shards]
	s.Lock()
	defer s.Unlock()
	if l.phase.Load() == measuring {
		l.ops.Add(1)
		figures.Record(s.histogram, took)
	}
}

// fill writes every key once, with no more bytes under way than any system takes in its stride.
func fill(ctx context.Context, d driver, k *keySpace) error {
	const slice, sliceBytes, underWay = 512, 2 << 20, 16 << 20
	step := max(1, min(slice, sliceBytes/k.bytes))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(min(loaders, underWay/(step*k.bytes)))
	for first := 0; first < len(k.names); first += step {
		last := min(first+step, len(k.names))
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(first), 0))
			var values [][]byte
			var writes []uint64
			for key := first; key < last; key++ {
				write, value := k.begin(key, random, make([]byte, 0, k.bytes))
				values, writes = append(values, value), append(writes, write)
			}
			err := d.load(ctx, k.names[first:last], values)
			for try := 1; err != nil && try < loadTries && ctx.Err() == nil; try++ {
				// What was refused for want of time may still take effect, after a later write even.
				for key := first; key < last; key++ {
					k.doubt(key)
				}
				err = d.load(ctx, k.names[first:last], values)
			}
			if err != nil {
				return err
			}
			for i, write := range writes {
				k.end(first+i, write, nil)
			}
			return nil
		})
	}
	return group.Wait()
}

// readBack reads keys that were written and returns how many do not hold what they must. Replicas may
// lag where reads are not linearizable, so these get a while.
func readBack(ctx context.Context, d driver, k *keySpace, weak bool) (wrong int64, first error) {
	ctx, cancel := context.WithTimeout(ctx, stragglers)
	defer cancel()
	random := rand.New(rand.NewPCG(1, 2))
	for range min(sampled, len(k.names)) {
		key := random.IntN(len(k.names))
		look := func(ctx context.Context) error {
			atLeast := k.acknowledged(key)
			value, err := d.get(ctx, 0, k.names[key], false)
			if err != nil {
				return err
			}
			return k.check(key, atLeast, true, value)
		}
		err := look(ctx)
		if weak && err != nil {
			err = until(ctx, probeEvery, look)
		}
		if err != nil {
			wrong++
			first = errors.Join(first, fmt.Errorf("key %s read back: %w", k.names[key], err))
		}
		if wrong > shownErrors {
			break
		}
	}
	return wrong, first
}
