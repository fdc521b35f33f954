package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/atolldb/atoll/bench/figures"
)

// stage is the running systems and what was measured of them.
type stage struct {
	settings *settings
	clusters map[string]*cluster // by system
	results  figures.Results
	progress io.Writer
	wrong    int64
}

// play measures everything that the settings ask for, and reports.
func play(ctx context.Context, s *settings, stdout, progress io.Writer) (err error) {
	runtime.GOMAXPROCS(s.procs)
	// Nothing here takes for ever, but a run that hangs must end too.
	ctx, cancel := context.WithTimeout(ctx, 3*s.duration()+5*time.Minute)
	defer cancel()
	if err := refuseMemory(s.dir); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.dir, "atoll-bench-")
	if err != nil {
		return err
	}
	if s.keep {
		fmt.Fprintln(progress, "data and logs stay in", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	machine, err := describeMachine(ctx, s, dir)
	if err != nil {
		return err
	}
	st := &stage{settings: s, clusters: map[string]*cluster{}, progress: progress}
	defer st.stop()
	if err := st.start(ctx, dir); err != nil {
		return err
	}
	for round := 1; round <= s.rounds; round++ {
		if err := st.round(ctx, round); err != nil {
			return err
		}
	}
	machine.ended()
	if err := report(s, machine, st.results, stdout); err != nil {
		return err
	}
	if st.wrong > 0 {
		return fmt.Errorf("%d reads did not return what was written", st.wrong)
	}
	return nil
}

// start starts the systems one after the other, and freezes each once it is awake.
func (st *stage) start(ctx context.Context, dir string) error {
	fmt.Fprintf(st.progress, "about %v in all\n", st.settings.duration().Round(time.Minute))
	for _, contender := range st.settings.contenders {
		name := systemOf(contender)
		if st.clusters[name] != nil {
			continue
		}
		sys, err := st.newSystem(ctx, name, dir)
		if err != nil {
			return err
		}
		began := time.Now()
		c, err := startCluster(ctx, st.settings, name, sys, dir)
		if err != nil {
			return err
		}
		st.clusters[name] = c
		fmt.Fprintf(st.progress, "%s is up after %v\n", name, time.Since(began).Round(time.Millisecond))
		if err := c.rest(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (st *stage) newSystem(ctx context.Context, name, dir string) (system, error) {
	switch name {
	case figures.Etcd:
		return &etcdSystem{}, nil
	case figures.NATS:
		return &natsSystem{}, nil
	}
	if st.settings.atoll != "" {
		program, err := filepath.Abs(st.settings.atoll)
		return &atollSystem{program: program}, err
	}
	program, err := buildAtoll(ctx, st.settings.repository, dir)
	return &atollSystem{program: program}, err
}

// round runs every row once, the contenders in turn.
func (st *stage) round(ctx context.Context, round int) error {
	for _, row := range st.settings.rows {
		for _, contender := range st.settings.contenders {
			if !st.settings.takesPart(contender, row) {
				continue
			}
			sample, err := st.turn(ctx, contender, row, round)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", contender, row, err)
			}
			st.results = append(st.results, sample)
			fmt.Fprintf(st.progress, "round %d  %-30s %-12s %10s ops/s  p50 %s  p95 %s  p99 %s ms  cpu %s + %s µs/op  errors %d\n",
				round, row, contender, figures.Digits(sample.PerSecond()),
				figures.Digits(sample.Latency(50)), figures.Digits(sample.Latency(95)), figures.Digits(sample.Latency(99)),
				figures.Digits(sample.ServerMicros()), figures.Digits(sample.ClientMicros()), sample.Errors)
		}
	}
	return nil
}

// turn is one row of one contender: only its servers are awake.
func (st *stage) turn(ctx context.Context, contender string, row figures.Row, round int) (figures.Sample, error) {
	c := st.clusters[systemOf(contender)]
	for _, other := range st.clusters {
		if other != c {
			if err := other.rest(ctx); err != nil {
				return figures.Sample{}, err
			}
		}
	}
	syscall.Sync() // what the others left to be written
	if err := c.wake(ctx, st.settings); err != nil {
		return figures.Sample{}, err
	}
	d, err := c.dial(ctx, st.settings, contender, row.Clients)
	if err != nil {
		return figures.Sample{}, err
	}
	sample, err := st.measure(ctx, c, d, contender, row, round)
	if err := errors.Join(err, d.close()); err != nil {
		return figures.Sample{}, err
	}
	if row.Work == figures.Put || row.Work == figures.Mix {
		err = c.tidy(ctx)
	}
	return sample, errors.Join(err, c.rest(ctx))
}

func (st *stage) measure(ctx context.Context, c *cluster, d driver, contender string, row figures.Row, round int) (figures.Sample, error) {
	keys, err := c.space(ctx, st.settings, row.Bytes)
	if err != nil {
		return figures.Sample{}, fmt.Errorf("write the first values: %w", err)
	}
	weak := contender == figures.NATS
	l := newLoad(row, d, keys)
	l.weakGets = weak
	sample, err := l.run(ctx, st.settings, c.pids(), func(ctx context.Context) error {
		return profile(ctx, st.settings, c, fileName(contender, row, round))
	})
	if err != nil {
		return figures.Sample{}, err
	}
	sample.Contender, sample.Round = contender, round
	if row.Work == figures.Put || row.Work == figures.Mix {
		wrong, first := readBack(ctx, d, keys, weak)
		sample.Wrong += wrong
		l.errs.add(first)
	}
	st.wrong += sample.Wrong
	for _, err := range l.errs.first {
		fmt.Fprintf(st.progress, "  %s: %v\n", contender, err)
	}
	return sample, c.running()
}

// stop ends all servers.
func (st *stage) stop() {
	for _, c := range st.clusters {
		c.stop()
	}
}
