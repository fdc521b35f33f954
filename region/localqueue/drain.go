package localqueue

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

const (
	// submitWrites and submitBytes bound a submission of more than one write.
	submitWrites = 256
	submitBytes  = 256 << 10
	// submitTimeout bounds one submission; it is repeated then.
	submitTimeout = 15 * time.Second
	retryFirst    = 20 * time.Millisecond
	retryLast     = 2 * time.Second
	// cutWrites and cutBytes are how much may be applied and still in the log: every cut is a synced
	// write, and what is submitted again after a restart is dropped where it is applied.
	cutWrites = 256
	cutBytes  = 1 << 20
)

// submission is writes at the queue's head.
type submission struct {
	writes [][]byte
	bytes  int64 // as queued
	next   uint64
}

// Run submits what is queued, in order, until ctx ends. It is called once at a time.
// Errors: those of the log.
func (q *Queue) Run(ctx context.Context) error {
	retry, uncut := time.Duration(0), int64(0)
	for ctx.Err() == nil {
		s, changed, err := q.head()
		if err != nil {
			return fmt.Errorf("read local writes: %w", err)
		}
		if len(s.writes) == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		if err := q.submit(ctx, s.writes); err != nil {
			retry = q.backOff(ctx, retry, err)
			continue
		}
		if retry != 0 {
			q.cfg.Logger.Info("local writes reach the partition's leader again")
			retry = 0
		}
		if uncut, err = q.applied(s, uncut+s.bytes); err != nil {
			return fmt.Errorf("trim local writes: %w", err)
		}
	}
	return nil
}

func (q *Queue) submit(ctx context.Context, writes [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	return q.cfg.Submit(ctx, writes)
}

// backOff waits after a failed submission, and returns how long.
func (q *Queue) backOff(ctx context.Context, before time.Duration, cause error) time.Duration {
	if ctx.Err() != nil {
		return before
	}
	if before == 0 {
		q.cfg.Logger.Info("local writes do not reach the partition's leader yet", "err", cause)
	}
	wait := min(max(2*before, retryFirst), retryLast)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return wait
}

// head returns the first writes with their positions, and a channel that is closed when there are
// more.
func (q *Queue) head() (s submission, changed <-chan struct{}, err error) {
	q.mu.Lock()
	first, end, changed := q.mu.first, q.mu.next, q.mu.changed
	q.mu.Unlock()
	for s.next = first; s.next < end && len(s.writes) < submitWrites; s.next++ {
		e, err := q.cfg.Log.Entry(s.next)
		if err != nil {
			return submission{}, nil, err
		}
		if len(s.writes) > 0 && s.bytes+int64(len(e.Data)) > submitBytes {
			break
		}
		write, err := q.positioned(e.Data, seq(e.Term, e.Index))
		if err != nil {
			return submission{}, nil, err
		}
		s.writes = append(s.writes, write)
		s.bytes += int64(len(e.Data))
	}
	return s, changed, nil
}

// positioned returns an encoded WriteCommand with its position. Fields of an encoded message that come
// later count, so that appending one sets it.
func (q *Queue) positioned(write []byte, number uint64) ([]byte, error) {
	position := &logv1.WriteCommand{Queue: &logv1.QueuePosition{Queue: q.number, Seq: number}}
	return proto.MarshalOptions{}.MarshalAppend(write[:len(write):len(write)], position)
}

// applied takes a submission out of the queue. uncut is how much the log still has of what was taken
// out, before and after.
func (q *Queue) applied(s submission, uncut int64) (int64, error) {
	q.mu.Lock()
	q.mu.first = s.next
	q.mu.writes -= len(s.writes)
	q.mu.bytes -= s.bytes
	kept := q.mu.kept
	q.mu.Unlock()
	if s.next-kept < cutWrites && uncut < cutBytes {
		return uncut, nil
	}
	q.cfg.Log.SetDurable(s.next - 1)
	if err := q.cfg.Log.DeleteRange(kept, s.next-1); err != nil {
		return uncut, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.kept = s.next
	return 0, nil
}
