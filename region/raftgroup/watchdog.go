package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// stuckPatience is how long a member may refuse what its leader sends without coming closer to it.
	stuckPatience = 10 * time.Second
	// stuckRefusals is how many refusals that takes at least.
	stuckRefusals = 3
	// restartPatience is how long an instance may take to end.
	restartPatience = 15 * time.Second
)

var errWillNotEnd = errors.New("raft does not end")

// watchdog starts the library anew when it is stuck for good:
//
//   - It can go on refusing every proposal after a transfer of leadership that came to nothing
//     (hashicorp/raft #696).
//   - It can believe in a last entry that a snapshot has replaced, and refuse what the leader sends
//     (#697). If the log sees it, it says so at once.
//
// A disk that hangs is not its business: the log ends the process then, for a leader would go on
// sending heartbeats.
type watchdog struct {
	group    *Group
	restarts chan string // why
	patience time.Duration
	transfer *time.Timer // set by a refused proposal
	append   *time.Timer // set by a refused message of the leader

	swap struct { // while instances are swapped
		sync.Mutex
		closing bool
	}
	mu struct {
		sync.Mutex
		doubting bool // the transfer timer is set
		watching bool // the append timer is set
		moved    bool // since it was set
		refusals int  // since anything moved
		// lowest is one more than the lowest entry that the leader began after, since the last success.
		lowest uint64
		count  int // of restarts
	}
}

func (d *watchdog) init(g *Group) {
	d.group, d.patience = g, stuckPatience
	d.restarts = make(chan string, 1)
	d.transfer = time.AfterFunc(time.Hour, d.checkTransfer)
	d.append = time.AfterFunc(time.Hour, d.checkAppend)
	d.transfer.Stop()
	d.append.Stop()
}

// run restarts what has to be until ctx ends.
func (d *watchdog) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case why := <-d.restarts:
			if err := d.restart(ctx, why); err != nil {
				_ = d.group.fsm.fail(fmt.Errorf("start raft anew: %w", err)) // tells it
			}
		}
	}
}

func (d *watchdog) want(why string) {
	select {
	case d.restarts <- why:
	default:
	}
}

// restart ends the present instance and starts another.
func (d *watchdog) restart(ctx context.Context, why string) error {
	d.swap.Lock()
	defer d.swap.Unlock()
	if d.swap.closing {
		return nil
	}
	g := d.group
	g.logger.Warn("raft is stuck, starting it anew", "reason", why)
	old := g.current.Load()
	stopped := make(chan error, 1)
	go func() { stopped <- old.stop() }()
	patience := time.NewTimer(restartPatience)
	defer patience.Stop()
	select {
	case err := <-stopped:
		if err != nil {
			return err
		}
	case <-patience.C:
		return errWillNotEnd // and two at once would ruin the log
	}
	select {
	case g.notify <- false: // the old one may not have said so
	case <-ctx.Done():
	}
	next, err := g.start()
	if err != nil {
		return err
	}
	g.current.Store(next)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.count++
	d.mu.refusals, d.mu.lowest = 0, 0
	return nil
}

// retire lets no more restarts begin, and returns the last instance.
func (d *watchdog) retire() *instance {
	d.swap.Lock()
	defer d.swap.Unlock()
	d.swap.closing = true
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.doubting, d.mu.watching = true, true // no timer is set any more
	d.transfer.Stop()
	d.append.Stop()
	return d.group.current.Load()
}

// refused notes that a proposal was refused because of a transfer of leadership.
func (d *watchdog) refused() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mu.doubting {
		d.mu.doubting = true
		d.transfer.Reset(2 * d.group.conf.ElectionTimeout)
	}
}

// checkTransfer asks again, long after any transfer has ended.
func (d *watchdog) checkTransfer() {
	d.mu.Lock()
	d.mu.doubting = false
	d.mu.Unlock()
	now := d.group.current.Load()
	if now.raft.State() != raft.Leader {
		return
	}
	err := now.await(nil, func(r *raft.Raft) error { return r.Barrier(enqueueTimeout).Error() })
	if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		d.want("a leadership transfer does not end")
	}
}

// appended notes how this member answered its leader.
func (d *watchdog) appended(request *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case answer.Success:
		d.mu.moved, d.mu.refusals, d.mu.lowest = true, 0, 0
	case answer.Term != request.Term: // not its leader
	case answer.NoRetryBackoff && (d.mu.lowest == 0 || request.PrevLogEntry+1 < d.mu.lowest):
		// The leader looks for where the logs agree, an entry at a time.
		d.mu.moved, d.mu.refusals, d.mu.lowest = true, 0, request.PrevLogEntry+1
	default:
		d.mu.refusals++
		if !d.mu.watching {
			d.mu.watching, d.mu.moved = true, false
			d.append.Reset(d.patience)
		}
	}
}

// checkAppend looks whether anything has moved since a refusal. The leader tries ever more rarely, so
// refusals count from long before.
func (d *watchdog) checkAppend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.watching = false
	if !d.mu.moved && d.mu.refusals >= stuckRefusals {
		d.mu.refusals = 0
		d.want("it refuses what the leader sends")
	}
}
