package restart

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/hlc"
	"github.com/atolldb/atoll/region"
)

const (
	counters  = 4
	registers = 40
	callLimit = 2 * time.Second
	pace      = 4 * time.Millisecond
)

// clients write, and keep account of what was acknowledged.
type clients struct {
	c     *cluster
	pause sync.RWMutex // held for reading during a write, for writing while there shall be none
	names atomic.Uint64

	added  [counters]atomic.Int64 // acknowledged additions
	local  atomic.Int64           // acknowledged additions by local writes
	doubt  atomic.Int64           // additions by local writes with unknown outcome
	done   atomic.Int64           // acknowledged writes
	latest [registers]atomic.Int64
}

// run writes until ctx ends.
func (k *clients) run(ctx context.Context) (wait func()) {
	var running sync.WaitGroup
	for i, loop := range []func(context.Context, int){k.add, k.add, k.add, k.put, k.put, k.addLocally, k.addLocally, k.trim} {
		running.Go(func() {
			ticker := time.NewTicker(pace)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					k.pause.RLock()
					loop(context.WithoutCancel(ctx), i)
					k.pause.RUnlock()
				}
			}
		})
	}
	return running.Wait
}

// write has the partition do operations once, however often it takes.
func (k *clients) write(ctx context.Context, ops ...replica.Op) {
	name := fmt.Sprintf("write-%d", k.names.Add(1))
	testEventually(k.c.t, func() error {
		return k.c.leader(func(p *region.Partition) error {
			ctx, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			_, err := p.Write(ctx, name, ops)
			return err
		})
	})
	k.done.Add(1)
}

func testEventually(t *testing.T, condition func() error) {
	deadline := time.NewTimer(patient)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Errorf("still not after %v: %v", patient, err)
			return
		}
	}
}

func (k *clients) add(ctx context.Context, _ int) {
	i, n := rand.IntN(counters), 1+rand.Int64N(9)
	k.write(ctx, addition(counterKey(i), n))
	k.added[i].Add(n)
}

// put writes rising numbers, each register by one client only.
func (k *clients) put(ctx context.Context, client int) {
	i := rand.IntN(registers/2)*2 + client%2
	n := k.latest[i].Load() + 1
	k.write(ctx, replica.Op{Kind: replica.OpPut, Namespace: "default", Key: fmt.Sprintf("r%d", i), Value: fmt.Append(nil, n)})
	k.latest[i].Store(n)
}

// addLocally writes to the queue of some node. Without an op_id, it is the position in the queue alone that
// keeps a write from being applied twice.
func (k *clients) addLocally(ctx context.Context, _ int) {
	served := k.c.partitions()
	if len(served) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	if err := served[0].WriteLocal(ctx, "", []replica.Op{addition("local", 1)}); err != nil {
		k.doubt.Add(1)
		return
	}
	k.local.Add(1)
	k.done.Add(1)
}

// trim acknowledges deltas as the other region does, so that the outbox is cut under restarts too.
func (k *clients) trim(ctx context.Context, _ int) {
	_ = k.c.leader(func(p *region.Partition) error { // the next time will do
		outbox := p.View().Outbox
		if outbox.Head < outbox.First+200 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		return p.Acknowledge(ctx, []region.Watermark{{Region: there, Actor: outbox.Actor, Seq: outbox.Head - 100}})
	})
}

func counterKey(i int) string { return fmt.Sprintf("c%d", i) }

func addition(key string, n int64) replica.Op {
	return replica.Op{Kind: replica.OpCounterAdd, Namespace: "default", Key: key, Delta: n}
}

// check compares what a replica holds with the account. The caller holds pause, and all local writes
// have left the queues.
func (k *clients) check(p *region.Partition) error {
	var errs []error
	_, err := p.Read(k.c.t.Context(), region.ReadOptions{Level: region.Eventual}, func(r *replica.Replica, now hlc.Time) error {
		for i := range k.added {
			o, _, err := r.Lookup("default", counterKey(i), now)
			if err != nil {
				return err
			}
			if want := k.added[i].Load(); o.Counter != want {
				errs = append(errs, fmt.Errorf("counter %d is %d, acknowledged was %d", i, o.Counter, want))
			}
		}
		o, _, err := r.Lookup("default", "local", now)
		if err != nil {
			return err
		}
		if low, doubt := k.local.Load(), k.doubt.Load(); o.Counter < low || o.Counter > low+doubt {
			errs = append(errs, fmt.Errorf("local counter is %d, acknowledged was %d, in doubt %d", o.Counter, low, doubt))
		}
		for i := range k.latest {
			o, _, err := r.Lookup("default", fmt.Sprintf("r%d", i), now)
			if err != nil {
				return err
			}
			if want := k.latest[i].Load(); want > 0 && string(o.Value) != fmt.Sprint(want) {
				errs = append(errs, fmt.Errorf("register %d is %q, acknowledged was %d", i, o.Value, want))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
