package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

// benchCase is something to be measured once a round.
type benchCase interface {
	name() string
	measure(e *env) error
}

// env is what a case gets.
type env struct {
	// ended returns why no more is to be measured; nil if there is.
	ended    func() error
	settings *settings
	round    int
	// dir is on disk; disk is Atoll's store in it.
	dir     string
	disk    *disk
	results *results
	// overhead is what a measurement itself takes.
	overhead time.Duration
	profile  *os.File
	err      error
}

func (e *env) add(s sample) {
	s.Round = e.round
	e.results.Samples = append(e.results.Samples, s)
}

func (e *env) count(name string, value float64, unit string) {
	e.results.Counts = append(e.results.Counts, count{name, value, unit, e.round})
}

func (e *env) meter() meter { return meter{overhead: e.overhead} }

// begin is called by a case once it is prepared: no garbage of the preparation is left to the measured
// part, and a profile shows that part only.
func (e *env) begin() {
	runtime.GC()
	if e.profile != nil {
		e.err = errors.Join(e.err, pprof.StartCPUProfile(e.profile))
	}
}

// play measures all and reports.
func play(ctx context.Context, s *settings, stdout, stderr io.Writer) (err error) {
	if err := refuseMemory(s); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.dir, "atoll-types-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h := describeHost(ctx, s)
	e := &env{ended: ctx.Err, settings: s, dir: dir, results: &results{}, overhead: meterOverhead()}
	if e.disk, err = openDisk(ctx, dir, s); err != nil {
		return fmt.Errorf("fill the sets: %w", err)
	}
	defer func() { err = errors.Join(err, e.disk.close()) }()
	fmt.Fprintf(stderr, "filled after %v\n", time.Since(h.Date).Round(time.Second))
	cases, err := prepare(e)
	if err != nil {
		return err
	}
	before, others := processCPU(), machineCPU()
	began := time.Now()
	for e.round = range s.rounds {
		for i := range cases {
			// Every other round runs backwards, so that nobody always follows the same neighbour.
			if e.round%2 == 1 {
				i = len(cases) - 1 - i
			}
			if err := e.play(cases[i]); err != nil {
				return fmt.Errorf("%s: %w", cases[i].name(), err)
			}
		}
		fmt.Fprintf(stderr, "round %d of %d after %v\n", e.round+1, s.rounds, time.Since(h.Date).Round(time.Second))
	}
	h.ended(time.Since(began), processCPU()-before, machineCPU()-others)
	return report(s, h, e.results, stdout)
}

func (e *env) play(c benchCase) (err error) {
	if err := e.ended(); err != nil {
		return err
	}
	if e.settings.profiles != "" {
		name := fmt.Sprintf("%s-%d.pprof", strings.NewReplacer("/", "-", " ", "-", ",", "").Replace(c.name()), e.round)
		if err := os.MkdirAll(e.settings.profiles, 0o755); err != nil {
			return err
		}
		if e.profile, err = os.Create(filepath.Join(e.settings.profiles, name)); err != nil {
			return err
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, e.err, e.profile.Close())
		}()
	}
	return c.measure(e)
}

// prepare returns the cases that were asked for. What a contender keeps over all rounds is made here.
func prepare(e *env) ([]benchCase, error) {
	s := e.settings
	var all []benchCase
	for _, batch := range s.batches {
		for _, size := range s.sizes() {
			most := min(s.grouped, size)
			all = append(all, &setCase{contender: atollSynced, size: size, batch: batch, most: most, open: e.disk.synced})
			if size == s.large || size == s.small[len(s.small)-1] {
				all = append(all, &setCase{contender: atollGrouped, size: size, batch: batch,
					exactly: s.grouped, most: s.grouped, open: e.disk.grouped})
			}
			if size == s.large {
				continue
			}
			for _, p := range peers(e.dir) {
				all = append(all, &setCase{contender: p.name, size: size, batch: batch, most: most, open: p.open})
			}
		}
	}
	all = append(all, mergeCases(s)...)
	all = append(all, &clearCase{}, &bytesCase{}, &deltaCase{}, &runCase{})
	var cases []benchCase
	for _, c := range all {
		if s.only.MatchString(c.name()) {
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("%w: no case matches -only", errUsage)
	}
	return cases, nil
}

// peer is another way to have a set.
type peer struct {
	name string
	open func(size int) (set, error)
}
