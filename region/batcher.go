package region

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// A batch is flushed when the previous one has been applied, with what waits by then: at most this
// much, or one request alone. Nothing ever waits for a timer.
const (
	batchCommands = 256
	batchBytes    = 256 << 10
	// More than this waiting, and new work is refused.
	queueBytes    = 32 << 20
	queueCommands = 16384
)

// request is one command that waits to be proposed and applied.
type request struct {
	command *logv1.Command
	size    int
	// reply has room for one answer, and gets exactly one unless the request is withdrawn.
	reply chan answer
	state requestState // guarded by batcher.mu
}

type requestState uint8

const (
	requestWaiting requestState = iota
	requestProposed
	requestWithdrawn
)

type answer struct {
	result result
	err    error // why there is no result
}

// batcher packs waiting commands of one partition into Raft entries, one entry at a time.
type batcher struct {
	proposer uint64 // names this process, so that an entry of an earlier life is not mistaken for ours
	machine  *Machine
	group    Group
	clock    *hlc.Clock
	work     chan struct{} // has room for one: there is something in the queue

	mu struct {
		sync.Mutex
		queue  []*request
		bytes  int
		closed bool
	}
	proposal uint64 // the last one's number; Run's alone
}

func newBatcher(proposer uint64, machine *Machine, group Group, clock *hlc.Clock) *batcher {
	return &batcher{proposer: proposer, machine: machine, group: group, clock: clock, work: make(chan struct{}, 1)}
}

// do proposes a command and waits for its result. The error is ErrOverloaded, ErrShuttingDown,
// NotLeaderError or ctx's if nothing was done, and ErrOutcomeUnknown if the command may yet be
// applied.
func (b *batcher) do(ctx context.Context, command *logv1.Command) (result, error) {
	r := &request{command: command, size: proto.Size(command), reply: make(chan answer, 1)}
	if r.size > maxEntryBytes/2 {
		return result{}, fmt.Errorf("%w: command of %d bytes", ErrBadCommand, r.size)
	}
	if err := b.enqueue(r); err != nil {
		return result{}, err
	}
	select {
	case a := <-r.reply:
		return a.result, a.err
	case <-ctx.Done():
		if b.withdraw(r) {
			return result{}, ctx.Err()
		}
		return result{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

func (b *batcher) enqueue(r *request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.mu.closed:
		return ErrShuttingDown
	case len(b.mu.queue) >= queueCommands, len(b.mu.queue) > 0 && b.mu.bytes+r.size > queueBytes:
		return ErrOverloaded
	}
	b.mu.queue = append(b.mu.queue, r)
	b.mu.bytes += r.size
	select {
	case b.work <- struct{}{}:
	default:
	}
	return nil
}

// withdraw takes a request back, and reports whether it was still waiting.
func (b *batcher) withdraw(r *request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.state != requestWaiting {
		return false
	}
	r.state = requestWithdrawn
	return true
}

// take removes the next batch from the queue.
func (b *batcher) take() []*request {
	b.mu.Lock()
	defer b.mu.Unlock()
	var batch []*request
	size, taken := 0, 0
	for _, r := range b.mu.queue {
		if len(batch) == batchCommands || (len(batch) > 0 && size+r.size > batchBytes) {
			break
		}
		taken++
		b.mu.bytes -= r.size
		if r.state == requestWithdrawn {
			continue
		}
		r.state = requestProposed
		size += r.size
		batch = append(batch, r)
	}
	clear(b.mu.queue[:taken])
	b.mu.queue = b.mu.queue[taken:]
	if len(b.mu.queue) > 0 {
		select {
		case b.work <- struct{}{}:
		default:
		}
	} else {
		b.mu.queue = nil
	}
	return batch
}

// Run proposes batches until ctx ends. What waits then is refused.
func (b *batcher) Run(ctx context.Context) error {
	defer b.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.work:
			if batch := b.take(); len(batch) > 0 {
				b.propose(ctx, batch)
			}
		}
	}
}

func (b *batcher) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	for _, r := range b.mu.queue {
		if r.state == requestWaiting {
			r.state = requestProposed
			r.reply <- answer{err: ErrShuttingDown}
		}
	}
	b.mu.queue = nil
}

// propose has one batch committed and applied, and answers every request in it.
func (b *batcher) propose(ctx context.Context, batch []*request) {
	b.proposal++
	id := proposalID{b.proposer, b.proposal}
	entry := &logv1.LogEntry{Proposer: id.proposer, Proposal: id.proposal, Hlc: uint64(b.clock.Now())}
	for _, r := range batch {
		entry.Commands = append(entry.Commands, r.command)
	}
	data, err := proto.Marshal(entry)
	if err != nil {
		answerAll(batch, nil, fmt.Errorf("%w: %w", ErrBadCommand, err))
		return
	}
	results := make(chan []result, 1)
	b.machine.expect(id, results)
	defer b.machine.forsake(id)
	err = b.outcome(b.group.Propose(ctx, data))
	select {
	case r := <-results: // applied, whatever Propose says
		answerAll(batch, r, nil)
	default:
		answerAll(batch, nil, err)
	}
}

// outcome turns what Propose said of an entry that this node's machine did not answer into what its
// requests are told: that nothing was done, or that nobody knows.
func (b *batcher) outcome(err error) error {
	switch {
	case errors.Is(err, ErrNotLeader):
		leader, _, _ := b.group.Leader()
		return &NotLeaderError{Leader: leader}
	case errors.Is(err, ErrOverloaded), errors.Is(err, ErrShuttingDown), errors.Is(err, ErrOutcomeUnknown):
		return err
	case err == nil: // committed, but the machine skipped the entry
		return ErrOutcomeUnknown
	default:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

func answerAll(batch []*request, results []result, err error) {
	for i, r := range batch {
		switch {
		case err != nil:
			r.reply <- answer{err: err}
		case i < len(results):
			r.reply <- answer{result: results[i], err: results[i].err}
		default:
			r.reply <- answer{err: ErrOutcomeUnknown}
		}
	}
}
