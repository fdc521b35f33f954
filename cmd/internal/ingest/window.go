package ingest

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// windowSpan is how many batches may be under way or acknowledged behind the first one that is not;
// it bounds the memory and the checkpoint when one batch waits long.
const windowSpan = 64

// window keeps track of which batches are acknowledged. Batches are acknowledged in any order, with
// one exception: a batch that puts a key waits for those before it that put the same key, so that
// the last record of a key wins.
type window struct {
	mu struct {
		sync.Mutex
		low     int64              // all batches below are acknowledged
		done    map[int64]progress // acknowledged ones from low on
		keys    map[string]int     // keys that batches under way put
		acked   progress           // of all acknowledged batches
		lastLow int64              // Batch.Last of batch low-1
		resumed progress           // what earlier runs acknowledged
		lastOf  map[int64]int64    // Batch.Last of acknowledged batches from low on
	}
	changed chan struct{} // gets a token on every acknowledgement
}

// progress is what acknowledged batches amount to.
type progress struct {
	Batches int64 `json:"batches"`
	Records int64 `json:"records"`
	Refused int64 `json:"refused"` // of Records, those with a write that the server refused
}

func (p *progress) add(o progress) {
	p.Batches += o.Batches
	p.Records += o.Records
	p.Refused += o.Refused
}

func newWindow(c *checkpoint) *window {
	w := &window{changed: make(chan struct{}, 1)}
	w.mu.low, w.mu.lastLow = c.Low, c.Last
	w.mu.done, w.mu.keys, w.mu.lastOf = map[int64]progress{}, map[string]int{}, map[int64]int64{}
	for _, n := range c.Done {
		w.mu.done[n] = progress{}
	}
	w.mu.acked, w.mu.resumed = c.Progress, c.Progress
	return w
}

// acknowledged reports whether an earlier run had the batch acknowledged.
func (w *window) acknowledged(b *Batch) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, done := w.mu.done[b.Number]
	if done {
		w.mu.lastOf[b.Number] = b.Last
		w.advanceLocked()
	}
	return done || b.Number < w.mu.low
}

// enter waits until the batch may be sent.
func (w *window) enter(ctx context.Context, b *Batch) error {
	for !w.tryEnter(b) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.changed:
		}
	}
	return nil
}

func (w *window) tryEnter(b *Batch) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.Number >= w.mu.low+windowSpan {
		return false
	}
	for i := range b.Writes {
		if ordered(&b.Writes[i]) && w.mu.keys[b.Writes[i].Key] > 0 {
			return false
		}
	}
	for i := range b.Writes {
		if ordered(&b.Writes[i]) {
			w.mu.keys[b.Writes[i].Key]++
		}
	}
	return true
}

func ordered(w *Write) bool { return w.Kind == KindPut || w.Kind == KindCounterSet }

// leave takes note of an acknowledged batch.
func (w *window) leave(b *Batch, p progress) {
	w.mu.Lock()
	for i := range b.Writes {
		if !ordered(&b.Writes[i]) {
			continue
		}
		if w.mu.keys[b.Writes[i].Key]--; w.mu.keys[b.Writes[i].Key] == 0 {
			delete(w.mu.keys, b.Writes[i].Key)
		}
	}
	w.mu.done[b.Number], w.mu.lastOf[b.Number] = p, b.Last
	w.mu.acked.add(p)
	w.advanceLocked()
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *window) advanceLocked() {
	for {
		last, known := w.mu.lastOf[w.mu.low]
		if _, done := w.mu.done[w.mu.low]; !done || !known {
			return
		}
		delete(w.mu.done, w.mu.low)
		delete(w.mu.lastOf, w.mu.low)
		w.mu.low++
		w.mu.lastLow = last
	}
}

// progress returns what is acknowledged, earlier runs included, and how much of it these did.
func (w *window) progress() (all, resumed progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.acked, w.mu.resumed
}

// snapshot fills in what a later run needs to know.
func (w *window) snapshot(c *checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.Low, c.Last, c.Progress = w.mu.low, w.mu.lastLow, w.mu.acked
	c.Done = slices.Sorted(maps.Keys(w.mu.done))
}
