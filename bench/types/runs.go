package main

import (
	"fmt"

	"github.com/atolldb/atoll/crdt/replica"
)

// The counts of encoded runs: deltas of deltaBatch operations, folded, with all names and headers.
const (
	runCounts   = "run of 1000 adds to one counter"
	runCounters = "run of an add to each of 1000 counters, per counter"
	runAdds     = "run of 1000 set adds of 16 B, per add"
	runAgain    = "run of 1000 adds of 10 elements of 16 B, per add"
	runPuts     = "run of 1000 puts, beyond the value, per put"
	runPutOnce  = "run of 1000 puts of one key, beyond the value"
)

// runCase encodes runs of deltas.
type runCase struct{}

func (runCase) name() string { return "runs" }

func (runCase) measure(e *env) error {
	if e.round > 0 {
		return nil
	}
	e.begin()
	r, err := replica.Open(replica.NewMemory(), local)
	if err != nil {
		return err
	}
	// Sequence numbers are as long as those of deltaCase.
	for range deltaWarmup {
		if _, err := encodedBytes(r, repeat(remoteOp(mergePuts, "", 5), warmupPerBatch)); err != nil {
			return err
		}
	}
	named := func(kind replica.OpKind, k int, value []byte, element ...[]byte) replica.Op {
		return replica.Op{Kind: kind, Namespace: namespace, Key: key(k), Value: value, Elements: element, Delta: 1}
	}
	for _, c := range []struct {
		name  string
		op    func(n int) replica.Op
		minus int
		per   int
	}{
		{runCounts, func(int) replica.Op { return named(replica.OpCounterAdd, 1_000_000, nil) }, 0, 1},
		{runCounters, func(n int) replica.Op { return named(replica.OpCounterAdd, 1_000_001+n, nil) }, 0, deltaBatch},
		{runAdds, func(n int) replica.Op { return named(replica.OpSetAdd, 2_000_000, nil, elements(uint64(n), 1)[0]) }, 0, deltaBatch},
		{runAgain, func(n int) replica.Op { return named(replica.OpSetAdd, 2_000_001, nil, elements(uint64(n%10), 1)[0]) }, 0, deltaBatch},
		{runPuts, func(n int) replica.Op { return named(replica.OpPut, 3_000_000+n, make([]byte, valueBytes)) }, valueBytes * deltaBatch, deltaBatch},
		{runPutOnce, func(int) replica.Op { return named(replica.OpPut, 4_000_000, make([]byte, valueBytes)) }, valueBytes, 1},
	} {
		n, err := runBytes(r, c.op)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		e.count(c.name, float64(n-c.minus)/float64(c.per), "B")
	}
	return nil
}

// runBytes executes deltaBatch operations, each an event, and returns the size of their run.
func runBytes(r *replica.Replica, op func(n int) replica.Op) (int, error) {
	var deltas []replica.Delta
	for n := range deltaBatch {
		_, d, err := r.Execute(noon, []replica.Op{op(n)})
		if err != nil {
			return 0, err
		}
		deltas = append(deltas, d...)
	}
	run, err := replica.Fold(deltas)
	if err != nil {
		return 0, err
	}
	return len(replica.EncodeRun(run)), nil
}
