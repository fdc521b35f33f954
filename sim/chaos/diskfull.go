package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/sim/check"
)

const (
	diskPrefix  = "disk/"
	diskMiB     = 512 // of each node's file system
	diskFreeMiB = 128 // below which a node takes no writes
	// diskNotice is how long a node may take to see that its disk is full, diskResume how long writes
	// may take to go on when there is room again.
	diskNotice = 3 * time.Second
	diskResume = 10 * time.Second
	diskWrites = 100 // bytes of a value
	ballast    = "ballast"
)

// diskRun fills the disks of nodes, each a file system of its own in memory, while clients write
// and read.
type diskRun struct {
	*stage
	ledger *check.Ledger
	acks   *ackClock

	mu struct {
		sync.Mutex
		known    []string // keys that are there
		refused  int      // with DISK_FULL
		others   faults   // writes that failed in any other way
		unread   faults
		reads    int
		ignoring bool // while a node may end
	}
}

// mountDisks gives each node a small file system of its own for its data.
func (d *deployment) mountDisks(context.Context) error {
	for _, m := range d.members {
		at := m.disk()
		if err := os.MkdirAll(at, 0o700); err != nil {
			return err
		}
		if err := syscall.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%dm", diskMiB)); err != nil {
			return fmt.Errorf("mount a file system on %s, which takes root: %w", at, err)
		}
		d.cleanups = append(d.cleanups, func() error { return syscall.Unmount(at, syscall.MNT_DETACH) })
		m.config.DataDir = filepath.Join(at, "data")
		m.config.MinFreeMib = diskFreeMiB
	}
	return nil
}

// disk returns where the member's file system is mounted.
func (m *member) disk() string { return m.configFile + ".disk" }

// fill leaves so much room on a member's disk, whatever the member writes meanwhile.
func (m *member) fill(leaveMiB uint64) error {
	f, err := os.OpenFile(filepath.Join(m.disk(), ballast), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for range 100 {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(m.disk(), &fs); err != nil {
			return err
		}
		surplus := int64(fs.Bavail)*fs.Bsize - int64(leaveMiB<<20)
		if surplus <= 0 {
			return nil
		}
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, surplus); {
		case err == nil:
			size += surplus
		case !errors.Is(err, syscall.ENOSPC):
			return err
		}
	}
	return nil // as full as it gets: what was left over goes to and fro
}

func (m *member) empty() error { return os.RemoveAll(filepath.Join(m.disk(), ballast)) }

// diskFull plays the scenario of the same name.
func (s *stage) diskFull(ctx context.Context) error {
	if err := s.deployment.startAll(ctx, s.deployment.members); err != nil {
		return err
	}
	r := &diskRun{
		stage: s, acks: newAckClock(int(s.deployment.partitions)),
		ledger: check.NewLedger(diskPrefix, s.settings.seed, s.settings.clients, diskWrites),
	}
	c, err := client.New(s.deployment.endpoints(), client.WithAttemptTimeout(attemptTime))
	if err != nil {
		return err
	}
	defer c.Close()
	loop, stop := context.WithCancel(ctx)
	defer stop()
	var load errgroup.Group
	for i := range s.settings.clients {
		load.Go(func() error { r.write(ctx, loop.Done(), c, r.ledger.Writer(i)); return nil })
		random := rand.New(rand.NewPCG(s.settings.seed, uint64(i)+1))
		load.Go(func() error { r.read(ctx, loop.Done(), c, random); return nil })
	}
	err = r.phases(ctx)
	stop()
	_ = load.Wait() // clients return no errors
	if err != nil {
		return err
	}
	r.judge(ctx)
	return nil
}

func (r *diskRun) write(ctx context.Context, stop <-chan struct{}, c *client.Client, page *check.LedgerWriter) {
	for {
		if stopped, err := pauseUnless(ctx, stop, 5*time.Millisecond); stopped || err != nil {
			return
		}
		n, key, value := page.Begin()
		_, err := c.Put(ctx, key, value)
		page.End(n, outcomeOf(err))
		if err == nil {
			r.acks.ack(partitionOf(key, r.deployment.partitions))
		}
		r.note(key, err)
	}
}

func (r *diskRun) note(key string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, typed := errors.AsType[*client.Error](err)
	switch {
	case err == nil:
		r.mu.known = append(r.mu.known, key)
	case typed && e.Reason == client.ReasonDiskFull:
		r.mu.refused++
	case !r.mu.ignoring:
		r.mu.others.add("%s: %w", key, err)
	}
}

func (r *diskRun) read(ctx context.Context, stop <-chan struct{}, c *client.Client, random *rand.Rand) {
	for {
		if stopped, err := pauseUnless(ctx, stop, 5*time.Millisecond); stopped || err != nil {
			return
		}
		r.mu.Lock()
		key := ""
		if len(r.mu.known) > 0 {
			key = r.mu.known[random.IntN(len(r.mu.known))]
		}
		r.mu.Unlock()
		if key == "" {
			continue
		}
		_, err := c.Get(ctx, key)
		r.mu.Lock()
		if r.mu.reads++; err != nil && !r.mu.ignoring {
			r.mu.unread.add("%w", err)
		}
		r.mu.Unlock()
	}
}

// phases fills one disk, then all, and then one to the last byte.
func (r *diskRun) phases(ctx context.Context) error {
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	leader, led, err := r.leader(ctx, r.deployment.regions[0])
	if err != nil {
		return err
	}
	r.out.note("the disk of %s, leader of %d, is filled up to %d MiB", leader.name, led, diskFreeMiB/2)
	if err := r.phase(ctx, "one disk is full", []*member{leader}); err != nil {
		return err
	}
	r.out.note("all disks are filled up to %d MiB", diskFreeMiB/2)
	if err := r.phase(ctx, "all disks are full", r.deployment.members); err != nil {
		return err
	}
	return r.toTheLastByte(ctx, leader)
}

// phase fills disks below the reserve, looks, and empties them.
func (r *diskRun) phase(ctx context.Context, name string, full []*member) error {
	for _, m := range full {
		if err := m.fill(diskFreeMiB / 2); err != nil {
			return err
		}
	}
	if err := pause(ctx, diskNotice); err != nil {
		return err
	}
	before, begin := r.totals(), time.Now()
	if err := pause(ctx, r.settings.duration); err != nil {
		return err
	}
	after, end := r.totals(), time.Now()
	r.out.figure(name, "in %s %d writes acknowledged, %d refused with DISK_FULL, %d reads",
		ms(end.Sub(begin)), after.acked-before.acked, after.refused-before.refused, after.reads-before.reads)
	var err error
	switch {
	case after.refused == before.refused:
		err = errors.New("no write is refused with DISK_FULL")
	case len(full) == len(r.deployment.members) && after.acked != before.acked:
		err = fmt.Errorf("%d writes are taken", after.acked-before.acked)
	case len(full) < len(r.deployment.members) && after.acked == before.acked:
		err = errors.New("no partition takes writes")
	}
	r.out.check(name+": writes are refused where there is no room, and only there", err)
	if err = nil; after.reads == before.reads {
		err = errors.New("there are none")
	}
	r.out.check(name+": reads go on", err)
	for _, m := range full {
		if err := m.empty(); err != nil {
			return err
		}
	}
	began := time.Now()
	err = r.awaitAllPartitions(ctx)
	r.out.figure(name+", and is emptied", "all partitions take writes after %s", ms(time.Since(began)))
	r.out.check(name+": writing resumes by itself", err)
	return nil
}

type diskTotals struct{ acked, refused, reads int }

func (r *diskRun) totals() diskTotals {
	acked := r.acks.total()
	r.mu.Lock()
	defer r.mu.Unlock()
	return diskTotals{acked, r.mu.refused, r.mu.reads}
}

// awaitAllPartitions waits until every partition has acknowledged a write that came after now.
func (r *diskRun) awaitAllPartitions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, diskResume)
	defer cancel()
	before := r.acks.counts()
	return until(ctx, 20*time.Millisecond, func(context.Context) (bool, error) {
		for p, n := range r.acks.counts() {
			if n <= before[p] {
				return false, nil
			}
		}
		return true, nil
	})
}

// toTheLastByte takes what the reserve has left: the node may end by itself, must not damage anything,
// and comes back when there is room.
func (r *diskRun) toTheLastByte(ctx context.Context, m *member) error {
	r.mu.Lock()
	r.mu.ignoring = true
	r.mu.Unlock()
	r.out.note("the disk of %s is filled to the last byte", m.name)
	if err := errors.Join(m.fill(0), pause(ctx, r.settings.duration), m.empty()); err != nil {
		return err
	}
	how := "goes on"
	if !m.process.running() {
		how = fmt.Sprintf("has ended: %v", m.process.err)
		m.retire()
		if err := r.deployment.startAll(ctx, []*member{m}); err != nil {
			return err
		}
	}
	r.out.figure("the disk filled to the last byte", "the node %s", how)
	r.out.check("all partitions take writes after the last byte was taken", r.awaitAllPartitions(ctx))
	return nil
}

func (r *diskRun) judge(ctx context.Context) {
	c := r.ledger.Compare(r.ledgerEntries(ctx, diskPrefix))
	r.out.figure("writes", "%d acknowledged, %d unknown (%d of them there), %d not done", c.Done, c.Unknown, c.UnknownFound, c.NotDone)
	r.checkLedger(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.check("every write is acknowledged or refused with DISK_FULL", r.mu.others.err())
	r.out.check("every read is answered", r.mu.unread.err())
	r.out.check("all nodes have equal vectors and digests", r.nodesEqual(ctx, convergeWithin))
}
