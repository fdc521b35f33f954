// Package load puts a deployment under load and measures what comes back: so many clients, each of
// which sends its next request when the last one is answered.
//
// A closed loop shows how fast a deployment can go and how long requests take then. It does not show
// what would happen to requests that come whether or not earlier ones were answered: while a server
// hangs, the clients hang with it and ask nothing.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/client"
)

// Mix is what clients do: of 100 requests, Gets are reads, and the others set a register.
type Mix struct {
	Gets     int
	Eventual bool // any replica may answer the reads
}

// ParseMix reads "put", "get", "eventual", or the shares of reads and writes as in "80/20".
func ParseMix(text string) (Mix, error) {
	switch text {
	case "put":
		return Mix{}, nil
	case "get":
		return Mix{Gets: 100}, nil
	case "eventual":
		return Mix{Gets: 100, Eventual: true}, nil
	}
	reads, writes, ok := strings.Cut(text, "/")
	r, err := strconv.Atoi(reads)
	w, err2 := strconv.Atoi(writes)
	if !ok || err != nil || err2 != nil || r < 0 || w < 0 || r+w != 100 {
		return Mix{}, fmt.Errorf("%q is no mix: want put, get, eventual, or shares of reads and writes such as 80/20", text)
	}
	return Mix{Gets: r}, nil
}

// Config describes a load.
type Config struct {
	Client     *client.Client
	Clients    int
	ValueBytes int
	Keys       int
	Mix        Mix
	// Warmup comes first and is not measured.
	Warmup, Duration time.Duration
	// Progress, if not nil, is called each second of Duration.
	Progress func(Progress)
	Clock    func() time.Time
}

// Progress is how far a load is.
type Progress struct {
	Elapsed time.Duration
	// Done and Failed are the requests of the last second.
	Done, Failed int64
}

// Result is what a load measured.
type Result struct {
	Elapsed    time.Duration
	Gets, Puts Latencies // of what succeeded
	Failures   map[string]int64
	LastError  error
	// CPU is what this process used of the processors, the clients and everything below them.
	CPU time.Duration
}

// Key returns the name of the nth key.
func Key(n int) string {
	// As Sprintf("bench/%08d") does, without what that costs for each request.
	name := []byte("bench/00000000")
	digits := strconv.Itoa(n)
	if len(digits) > 8 {
		return "bench/" + digits
	}
	copy(name[len(name)-len(digits):], digits)
	return string(name)
}

// Fill writes every key once, so that reads find something.
func Fill(ctx context.Context, c Config) error {
	const perBatch = 500
	perRequest := max(1, min(perBatch, (2<<20)/(c.ValueBytes+64)))
	value := make([]byte, c.ValueBytes)
	for from := 0; from < c.Keys; from += perRequest {
		var writes []client.Write
		for n := from; n < min(c.Keys, from+perRequest); n++ {
			writes = append(writes, client.NewPut(Key(n), value))
		}
		results, err := c.Client.Batch(ctx, writes)
		if err != nil {
			return fmt.Errorf("write the keys: %w", err)
		}
		for _, r := range results {
			if r.Err != nil {
				return fmt.Errorf("write the keys: %w", r.Err)
			}
		}
	}
	return nil
}

// Run loads the deployment until the time is over or ctx ends, and returns what was measured.
func Run(ctx context.Context, c Config) *Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := make([]*worker, c.Clients)
	var measured atomic.Bool
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{cfg: &c, random: rand.New(rand.NewPCG(uint64(i), 7)), measured: &measured, failures: map[string]int64{}}
		w.value = make([]byte, c.ValueBytes)
		workers[i] = w
		wg.Go(func() { w.run(ctx) })
	}
	pause(ctx, c.Warmup)
	began, cpu := c.Clock(), processCPU()
	measured.Store(true)
	c.watch(ctx, workers, began)
	result := &Result{Elapsed: c.Clock().Sub(began), CPU: processCPU() - cpu, Failures: map[string]int64{}}
	measured.Store(false)
	cancel()
	wg.Wait()
	for _, w := range workers {
		result.Gets.add(&w.gets)
		result.Puts.add(&w.puts)
		for reason, n := range w.failures {
			result.Failures[reason] += n
		}
		if w.lastError != nil {
			result.LastError = w.lastError
		}
	}
	return result
}

// watch waits until the time is over, and tells of the progress.
func (c *Config) watch(ctx context.Context, workers []*worker, began time.Time) {
	end := time.NewTimer(c.Duration)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before Progress
	for {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-tick.C:
			if c.Progress == nil {
				continue
			}
			now := Progress{Elapsed: c.Clock().Sub(began)}
			for _, w := range workers {
				now.Done += w.done.Load()
				now.Failed += w.failed.Load()
			}
			c.Progress(Progress{now.Elapsed, now.Done - before.Done, now.Failed - before.Failed})
			before = now
		}
	}
}

// worker is one client. All but the counters is its own goroutine's.
type worker struct {
	cfg          *Config
	random       *rand.Rand
	value        []byte
	measured     *atomic.Bool
	done, failed atomic.Int64
	gets, puts   Latencies
	failures     map[string]int64
	lastError    error
}

func (w *worker) run(ctx context.Context) {
	var reads []client.ReadOption
	if w.cfg.Mix.Eventual {
		reads = append(reads, client.Eventual())
	}
	for ctx.Err() == nil {
		key := Key(w.random.IntN(w.cfg.Keys))
		get := w.random.IntN(100) < w.cfg.Mix.Gets
		began := w.cfg.Clock()
		var err error
		if get {
			_, err = w.cfg.Client.Get(ctx, key, reads...)
		} else {
			_, err = w.cfg.Client.Put(ctx, key, w.value)
		}
		if !w.measured.Load() || ctx.Err() != nil {
			continue
		}
		w.note(get, w.cfg.Clock().Sub(began), err)
	}
}

func (w *worker) note(get bool, took time.Duration, err error) {
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		reason := "UNKNOWN"
		if e, ok := errors.AsType[*client.Error](err); ok {
			reason = string(e.Reason)
		}
		w.failures[reason]++
		w.lastError = err
		w.failed.Add(1)
		return
	}
	w.done.Add(1)
	if get {
		w.gets.Note(took)
	} else {
		w.puts.Note(took)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
