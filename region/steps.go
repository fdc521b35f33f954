package region

import (
	"errors"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
	"github.com/atolldb/atoll/topology"
)

// Steps is a partition without its goroutines: it makes the commands that the partition's leader would
// propose, and the log entries that hold them, and leaves to its owner when, whether and in which order
// they are committed. It is for simulations, which must not depend on a scheduler: Partition.Run must not
// be called. It belongs to one goroutine.
//
// Where a method returns no command, and no error, there is nothing to propose.
type Steps struct {
	p     *Partition
	ticks tickTimer
}

// NewSteps returns the steps of a partition that does not run, of which its owner says by its Group
// whether this node leads.
func NewSteps(p *Partition) *Steps { return &Steps{p: p} }

// Write is Partition.Write up to its proposal.
func (s *Steps) Write(opID string, ops []replica.Op) (*logv1.Command, error) {
	if err := s.p.writable(); err != nil {
		return nil, err
	}
	return writeCommand(opID, ops), nil
}

// Merge is Partition.Merge up to its proposal.
func (s *Steps) Merge(actor crdt.Actor, deltas [][]byte) (*logv1.Command, error) {
	return s.p.mergeCommand(actor, deltas)
}

// Acknowledge is Partition.Acknowledge up to its proposal.
func (s *Steps) Acknowledge(marks []Watermark) (*logv1.Command, error) {
	return s.p.acknowledgeCommand(marks)
}

// Expire returns what a leader proposes once a second, if something has expired and its region takes writes.
func (s *Steps) Expire() (*logv1.Command, error) {
	if s.p.muted() != nil {
		return nil, nil
	}
	return s.p.expireCommand()
}

// Tick returns what a leader proposes once a second, if other regions have waited for it long enough, and its region takes
// writes.
func (s *Steps) Tick() *logv1.Command {
	if s.p.muted() != nil {
		return nil
	}
	return s.p.tickCommand(&s.ticks)
}

// TakeMembership is Partition.TakeMembership up to its proposal.
func (s *Steps) TakeMembership(f Facts) *logv1.Command { return s.p.membershipCommand(f) }

// BeginResync, ResyncChunk, ResyncWrites, EndResync and AbandonResync are the Partition's up to their proposals.
func (s *Steps) BeginResync(id uint64, donor []byte) (*logv1.Command, error) {
	return s.resync(s.p.beginResyncCommand(id, donor))
}

// ResyncChunk is described at BeginResync.
func (s *Steps) ResyncChunk(id uint64, chunk []byte) (*logv1.Command, error) {
	return s.resync(&logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_Chunk{Chunk: chunk}}, nil)
}

// ResyncWrites is described at BeginResync.
func (s *Steps) ResyncWrites(id uint64, writes []byte) (*logv1.Command, error) {
	return s.resync(s.p.resyncWritesCommand(id, writes))
}

// EndResync is described at BeginResync.
func (s *Steps) EndResync(id uint64) (*logv1.Command, error) {
	return s.resync(&logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_End{End: true}}, nil)
}

// AbandonResync is described at BeginResync.
func (s *Steps) AbandonResync(id uint64) (*logv1.Command, error) {
	return s.resync(&logv1.ResyncCommand{Id: id, Step: &logv1.ResyncCommand_Abandon{Abandon: true}}, nil)
}

func (s *Steps) resync(c *logv1.ResyncCommand, err error) (*logv1.Command, error) {
	if err == nil {
		err = s.p.leading()
	}
	return &logv1.Command{Command: &logv1.Command_Resync{Resync: c}}, err
}

// Readmit is Partition.Readmit, of everything from now on, up to its proposal.
func (s *Steps) Readmit(r topology.RegionID) *logv1.Command {
	return readmitCommand(r, s.p.machine.View().Outbox.Head)
}

// KeepOutbox does what a leader does for its outbox once a second up to the first proposal: it trims, folds or evicts. The
// outcome of a fold is for its owner to tell the folder. more says that there may be more to do at once, after the command
// if there is one.
func (s *Steps) KeepOutbox(f *OutboxFolder) (command *logv1.Command, more bool, err error) {
	more, err = s.p.keepOutboxStep(f, func(c *logv1.Command) error {
		command = c
		return errProposed
	})
	if errors.Is(err, errProposed) {
		return command, true, nil
	}
	return command, more, err
}

// errProposed ends a step that is made of several proposals after the first.
var errProposed = errors.New("proposed")

// Partition returns the partition, for its views and reads, which need no goroutines.
func (s *Steps) Partition() *Partition { return s.p }

// Proposal names one entry that some node has proposed.
type Proposal struct{ id proposalID }

// Entry returns the payload of a log entry of commands, stamped with this node's clock.
func (s *Steps) Entry(commands []*logv1.Command) (Proposal, []byte, error) {
	id, data, err := s.p.batcher.entry(commands)
	return Proposal{id}, data, err
}

// StepResult is what one command of an entry answered.
type StepResult struct {
	// Outcomes has one entry per operation of a write; Repeated says that they were remembered.
	Outcomes []replica.Outcome
	Repeated bool
	// Applied is the actor's sequence number that a merge reached.
	Applied uint64
	// Err says why nothing was done.
	Err error
}

// Expect has reply called with the results of an entry's commands when this node's machine applies it,
// whoever proposed it.
func (s *Steps) Expect(proposal Proposal, reply func([]StepResult)) {
	s.p.machine.expect(proposal.id, func(results []result) {
		steps := make([]StepResult, len(results))
		for i, r := range results {
			steps[i] = StepResult{Outcomes: r.outcomes, Repeated: r.repeated, Applied: r.applied, Err: r.err}
		}
		reply(steps)
	})
}

// Forget takes back Expect.
func (s *Steps) Forget(proposal Proposal) { s.p.machine.claim(proposal.id) }
