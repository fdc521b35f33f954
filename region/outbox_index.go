package region

import (
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt/replica"
)

// outboxIndex knows roughly where in the outbox its bytes are, so that it is cheap to tell how many come after
// an event. It is in memory only, and safe for concurrent use.
type outboxIndex struct {
	mu struct {
		sync.Mutex
		// blocks are contiguous and ascending.
		blocks []outboxBlock
	}
}

// outboxBlock sums up pairs that follow each other, up to that of last.
type outboxBlock struct {
	last  uint64
	bytes uint64
	pairs int
}

// A block is full when it has either.
const (
	blockBytes = 64 << 10
	blockPairs = 1024
)

// loadOutboxIndex reads what the outbox has.
func loadOutboxIndex(kv replica.KV, bounds outboxBounds) (*outboxIndex, error) {
	x := &outboxIndex{}
	err := scanOutbox(kv, bounds.trimmed+1, func(p *outboxPair) (bool, error) {
		x.put(p.seq, p.size)
		return true, nil
	})
	return x, err
}

// put adds a pair of size bytes: at the end.
func (x *outboxIndex) put(seq, size uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.mu.blocks); n > 0 && x.mu.blocks[n-1].bytes < blockBytes && x.mu.blocks[n-1].pairs < blockPairs {
		b := &x.mu.blocks[n-1]
		b.last, b.bytes, b.pairs = seq, b.bytes+size, b.pairs+1
		return
	}
	x.mu.blocks = append(x.mu.blocks, outboxBlock{last: seq, bytes: size, pairs: 1})
}

// remove takes a pair away.
func (x *outboxIndex) remove(seq, size uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := x.findLocked(seq)
	if i == len(x.mu.blocks) {
		return
	}
	b := &x.mu.blocks[i]
	b.bytes -= min(b.bytes, size)
	if b.pairs--; b.pairs == 0 {
		x.mu.blocks = slices.Delete(x.mu.blocks, i, i+1)
	}
}

// resize tells that a pair has another size now.
func (x *outboxIndex) resize(seq, from, to uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := x.findLocked(seq); i < len(x.mu.blocks) {
		b := &x.mu.blocks[i]
		b.bytes = b.bytes - min(b.bytes, from) + to
	}
}

// findLocked returns the block that an event is in.
func (x *outboxIndex) findLocked(seq uint64) int {
	i, _ := slices.BinarySearchFunc(x.mu.blocks, seq, func(b outboxBlock, seq uint64) int {
		if b.last < seq {
			return -1
		}
		return 1
	})
	return i
}

// after returns how many bytes come after an event: never too few, and at most one block or one run too many.
func (x *outboxIndex) after(seq uint64) (bytes uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := len(x.mu.blocks) - 1; i >= 0 && x.mu.blocks[i].last > seq; i-- {
		bytes += x.mu.blocks[i].bytes
	}
	return bytes
}
