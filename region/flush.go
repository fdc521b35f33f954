package region

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/semaphore"
)

// What is applied waits in memory to be written to the state file: so long, unless it is much. The log
// has it meanwhile, and a restart applies it anew.
const (
	flushEvery = 5 * time.Second
	// flushesAtOnce bounds how many partitions of a node write at once, so that the log's own writes
	// need not wait for many.
	flushesAtOnce = 1
)

// flushLoop makes what is applied durable, now and then. places bounds the node's flushes.
func (p *Partition) flushLoop(ctx context.Context, places *semaphore.Weighted) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			// What is left is in the log; writing it now makes the next start shorter.
			return p.flush()
		case <-ticker.C:
		case <-p.machine.store.Full():
		}
		if p.machine.store.Buffered() == 0 {
			continue
		}
		if err := places.Acquire(ctx, 1); err != nil {
			continue // ctx has ended
		}
		err := p.flush()
		places.Release(1)
		if err != nil {
			return err
		}
	}
}

func (p *Partition) flush() error {
	if err := p.machine.Flush(); err != nil {
		return fmt.Errorf("write the state of partition %d: %w", p.id, err)
	}
	return nil
}
