package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
)

// The counts of a clear.
const (
	clearMillis     = "clear: the call itself"
	clearCPUMillis  = "clear: the call itself, CPU"
	sweepCalls      = "clear: later calls that sweep"
	sweepP50Millis  = "clear: a later call, median"
	sweepP99Millis  = "clear: a later call, p99"
	sweepP50CPU     = "clear: a later call, CPU, median"
	sweepP99CPU     = "clear: a later call, CPU, p99"
	sweepCPUMicros  = "clear: CPU of sweeping, per element"
	sweepFlushes    = "clear: flushes meanwhile"
	sweepFlushCPU   = "clear: CPU of all flushes"
	plainCallMicros = "a call that sweeps nothing, median"
)

// clearCase clears the largest set of a copy of the disk, and then does operations without effect until
// nothing is left to sweep.
type clearCase struct{}

func (c *clearCase) name() string { return "clear" }

func (c *clearCase) measure(e *env) (err error) {
	d, err := e.disk.copy()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	s := e.settings
	idle := func() error {
		return d.execute([]replica.Op{{Kind: replica.OpDelete, Namespace: namespace, Key: "absent"}})
	}
	var plain []float64
	for range 200 {
		took, err := timed(idle)
		if err != nil {
			return err
		}
		plain = append(plain, took)
	}
	e.begin()
	clearing := replica.Op{Kind: replica.OpSetClear, Namespace: namespace, Key: setKey(s.large)}
	m := e.meter()
	if err := m.measure(func() error { return d.execute([]replica.Op{clearing}) }); err != nil {
		return err
	}
	if n, err := d.sizeOf(setKey(s.large)); err != nil || n != 0 {
		return errors.Join(err, fmt.Errorf("%d elements after clearing", n))
	}
	e.count(clearMillis, m.wall.Seconds()*1e3, "ms")
	e.count(clearCPUMillis, m.cpu.Seconds()*1e3, "ms")
	if err := c.sweep(e, d, idle); err != nil {
		return err
	}
	e.count(plainCallMicros, percentile(plain, 50)*1e3, "µs")
	return nil
}

// sweep calls until nothing is left, and flushes as a region would: when the buffer is full.
func (c *clearCase) sweep(e *env, d *disk, call func() error) error {
	var calls, cpus []float64
	sweeping, flushes := e.meter(), e.meter()
	flushed := 0
	for {
		left, err := d.garbage()
		if err = errors.Join(err, e.ended()); err != nil {
			return err
		}
		if !left {
			break
		}
		before := sweeping
		if err := sweeping.measure(call); err != nil {
			return err
		}
		calls = append(calls, (sweeping.wall-before.wall).Seconds()*1e3)
		cpus = append(cpus, (sweeping.cpu-before.cpu).Seconds()*1e3)
		if d.Buffered() >= flushBytes {
			flushed++
			if err := flushes.measure(d.Flush); err != nil {
				return err
			}
		}
	}
	if err := flushes.measure(d.Flush); err != nil {
		return err
	}
	e.count(sweepFlushes, float64(flushed+1), "")
	e.count(sweepFlushCPU, flushes.cpu.Seconds()*1e3, "ms")
	c.report(e, calls, cpus, sweeping)
	return nil
}

func (c *clearCase) report(e *env, calls, cpus []float64, sweeping meter) {
	held := float64(e.settings.held(e.settings.large))
	e.count(sweepCalls, float64(len(calls)), "")
	e.count(sweepP50Millis, percentile(calls, 50), "ms")
	e.count(sweepP99Millis, percentile(calls, 99), "ms")
	e.count(sweepP50CPU, percentile(cpus, 50), "ms")
	e.count(sweepP99CPU, percentile(cpus, 99), "ms")
	e.count(sweepCPUMicros, sweeping.cpu.Seconds()*1e6/held, "µs")
}

// timed returns what f takes, in milliseconds.
func timed(f func() error) (float64, error) {
	began := time.Now()
	err := f()
	return time.Since(began).Seconds() * 1e3, err
}

func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// garbage reports whether cleared sets have elements left to sweep.
func (d *disk) garbage() (left bool, err error) {
	err = d.View(func(kv replica.KV) error {
		return kv.Scan([]byte{'G'}, []byte{'G' + 1}, func(_, _ []byte) (bool, error) {
			left = true
			return false, nil
		})
	})
	return left, err
}
