package region

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// LocalQueue keeps writes that this node has acknowledged alone, until Raft has taken them.
type LocalQueue interface {
	// Append adds an encoded WriteCommand. A nil error promises that it is synced to this node's disk,
	// and is submitted again and again, under its position in the queue, until it is applied.
	Append(ctx context.Context, write []byte) (seq uint64, err error)
}

// WriteLocal acknowledges operations as soon as they are synced to this node's disk. The partition
// applies them once each and in the order of this node's queue, when it has a leader that this node
// reaches. They are lost if this node is before that. Operations on a key of another type take effect
// beside it, as if another region had done them: what was acknowledged cannot be refused any more. (A
// counter or a score that would overflow stays as it is, so does a bounded counter that an untyped delete
// finds, and a sorted set or a map that is too large to delete at once.)
//
// Errors after which nothing was done: ErrNotMergeable if an operation has a condition, needs rights to a
// bounded counter or would delete one, ErrBadCommand if it is too large, ErrDiskFull, ctx's own, and the queue's.
func (p *Partition) WriteLocal(ctx context.Context, opID string, ops []replica.Op) error {
	for i := range ops {
		if reason := needsQuorum(&ops[i]); reason != "" {
			return fmt.Errorf("%w: %s", ErrNotMergeable, reason)
		}
	}
	muted := p.muted()
	switch {
	case p.queue == nil:
		return fmt.Errorf("%w: this node keeps no queue of local writes", ErrNotMergeable)
	case p.diskFull():
		return ErrDiskFull
	case muted != nil:
		return muted
	}
	data, err := proto.Marshal(writeCommand(opID, ops).GetWrite())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	if len(data) > maxWriteBytes {
		return fmt.Errorf("%w: write of %d bytes", ErrBadCommand, len(data))
	}
	_, err = p.queue.Append(ctx, data)
	return err
}

// needsQuorum returns why an operation may be refused when it is applied, or "".
func needsQuorum(op *replica.Op) string {
	switch {
	case op.Condition.Kind != replica.CondNone:
		return "it has a condition"
	case op.Kind == replica.OpBoundedDec || op.Kind == replica.OpBoundedTransfer:
		return "the region may lack the rights"
	case op.Kind == replica.OpDelete && op.Type == crdt.TypeBoundedCounter:
		return "a bounded counter cannot be deleted"
	default:
		return ""
	}
}

// SubmitQueued has writes of a node's queue applied, in order. A nil error says that each has been
// judged: applied now or before, or refused for good. Only the leader can.
//
// Errors: *NotLeaderError, ErrOverloaded, ErrShuttingDown, ErrOutcomeUnknown, ErrBadCommand, ErrFenced, ctx's own.
// After any of them, submit the same writes again.
func (p *Partition) SubmitQueued(ctx context.Context, writes [][]byte) error {
	if err := p.leading(); err != nil {
		return err
	}
	if err := p.muted(); err != nil {
		return err
	}
	command := &logv1.QueuedCommand{}
	for _, data := range writes {
		w := &logv1.WriteCommand{}
		if err := proto.Unmarshal(data, w); err != nil || w.GetQueue() == nil {
			return fmt.Errorf("%w: queued write: %v", ErrBadCommand, err)
		}
		command.Writes = append(command.Writes, w)
	}
	r, err := p.batcher.do(ctx, &logv1.Command{Command: &logv1.Command_Queued{Queued: command}})
	if err != nil && r.err != nil && !errors.Is(err, ErrFenced) { // the state machine's own answer
		p.logger.Warn("a local write that was acknowledged could not be applied", "err", err)
		return nil
	}
	return err
}
