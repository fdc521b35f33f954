package region

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/hlc"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// A batch is flushed when an entry is in flight no more, with what waits by then: at most this much,
// or one request alone. Nothing ever waits for a timer.
const (
	batchCommands = 256
	batchBytes    = 256 << 10
	// proposalsInFlight is how many entries of a partition may be on their way. While one is being
	// synced, the next gathers commands.
	proposalsInFlight = 1
	// More than this waiting, and new work is refused.
	queueBytes    = 16 << 20
	queueCommands = 16384
)

// request is one command that waits to be proposed and applied.
type request struct {
	command *logv1.Command
	// abandoned returns an error once the caller has given up: the request is not proposed then, if it
	// still waits.
	abandoned func() error
	size      int
	// done gets exactly one answer unless the request is withdrawn. It must not block.
	done  func(answer)
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

// batcher packs waiting commands of one partition into Raft entries.
type batcher struct {
	proposer uint64 // names this process, so that an entry of an earlier life is not mistaken for ours
	machine  *Machine
	group    Group
	clock    *hlc.Clock
	// shipsNowhere says that no other region needs the deltas of an entry.
	shipsNowhere bool
	// clockSafe returns why the clock must not be used now, or nil.
	clockSafe func() error
	work      chan struct{} // has room for one: there is something in the queue

	mu struct {
		sync.Mutex
		queue  []*request
		bytes  int
		flying map[proposalID][]*request
		closed bool
	}
	proposal uint64        // the last one's number; Run's alone
	places   chan struct{} // holds one for each proposal on its way
}

func newBatcher(proposer uint64, machine *Machine, group Group, clock *hlc.Clock) *batcher {
	b := &batcher{
		proposer: proposer, machine: machine, group: group, clock: clock,
		clockSafe: func() error { return nil },
		work:      make(chan struct{}, 1), places: make(chan struct{}, proposalsInFlight),
	}
	b.mu.flying = map[proposalID][]*request{}
	return b
}

// do proposes a command and waits for its result. The error is ErrOverloaded, ErrShuttingDown,
// *ClockUnsafeError, NotLeaderError or ctx's if nothing was done, and ErrOutcomeUnknown if the command may yet be
// applied.
func (b *batcher) do(ctx context.Context, command *logv1.Command) (result, error) {
	reply := make(chan answer, 1)
	r := &request{abandoned: ctx.Err, command: command, done: func(a answer) { reply <- a }}
	if err := b.enqueue(r); err != nil {
		return result{}, err
	}
	select {
	case a := <-reply:
		return a.result, a.err
	case <-ctx.Done():
		if b.withdraw(r) {
			return result{}, ctx.Err()
		}
		return result{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// enqueue adds a request to the queue. If it returns an error, nothing was done and done is not
// called.
func (b *batcher) enqueue(r *request) error {
	r.size = proto.Size(r.command)
	if r.size > maxCommandBytes {
		return fmt.Errorf("%w: command of %d bytes", ErrBadCommand, r.size)
	}
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
	b.signal()
	return nil
}

func (b *batcher) signal() {
	select {
	case b.work <- struct{}{}:
	default:
	}
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

// take removes the next batch from the queue, and those that their callers have given up.
func (b *batcher) take() (batch, late []*request) {
	b.mu.Lock()
	defer b.mu.Unlock()
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
		if r.abandoned() != nil {
			late = append(late, r)
			continue
		}
		size += r.size
		batch = append(batch, r)
	}
	clear(b.mu.queue[:taken])
	b.mu.queue = b.mu.queue[taken:]
	if len(b.mu.queue) > 0 {
		b.signal()
	} else {
		b.mu.queue = nil
	}
	return batch, late
}

// Run proposes batches until ctx ends. What waits then is refused, and what is on its way has an
// unknown outcome.
func (b *batcher) Run(ctx context.Context) error {
	defer b.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case b.places <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.work:
		}
		runtime.Gosched() // who is about to queue something goes first, and shares the entry
		batch, late := b.take()
		for _, r := range late {
			r.done(answer{err: r.abandoned()})
		}
		if len(batch) == 0 {
			<-b.places
			continue
		}
		b.propose(batch)
	}
}

func (b *batcher) close() {
	b.mu.Lock()
	b.mu.closed = true
	queue := b.mu.queue
	b.mu.queue = nil
	var waiting []*request
	for _, r := range queue {
		if r.state == requestWaiting {
			r.state = requestProposed
			waiting = append(waiting, r)
		}
	}
	flying := slices.Collect(maps.Keys(b.mu.flying))
	b.mu.Unlock()
	for _, r := range waiting {
		r.done(answer{err: ErrShuttingDown})
	}
	for _, id := range flying {
		b.fail(id, ErrOutcomeUnknown)
	}
}

// propose has one batch committed and applied. The answers come from the state machine, which has them
// sooner than Raft tells that the entry is applied.
func (b *batcher) propose(batch []*request) {
	if err := b.clockSafe(); err != nil {
		<-b.places
		for _, r := range batch {
			r.done(answer{err: err})
		}
		return
	}
	commands := make([]*logv1.Command, len(batch))
	for i, r := range batch {
		commands[i] = r.command
	}
	id, data, err := b.entry(commands)
	b.mu.Lock()
	b.mu.flying[id] = batch
	b.mu.Unlock()
	b.machine.expect(id, func(results []result) { b.land(id, results, nil) })
	if err != nil {
		b.fail(id, fmt.Errorf("%w: %w", ErrBadCommand, err))
		return
	}
	b.group.ProposeAsync(data, func(err error) { b.fail(id, b.outcome(err)) })
}

// entry makes the next proposal, of commands.
func (b *batcher) entry(commands []*logv1.Command) (proposalID, []byte, error) {
	b.proposal++
	id := proposalID{b.proposer, b.proposal}
	data, err := proto.Marshal(&logv1.LogEntry{
		Proposer: id.proposer, Proposal: id.proposal, Hlc: uint64(b.clock.Now()), ShipsNowhere: b.shipsNowhere,
		Commands: commands,
	})
	return id, data, err
}

// fail answers a proposal that the state machine has not answered, and will not.
func (b *batcher) fail(id proposalID, err error) {
	if b.machine.claim(id) != nil {
		b.land(id, nil, err)
	}
}

// land answers every request of a proposal, and makes room for the next. Only who has claimed the
// proposal may call it.
func (b *batcher) land(id proposalID, results []result, err error) {
	b.mu.Lock()
	batch := b.mu.flying[id]
	delete(b.mu.flying, id)
	b.mu.Unlock()
	<-b.places
	for i, r := range batch {
		switch {
		case err != nil:
			r.done(answer{err: err})
		case i < len(results):
			r.done(answer{result: results[i], err: results[i].err})
		default:
			r.done(answer{err: ErrOutcomeUnknown})
		}
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
