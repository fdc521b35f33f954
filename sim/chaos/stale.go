package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/wan"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
	"github.com/atolldb/atoll/sim/check"
)

const (
	// readPatience bounds a read; one that a stopped node keeps waiting is given up and made anew.
	readPatience = 1500 * time.Millisecond
	attemptTime  = 700 * time.Millisecond
	// writeAttempt is how long a writer waits for a node that may be the stopped one.
	writeAttempt = 250 * time.Millisecond
	// readPause is how long a reader waits between reads, so that readers leave the nodes time to work.
	readPause = 2 * time.Millisecond
	// takeoverPatience bounds how long other nodes may take to replace a stopped leader.
	takeoverPatience = 20 * time.Second
	// enqueueTime is for how long fresh reads gather at the stopped node before it goes on.
	enqueueTime = 30 * time.Millisecond
	// afterTime is how long the readers look after the node went on.
	afterTime    = 400 * time.Millisecond
	mostExamples = 3
)

// staleRun looks for linearizable reads that are stale.
//
// A leader that is stopped does not know it: when it goes on, it takes itself for the leader until it
// hears otherwise, and answers to what it sent before may still be on their way to it. A read is
// safe only if its proof of leadership was asked for after the read arrived. So in every cycle reads
// gather at the stopped leader, which begin after its successor has acknowledged newer writes; when
// it goes on, late answers of its followers arrive first, and its successor's messages last.
type staleRun struct {
	*stage
	keys  []string // one in each partition
	marks []check.Rising
	nodes []*direct

	mu struct {
		sync.Mutex
		// victim is the node that half of the readers read from, led the keys that they read.
		victim int
		led    []int
		// fresh is closed to have these readers give up their reads and begin anew.
		fresh    chan struct{}
		cycle    int
		stale    map[int]int // reads, by cycle
		examples []string
		phantoms []string
	}
	played        int    // cycles
	reads, failed [2]int // of the victim, of all nodes; by readers under mu
}

// stale plays the scenario of the same name.
func (s *stage) stale(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	r := &staleRun{stage: s, keys: keyPerPartition("hot", s.deployment.partitions)}
	r.marks = make([]check.Rising, len(r.keys))
	r.mu.stale = map[int]int{}
	r.mu.fresh = make(chan struct{})
	for i := range r.keys {
		r.mu.led = append(r.mu.led, i)
	}
	for _, m := range s.deployment.members {
		d := m.direct()
		defer d.close()
		r.nodes = append(r.nodes, d)
	}
	// A writer must not wait long for a node that is stopped.
	writer, err := client.New(s.deployment.endpoints(), client.WithAttemptTimeout(writeAttempt))
	if err != nil {
		return err
	}
	defer writer.Close()
	loop, stop := context.WithCancel(ctx)
	defer stop()
	var load errgroup.Group
	for i := range r.keys {
		load.Go(func() error { return r.write(loop, writer, i) })
	}
	for i := range s.settings.clients {
		random := rand.New(rand.NewPCG(s.settings.seed, uint64(i)+1))
		load.Go(func() error { return r.read(loop, random, i%2 == 0) })
	}
	err = r.cycles(ctx)
	stop()
	err = errors.Join(err, load.Wait())
	r.report()
	return err
}

// keyPerPartition returns a key in each partition.
func keyPerPartition(prefix string, partitions uint32) []string {
	keys := make([]string, partitions)
	for found, i := 0, 0; found < len(keys); i++ {
		key := fmt.Sprintf("%s/%d", prefix, i)
		if p := partitionOf(key, partitions); keys[p] == "" {
			keys[p] = key
			found++
		}
	}
	return keys
}

// write sets one key to rising numbers until ctx is done.
func (r *staleRun) write(ctx context.Context, c *client.Client, i int) error {
	for ctx.Err() == nil {
		n := r.marks[i].Begin()
		_, err := c.Put(ctx, r.keys[i], strconv.AppendUint(nil, n, 10))
		if err == nil {
			r.marks[i].Acknowledge(n)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil
		}
	}
	return nil
}

// read reads until ctx is done: from the victim the keys that it led, or from any node any key.
func (r *staleRun) read(ctx context.Context, random *rand.Rand, fromVictim bool) error {
	for ctx.Err() == nil {
		r.mu.Lock()
		node, key, fresh := r.mu.victim, r.mu.led[random.IntN(len(r.mu.led))], r.mu.fresh
		r.mu.Unlock()
		if !fromVictim {
			node, key, fresh = random.IntN(len(r.nodes)), random.IntN(len(r.keys)), nil
		}
		if err := r.readOnce(ctx, node, key, fresh); err != nil && ctx.Err() == nil {
			return err
		}
		if err := pause(ctx, readPause); err != nil {
			return nil
		}
	}
	return nil
}

func (r *staleRun) readOnce(ctx context.Context, node, key int, fresh <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	if fresh != nil {
		watched := make(chan struct{})
		defer func() { cancel(); <-watched }()
		go func() {
			defer close(watched)
			select {
			case <-fresh:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	floor := r.marks[key].Floor()
	reply, err := r.nodes[node].kv.Get(ctx, &atollv1.GetRequest{Key: r.keys[key]})
	kind := 0
	if fresh == nil {
		kind = 1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed[kind]++
		return nil
	}
	r.reads[kind]++
	var found uint64
	if reply.GetFound() {
		if found, err = strconv.ParseUint(string(reply.GetValue()), 10, 64); err != nil {
			return fmt.Errorf("%s holds what nobody wrote: %w", r.keys[key], err)
		}
	}
	r.judge(node, key, floor, found, reply.GetInfo().GetNode())
	return nil
}

// judge is called with the lock held.
func (r *staleRun) judge(node, key int, floor, found uint64, answered string) {
	err := r.marks[key].Judge(floor, found)
	if err == nil {
		return
	}
	text := fmt.Sprintf("cycle %d, %s asked, %s answered: %v", r.mu.cycle, r.nodes[node].node, answered, err)
	if _, stale := errors.AsType[*check.StaleError](err); !stale {
		r.mu.phantoms = append(r.mu.phantoms, text)
		return
	}
	if r.mu.stale[r.mu.cycle]++; len(r.mu.examples) < mostExamples {
		r.mu.examples = append(r.mu.examples, text)
	}
}

func (r *staleRun) cycles(ctx context.Context) error {
	if err := pause(ctx, calmTime); err != nil {
		return err
	}
	for n := range r.settings.cycles {
		if err := r.cycle(ctx, n); err != nil {
			return fmt.Errorf("cycle %d: %w", n, err)
		}
		r.played++
		if r.settings.mustFail && r.settings.quick && r.staleCycles() > 0 {
			return nil // found
		}
	}
	return nil
}

// cycle stops the node that leads most, waits until others lead instead, and lets it go on.
func (r *staleRun) cycle(ctx context.Context, n int) error {
	victim, led, err := r.choose(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.mu.victim, r.mu.led, r.mu.cycle = victim, led, n
	r.mu.Unlock()
	if err := pause(ctx, time.Duration(100+r.random.IntN(300))*time.Millisecond); err != nil {
		return err
	}
	m := r.deployment.named(r.nodes[victim].node)
	others := r.others(m.name)
	// Whose answers are late is drawn; whose are not tell the leader, when it goes on, that it has been
	// heard of just now.
	late := others[r.random.IntN(len(others)):][:1]
	hold := time.Duration(4+r.random.IntN(17)) * time.Millisecond
	for _, other := range others {
		r.deployment.way(other, m.name, wan.Both, true)
	}
	for _, other := range late {
		r.deployment.way(m.name, other, wan.Back, true)
	}
	began := time.Now()
	if err := m.process.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	// Some go on as soon as one of their partitions has another leader: then they may not even know how
	// long they slept.
	atLeast := len(led)
	if r.random.IntN(4) == 0 {
		atLeast = 1
	}
	taken, takeoverErr := r.awaitTakeover(ctx, led, atLeast)
	r.restart(taken)
	err = pause(ctx, enqueueTime)
	stopped := time.Since(began)
	err = errors.Join(err, m.process.signal(syscall.SIGCONT), pause(ctx, hold))
	for _, other := range late {
		r.deployment.way(m.name, other, wan.Back, false)
	}
	err = errors.Join(err, takeoverErr, pause(ctx, 3*r.settings.replyDelay))
	r.deployment.heal()
	if err != nil {
		return err
	}
	if err := pause(ctx, afterTime); err != nil {
		return err
	}
	r.out.note("cycle %d: %s stopped for %s, leader of %d, %d taken over; answers of %v held for %v: %d stale reads",
		n, m.name, ms(stopped), len(led), len(taken), late, hold, r.staleIn(n))
	return nil
}

// choose returns the node that leads most partitions, and their keys.
func (r *staleRun) choose(ctx context.Context) (victim int, led []int, err error) {
	m, _, err := r.leader(ctx, r.deployment.regions[0])
	if err != nil {
		return 0, nil, err
	}
	status, err := r.deployment.clients[r.deployment.regions[0]].Status(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, p := range status.GetPartitions() {
		if p.GetLeader() == m.name {
			led = append(led, int(p.GetPartition()))
		}
	}
	victim = slices.IndexFunc(r.nodes, func(d *direct) bool { return d.node == m.name })
	if victim < 0 || len(led) == 0 {
		return 0, nil, fmt.Errorf("%s leads nothing", m.name)
	}
	return victim, led, nil
}

func (r *staleRun) others(name string) []string {
	var others []string
	for _, m := range r.deployment.members {
		if m.name != name {
			others = append(others, m.name)
		}
	}
	return others
}

// awaitTakeover waits until at least so many of the keys have acknowledged writes that their stopped
// leader cannot have acknowledged, and returns these keys. One write may have been on its way, and so
// was the one after an unknown outcome.
func (r *staleRun) awaitTakeover(ctx context.Context, led []int, atLeast int) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, takeoverPatience)
	defer cancel()
	want := make([]uint64, len(led))
	for i, key := range led {
		want[i] = r.marks[key].Floor() + 3
	}
	var taken []int
	err := until(ctx, 5*time.Millisecond, func(context.Context) (bool, error) {
		taken = taken[:0]
		for i, key := range led {
			if r.marks[key].Floor() >= want[i] {
				taken = append(taken, key)
			}
		}
		return len(taken) >= atLeast, nil
	})
	if err != nil {
		return nil, fmt.Errorf("the other nodes do not take over: %w", err)
	}
	return taken, nil
}

// restart has the victim's readers begin anew, so that their reads begin after what is acknowledged,
// and read what others lead now.
func (r *staleRun) restart(taken []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(taken) > 0 {
		r.mu.led = taken
	}
	close(r.mu.fresh)
	r.mu.fresh = make(chan struct{})
}

func (r *staleRun) staleIn(cycle int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.stale[cycle]
}

func (r *staleRun) staleCycles() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.stale)
}

func (r *staleRun) report() {
	total := 0
	for _, n := range r.mu.stale {
		total += n
	}
	writes := uint64(0)
	for i := range r.marks {
		writes += r.marks[i].Floor()
	}
	r.out.figure("cycles", "%d of SIGSTOP and SIGCONT, answers between nodes %v late", r.played, r.settings.replyDelay)
	r.out.figure("writes", "about %d acknowledged, to %d keys", writes, len(r.keys))
	r.out.figure("reads of the stopped leader", "%d answered, %d not", r.reads[0], r.failed[0])
	r.out.figure("reads of any node", "%d answered, %d not", r.reads[1], r.failed[1])
	r.out.figure("stale linearizable reads", "%d in %d cycles", total, len(r.mu.stale))
	for _, text := range r.mu.examples {
		r.out.note("%s", text)
	}
	var phantoms error
	if len(r.mu.phantoms) > 0 {
		phantoms = fmt.Errorf("%d, such as %s", len(r.mu.phantoms), r.mu.phantoms[0])
	}
	r.out.check("no read finds what nobody wrote", phantoms)
	var err error
	switch {
	case r.settings.mustFail && total == 0:
		err = errors.New("this build is known to serve stale reads, and none was found: the scenario is blind")
	case !r.settings.mustFail && total > 0:
		err = fmt.Errorf("%d are, in %d cycles", total, len(r.mu.stale))
	}
	what := "no linearizable read is stale"
	if r.settings.mustFail {
		what = "a build with " + mustFailTag + " is found out by stale reads"
	}
	r.out.check(what, err)
	if r.reads[0] < r.played*r.settings.clients {
		r.out.check("enough reads of the stopped leader are answered", fmt.Errorf("%d", r.reads[0]))
	}
}
