package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/sim/check"
)

const (
	killPrefix     = "kill/"
	killValueBytes = 100
	// leastRate is how many writes per second a run must have, all kills included, to count.
	leastRate = 1000
	// mostUnavailable is how long writes to a partition may pause after 99 of 100 kills.
	mostUnavailable = 1500 * time.Millisecond
	// killDown and killSettle are how long a killed node stays down, and how long everything runs
	// before the next kill.
	killDown   = 1500 * time.Millisecond
	killSettle = 1500 * time.Millisecond
	// leadersOf10 is how many kills of ten hit the node that leads most.
	leadersOf10 = 7
)

// killRun kills nodes of one region while many writers write, each to the partitions in turn, every
// write to a key of its own.
type killRun struct {
	*stage
	ledger *check.Ledger
	acks   *ackClock
	kills  []killed
}

// killed is one kill -9: between it and the next begins what it did to writes.
type killed struct {
	at, end time.Time
	node    string
	led     []int // partitions
}

// kill plays the scenario of the same name.
func (s *stage) kill(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	r := &killRun{
		stage:  s,
		ledger: check.NewLedger(killPrefix, s.settings.seed, s.settings.clients, killValueBytes),
		acks:   newAckClock(int(s.deployment.partitions)),
	}
	loop, stop := context.WithCancel(ctx)
	defer stop()
	var load errgroup.Group
	began := time.Now()
	for i := range s.settings.clients {
		c, err := client.New(rotated(s.deployment.endpoints(), i))
		if err != nil {
			return err
		}
		defer c.Close()
		load.Go(func() error { r.write(ctx, loop.Done(), c, r.ledger.Writer(i)); return nil })
	}
	err := r.killAll(ctx)
	stop()
	_ = load.Wait() // writers return no errors
	took := time.Since(began)
	if err != nil {
		return err
	}
	return r.judge(ctx, took)
}

// rotated returns the list beginning elsewhere, so that clients do not all begin with the same node.
func rotated(list []string, by int) []string {
	by %= len(list)
	return append(slices.Clone(list[by:]), list[:by]...)
}

// write writes until stop is closed. A write under way is not given up before the client does.
func (r *killRun) write(ctx context.Context, stop <-chan struct{}, c *client.Client, page *check.LedgerWriter) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, key, value := page.Begin()
		_, err := c.Put(ctx, key, value)
		page.End(n, outcomeOf(err))
		if err == nil {
			r.acks.ack(partitionOf(key, r.deployment.partitions))
		}
	}
}

// outcomeOf says what a write's error means.
func outcomeOf(err error) check.Outcome {
	switch {
	case err == nil:
		return check.Done
	case errors.Is(err, client.ErrOutcomeUnknown), errors.Is(err, client.ErrInternal):
		return check.Unknown
	default:
		return check.NotDone
	}
}

func (r *killRun) killAll(ctx context.Context) error {
	if err := pause(ctx, 2*calmTime); err != nil {
		return err
	}
	for n := range r.settings.cycles {
		k, err := r.killOne(ctx)
		if err != nil {
			return fmt.Errorf("kill %d: %w", n, err)
		}
		r.kills = append(r.kills, k)
		worst, p := r.acks.worst(k.at, k.end)
		r.out.note("kill -9 %d: %s, leader of %d; writes to partition %d paused %s", n, k.node, len(k.led), p, ms(worst))
	}
	return nil
}

func (r *killRun) killOne(ctx context.Context) (k killed, err error) {
	status, err := r.deployment.clients[r.deployment.regions[0]].Status(ctx)
	if err != nil {
		return k, err
	}
	led := map[string][]int{}
	for _, p := range status.GetPartitions() {
		led[p.GetLeader()] = append(led[p.GetLeader()], int(p.GetPartition()))
	}
	victim := r.victim(r.random, led)
	k = killed{at: time.Now(), node: victim.name, led: led[victim.name]}
	victim.crash()
	if err := pause(ctx, killDown); err != nil {
		return k, err
	}
	if err := r.deployment.startAll(ctx, []*member{victim}); err != nil {
		return k, err
	}
	err = pause(ctx, killSettle)
	k.end = time.Now()
	return k, err
}

// victim returns mostly the node that leads most, and else any.
func (r *killRun) victim(random *rand.Rand, led map[string][]int) *member {
	members := r.deployment.members
	if random.IntN(10) >= leadersOf10 {
		return members[random.IntN(len(members))]
	}
	return slices.MaxFunc(members, func(a, b *member) int { return len(led[a.name]) - len(led[b.name]) })
}

func (r *killRun) judge(ctx context.Context, took time.Duration) error {
	if err := r.judgePauses(); err != nil {
		return err
	}
	c := r.ledger.Compare(r.ledgerEntries(ctx, killPrefix))
	r.out.figure("writes", "%d acknowledged, %d unknown (%d of them there), %d not done", c.Done, c.Unknown, c.UnknownFound, c.NotDone)
	rate := float64(c.Done) / took.Seconds()
	r.out.figure("acknowledged per second", "%.0f, kills included", rate)
	var tooFew error
	if rate < leastRate {
		tooFew = fmt.Errorf("%.0f: the run says nothing", rate)
	}
	r.out.check(fmt.Sprintf("at least %d writes a second", leastRate), tooFew)
	r.checkLedger(c)
	r.out.check("all nodes have equal vectors and digests", r.nodesEqual(ctx, convergeWithin))
	return nil
}

// judgePauses reports how long writes paused after each kill: in the partition that was hit worst.
func (r *killRun) judgePauses() error {
	var worst, ofLed []time.Duration
	for _, k := range r.kills {
		w, _ := r.acks.worst(k.at, k.end)
		worst = append(worst, w)
		for _, p := range k.led {
			ofLed = append(ofLed, r.acks.gap(p, k.at, k.end))
		}
	}
	if len(worst) == 0 {
		return errors.New("nothing was killed")
	}
	slices.Sort(worst)
	slices.Sort(ofLed)
	p99 := quantile(worst, 0.99)
	r.out.figure("kill -9", "%d", len(worst))
	r.out.figure("writes paused, worst partition of a kill", "p50 %s, p99 %s, max %s", ms(quantile(worst, 0.5)), ms(p99), ms(worst[len(worst)-1]))
	r.out.figure("writes paused, partitions led by the killed", "p50 %s, p99 %s, max %s (%d)",
		ms(quantile(ofLed, 0.5)), ms(quantile(ofLed, 0.99)), ms(quantile(ofLed, 1)), len(ofLed))
	var err error
	if p99 > mostUnavailable {
		err = fmt.Errorf("p99 is %s", ms(p99))
	}
	r.out.check(fmt.Sprintf("99 of 100 kills pause writes to any partition for at most %v", mostUnavailable), err)
	return nil
}

// checkLedger checks what became of the writes of a ledger.
func (s *stage) checkLedger(c *check.Comparison) {
	var lost, phantoms error
	if c.Lost > 0 {
		lost = fmt.Errorf("%d are lost, such as %v", c.Lost, c.LostKeys)
	}
	if c.Phantoms > 0 {
		phantoms = fmt.Errorf("%d, such as %v", c.Phantoms, c.PhantomsExamples)
	}
	s.out.check("no acknowledged write is lost", lost)
	s.out.check("nothing is there that nobody wrote", phantoms)
}

// ledgerEntries yields all that the region holds of a ledger.
func (s *stage) ledgerEntries(ctx context.Context, prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for entry, err := range s.deployment.clients[s.deployment.regions[0]].Scan(ctx, client.ScanOptions{Prefix: prefix}) {
			if err != nil {
				s.out.check("everything can be scanned", err)
				return
			}
			if !yield(entry.Key, entry.Bytes) {
				return
			}
		}
	}
}
