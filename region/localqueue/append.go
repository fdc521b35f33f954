package localqueue

import (
	"context"
	"fmt"

	"github.com/atolldb/atoll/region/raftlog"
)

// groupCommit is the writes of several callers that go to the log together. Whose write is the first
// writes it for all.
type groupCommit struct {
	writes [][]byte
	bytes  int64
	done   chan struct{} // closed when first and err are set
	first  uint64        // sequence number
	err    error
}

// Append queues an encoded WriteCommand, whose position the queue adds, and returns its sequence
// number. A nil error promises that it is synced on this node, and will be submitted until it is
// applied. The caller must not change write any more.
//
// Errors after which nothing was queued: ErrQueueFull, ErrTooLarge. After any other, ctx's included,
// the write may be queued or not.
func (q *Queue) Append(ctx context.Context, write []byte) (number uint64, err error) {
	if len(write) > MaxWriteBytes {
		return 0, fmt.Errorf("%d bytes: %w", len(write), ErrTooLarge)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c, at, err := q.join(write)
	if err != nil {
		return 0, err
	}
	if at == 0 {
		q.commit(c)
		return c.first, c.err
	}
	select {
	case <-c.done:
		return c.first + uint64(at), c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// join puts a write into the open group commit and returns its place there.
func (q *Queue) join(write []byte) (c *groupCommit, at int, err error) {
	size := int64(len(write))
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.writes >= q.cfg.MaxWrites || q.mu.bytes+size > q.cfg.MaxBytes {
		return nil, 0, ErrQueueFull
	}
	q.mu.writes++
	q.mu.bytes += size
	if q.mu.open == nil || q.mu.open.bytes+size > commitBytes {
		q.mu.open = &groupCommit{done: make(chan struct{})}
	}
	c = q.mu.open
	c.writes = append(c.writes, write)
	c.bytes += size
	return c, len(c.writes) - 1, nil
}

// commit writes c to the log. While an earlier one is being written, more callers join c.
func (q *Queue) commit(c *groupCommit) {
	q.turn.Lock()
	defer q.turn.Unlock()
	index := q.closeCommit(c)
	entries := make([]raftlog.Entry, len(c.writes))
	for i, write := range c.writes {
		entries[i] = raftlog.Entry{Index: index + uint64(i), Term: q.generation, Data: write}
	}
	c.first = seq(q.generation, index)
	if index+uint64(len(entries)) > maxIndex {
		c.err = errExhausted
	} else {
		c.err = q.cfg.Log.Append(entries)
	}
	q.committed(c)
	close(c.done)
}

// closeCommit lets nobody join c any more and returns the index of its first write.
func (q *Queue) closeCommit(c *groupCommit) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.open == c {
		q.mu.open = nil
	}
	return q.mu.next
}

func (q *Queue) committed(c *groupCommit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.err != nil {
		q.mu.writes -= len(c.writes)
		q.mu.bytes -= c.bytes
		return
	}
	q.mu.next += uint64(len(c.writes))
	close(q.mu.changed)
	q.mu.changed = make(chan struct{})
}

func seq(generation, index uint64) uint64 { return generation<<indexBits | index }
