package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	largeBytes  = 1 << 20 // the largest value that there may be
	largePrefix = "large/"
	largeKeys   = 192
	// largeValues is how many different values there are: windows of one block of random bytes.
	largeValues = 1 << 16
	largeBatch  = 3 // what fits into a batch
	largeTime   = 30 * time.Second
	// downWrites is how many values each partition gets on average while a node is down: more than its
	// log keeps for it, so that it must catch up by snapshot.
	downWrites   = 400
	downPatience = 15 * time.Minute
	// snapshotInstalled is what a node's log says when it has caught up by snapshot.
	snapshotInstalled = "installed a snapshot"
	mark              = 16 // bytes by which a value is told
)

// largeRun writes values as large as they may be from many clients at once, half of them the SDK's
// and half plain requests, kills a node and lets it catch up, and watches the nodes' memory.
type largeRun struct {
	*stage
	block  []byte
	byMark map[string]int // value number by its first bytes
	issued atomic.Int64
	bytes  atomic.Int64 // acknowledged
	nodes  []*direct
	memory *memoryWatch
	// catchUp returns how many snapshots the killed node has installed since.
	catchUp func() int

	mu struct {
		sync.Mutex
		done   map[string]int // by kind of request
		failed map[string]int
		why    map[string]error // the last failure
		acked  map[string]bool  // keys
		wrong  faults
	}
}

// large plays the scenario of the same name.
func (s *stage) large(ctx context.Context) error {
	r := newLargeRun(s)
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	for _, m := range s.deployment.members {
		d := m.direct()
		defer d.close()
		r.nodes = append(r.nodes, d)
		r.memory.follow(m)
	}
	sdk, err := client.New(s.deployment.endpoints(), client.WithTimeout(downPatience), client.WithAttemptTimeout(time.Minute))
	if err != nil {
		return err
	}
	defer sdk.Close()
	watching, stopWatching := context.WithCancel(ctx)
	var watch errgroup.Group
	watch.Go(func() error { return r.memory.run(watching) })
	defer func() { stopWatching(); _ = watch.Wait() }()

	stop := make(chan struct{})
	var load errgroup.Group
	for i := range s.settings.clients {
		random := rand.New(rand.NewPCG(s.settings.seed, uint64(i)+1))
		load.Go(func() error { r.client(ctx, stop, sdk, random, i); return nil })
	}
	began := time.Now()
	err = r.killAndCatchUp(ctx)
	close(stop)
	r.out.note("the clients end")
	_ = load.Wait() // clients return no errors
	if err != nil {
		return err
	}
	r.judge(ctx, sdk, time.Since(began))
	stopWatching()
	_ = watch.Wait()
	bound := int64(s.settings.memoryBound) << 20
	r.out.check(fmt.Sprintf("no node has more than %d MiB of memory, pages of files apart", s.settings.memoryBound), r.memory.judge(r.out, bound))
	return nil
}

func newLargeRun(s *stage) *largeRun {
	r := &largeRun{stage: s, block: make([]byte, largeBytes+largeValues), byMark: map[string]int{}, memory: newMemoryWatch()}
	random := rand.NewChaCha8([32]byte{byte(s.settings.seed)})
	_, _ = random.Read(r.block) // never fails, by its documentation
	for n := range largeValues {
		r.byMark[string(r.block[n:n+mark])] = n
	}
	r.mu.done, r.mu.failed = map[string]int{}, map[string]int{}
	r.mu.why, r.mu.acked = map[string]error{}, map[string]bool{}
	return r
}

func (r *largeRun) value(n int) []byte { return r.block[n : n+largeBytes] }

func largeKey(n int) string { return fmt.Sprintf("%s%03d", largePrefix, n%largeKeys) }

// next returns a value that was not written yet, as long as there are any.
func (r *largeRun) next() int { return int(r.issued.Add(1)-1) % largeValues }

// verify says what is wrong with a value found: it must be one that was written to this key, whole.
func (r *largeRun) verify(key string, value []byte) {
	n, known := -1, false
	if len(value) == largeBytes {
		n, known = r.byMark[string(value[:mark])], true
	}
	if known && largeKey(n) == key && int64(n) < r.issued.Load() && bytes.Equal(value, r.value(n)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.wrong.add("%s holds %d bytes that nobody wrote there", key, len(value))
}

// count notes how a request ended, and what it wrote.
func (r *largeRun) count(kind string, err error, written ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.mu.failed[kind]++
		r.mu.why[kind] = err
		return
	}
	r.mu.done[kind]++
	for _, n := range written {
		r.bytes.Add(largeBytes)
		r.mu.acked[largeKey(n)] = true
	}
}

// client does one request after another until stop is closed; every second one has no SDK.
func (r *largeRun) client(ctx context.Context, stop <-chan struct{}, sdk *client.Client, random *rand.Rand, number int) {
	for ctx.Err() == nil {
		select {
		case <-stop:
			return
		default:
		}
		switch dice := random.IntN(100); {
		case number%2 == 1 && dice < 80:
			r.plainPut(ctx, r.nodes[random.IntN(len(r.nodes))])
		case number%2 == 1:
			r.plainGet(ctx, r.nodes[random.IntN(len(r.nodes))], largeKey(random.IntN(largeKeys)))
		case dice < 70:
			n := r.next()
			_, err := sdk.Put(ctx, largeKey(n), r.value(n))
			r.count("SDK put", err, n)
		case dice < 80:
			r.batch(ctx, sdk)
		case dice < 95:
			key := largeKey(random.IntN(largeKeys))
			value, err := sdk.Get(ctx, key)
			if err == nil {
				r.verify(key, value.Bytes)
			}
			r.count("SDK get", found(err))
		default:
			r.count("SDK scan", r.scan(ctx, sdk, client.ScanOptions{Prefix: largePrefix, Limit: 4}))
		}
	}
}

// found makes no error of an absent key.
func found(err error) error {
	if errors.Is(err, client.ErrNotFound) {
		return nil
	}
	return err
}

func (r *largeRun) plainPut(ctx context.Context, node *direct) {
	n := r.next()
	_, err := node.kv.Put(ctx, &atollv1.PutRequest{Key: largeKey(n), Value: r.value(n)})
	r.count("plain put", err, n)
	if err != nil {
		_ = pause(ctx, 100*time.Millisecond) // this client repeats nothing; a node that is down answers fast
	}
}

func (r *largeRun) plainGet(ctx context.Context, node *direct, key string) {
	reply, err := node.kv.Get(ctx, &atollv1.GetRequest{Key: key})
	if err == nil && reply.GetFound() {
		r.verify(key, reply.GetValue())
	}
	r.count("plain get", err)
	if err != nil {
		_ = pause(ctx, 100*time.Millisecond)
	}
}

func (r *largeRun) batch(ctx context.Context, sdk *client.Client) {
	var writes []client.Write
	var numbers []int
	for range largeBatch {
		n := r.next()
		numbers = append(numbers, n)
		writes = append(writes, client.NewPut(largeKey(n), r.value(n)))
	}
	results, err := sdk.Batch(ctx, writes)
	for _, one := range results {
		err = errors.Join(err, one.Err)
	}
	r.count("SDK batch", err, numbers...)
}

func (r *largeRun) scan(ctx context.Context, sdk *client.Client, o client.ScanOptions) error {
	for entry, err := range sdk.Scan(ctx, o) {
		if err != nil {
			return err
		}
		r.verify(entry.Key, entry.Bytes)
	}
	return nil
}

// killAndCatchUp lets the clients write, kills a node, and starts it again when its peers have
// written more than their logs keep.
func (r *largeRun) killAndCatchUp(ctx context.Context) error {
	if err := pause(ctx, r.settings.duration); err != nil {
		return err
	}
	victim := r.deployment.members[r.random.IntN(len(r.deployment.members))]
	victim.crash()
	enough := r.bytes.Load() + int64(r.settings.cycles)*int64(r.deployment.partitions)*largeBytes
	r.out.note("kill -9 %s after %d MiB; it stays down for %d MiB more", victim.name, r.bytes.Load()>>20, (enough-r.bytes.Load())>>20)
	waiting, cancel := context.WithTimeout(ctx, downPatience)
	defer cancel()
	err := until(waiting, 100*time.Millisecond, func(context.Context) (bool, error) { return r.bytes.Load() >= enough, nil })
	if err != nil {
		return fmt.Errorf("write %d MiB without %s: %w", enough>>20, victim.name, err)
	}
	began, logged := time.Now(), len(textOf(victim.log))
	if err := r.deployment.startAll(ctx, []*member{victim}); err != nil {
		return err
	}
	r.memory.follow(victim)
	r.out.note("%s is ready again after %s", victim.name, ms(time.Since(began)))
	if err := pause(ctx, r.settings.duration/2); err != nil {
		return err
	}
	r.catchUp = func() int { return strings.Count(textOf(victim.log)[logged:], snapshotInstalled) }
	return nil
}

func (r *largeRun) judge(ctx context.Context, sdk *client.Client, took time.Duration) {
	began := time.Now()
	r.out.check("all nodes have equal vectors and digests", r.nodesEqual(ctx, downPatience))
	r.out.figure("equal after the last write", "%s", ms(time.Since(began)))
	snapshots := r.catchUp()
	r.out.figure("caught up", "with %d snapshots", snapshots)
	if !r.settings.quick && snapshots == 0 {
		r.out.check("the killed node catches up by snapshot", errors.New("it installed none"))
	}
	r.out.check("a scan of everything succeeds", r.scan(ctx, sdk, client.ScanOptions{Prefix: largePrefix}))
	var f faults
	for n := range largeKeys {
		if !r.mu.acked[largeKey(n)] {
			continue
		}
		value, err := sdk.Get(ctx, largeKey(n))
		if err != nil {
			f.add("%w", err)
			continue
		}
		r.verify(largeKey(n), value.Bytes)
		for _, node := range r.nodes {
			reply, err := node.kv.Get(ctx, &atollv1.GetRequest{Key: largeKey(n), Options: eventually()})
			if err != nil {
				f.add("%s at %s: %w", largeKey(n), node.node, err)
				continue
			}
			r.verify(largeKey(n), reply.GetValue())
		}
	}
	r.out.check("every key can be read, at every node too", f.err())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.check("every value read is one that was written, whole", r.mu.wrong.err())
	r.out.figure("written", "%d MiB in %.0f s: %.0f MiB/s", r.bytes.Load()>>20, took.Seconds(), float64(r.bytes.Load()>>20)/took.Seconds())
	var missing faults
	for _, kind := range []string{"SDK put", "SDK get", "SDK batch", "SDK scan", "plain put", "plain get"} {
		r.out.figure(kind, "%d done, %d failed", r.mu.done[kind], r.mu.failed[kind])
		if err := r.mu.why[kind]; err != nil {
			r.out.note("the last %s that failed: %v", kind, err)
		}
		if r.mu.done[kind] == 0 {
			missing.add("no %s", kind)
		}
	}
	r.out.check("every way of writing and reading was taken", missing.err())
}
