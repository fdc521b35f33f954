package region

import (
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

// FoldBounds say what an OutboxFolder folds, and how much at once.
type FoldBounds struct {
	// FromBytes is the size of an outbox below which nothing is folded.
	FromBytes uint64
	// The newest entries stay as they are: so much, so many, and so long. Who keeps up reads them soon.
	KeepBytes, KeepEvents uint64
	KeepAge               time.Duration
	// A window is what is folded together for the first time.
	WindowBytes uint64
	WindowPairs int
	// InputBytes and InputPairs bound what one fold reads, and so what is taken out of the outbox at once.
	InputBytes uint64
	InputPairs int
	// RunBytes bounds a run: it is merged whole, as the largest write of a client is.
	RunBytes int
}

// DefaultFoldBounds returns what partitions that run use.
func DefaultFoldBounds() FoldBounds {
	return FoldBounds{
		FromBytes: 512 << 10, KeepBytes: 256 << 10, KeepEvents: 1024, KeepAge: 5 * time.Second,
		WindowBytes: 256 << 10, WindowPairs: 2048, InputBytes: 6 << 20, InputPairs: 8192, RunBytes: 4 << 20,
	}
}

// OutboxFolder decides, at a partition's leader, which entries of the outbox a run should replace, and makes the run.
// It is a step function and used by one goroutine at a time.
//
// It reads the outbox once from the beginning, window by window, and keeps what it read as a stack of segments. A
// window is folded with the segments on top that are much smaller. When the two on top are of like size they become
// one. A fold is only proposed if it makes much of its input superfluous; if not, the entries stay, and the segments
// are one nevertheless. So each entry is read a few times, as in a log-structured merge tree of tiers, whether folding
// pays or not, and never again once its segment is as large as a fold may be.
type OutboxFolder struct {
	machine *Machine
	bounds  FoldBounds
	// cursor is the last event that was looked at.
	cursor uint64
	// segments follow each other up to cursor, and shrink towards it.
	segments []segment
	// proposed is what the segment on top becomes if the run that was made of it is applied.
	proposed segment
	counts   FoldCounts
}

// FoldCounts counts what an OutboxFolder did.
type FoldCounts struct {
	// Folds were applied, Vain were not worth it. Read and Written are the bytes of all that was tried, and of what was
	// applied.
	Folds, Vain, Read, Written uint64
}

// segment is entries that follow each other: one run, or what did not pay to be one.
type segment struct {
	first, last uint64
	bytes       uint64
	pairs       int
}

func (s segment) with(later segment) segment {
	return segment{s.first, later.last, s.bytes + later.bytes, s.pairs + later.pairs}
}

// tooLarge reports whether a segment is more than one fold may read.
func (f *OutboxFolder) tooLarge(s segment) bool {
	return s.bytes > f.bounds.InputBytes || s.pairs > f.bounds.InputPairs
}

// NewOutboxFolder returns a folder that has seen nothing. A new leader needs a new one.
func NewOutboxFolder(m *Machine, b FoldBounds) *OutboxFolder {
	return &OutboxFolder{machine: m, bounds: b}
}

// Counts returns what was done so far.
func (f *OutboxFolder) Counts() FoldCounts { return f.counts }

// Step tries one fold, if something is old enough at now, and returns the command that does it: nil if there is none, or
// it is not worth it. The caller has it applied, and calls Done before the next step. more says that another step may
// have something to do at once.
func (f *OutboxFolder) Step(now time.Time) (fold *logv1.Command, more bool, err error) {
	box := f.machine.View().Outbox
	f.forget(box.First)
	n := len(f.segments)
	if n >= 2 && f.segments[n-1].bytes*2 >= f.segments[n-2].bytes {
		both := f.segments[n-2].with(f.segments[n-1])
		if f.tooLarge(both) {
			f.segments = slices.Delete(f.segments, 0, n-1)
			return nil, true, nil
		}
		f.segments = f.segments[:n-2]
		fold, err = f.fold(both)
		return fold, true, err
	}
	window, err := f.window(box, now)
	if err != nil || window.pairs == 0 {
		return nil, false, err
	}
	f.cursor = window.last
	if window.pairs == 1 {
		f.segments = append(f.segments, window)
		return nil, true, nil
	}
	for n := len(f.segments); n > 0 && f.segments[n-1].bytes*4 <= window.bytes; n-- {
		window = f.segments[n-1].with(window)
		f.segments = f.segments[:n-1]
	}
	fold, err = f.fold(window)
	return fold, true, err
}

// Done tells how applying the command of the last Step ended. A fold that failed is not tried again.
func (f *OutboxFolder) Done(err error) {
	n := len(f.segments)
	if err != nil || n == 0 || f.segments[n-1].last != f.proposed.last {
		return
	}
	f.counts.Folds++
	f.counts.Written += f.proposed.bytes - foldedHeadBytes
	f.segments[n-1] = f.proposed
}

// forget drops what is trimmed.
func (f *OutboxFolder) forget(first uint64) {
	f.cursor = max(f.cursor, first-1)
	n := 0
	for n < len(f.segments) && f.segments[n].last < first {
		n++
	}
	if f.segments = f.segments[n:]; len(f.segments) > 0 {
		f.segments[0].first = max(f.segments[0].first, first)
	}
}

// window returns the next entries to look at: a run, or what is to become one; none if they are too new.
func (f *OutboxFolder) window(box OutboxState, now time.Time) (segment, error) {
	var w segment
	if box.Bytes < f.bounds.FromBytes || f.cursor+f.bounds.KeepEvents >= box.Head {
		return w, nil
	}
	var newest outboxPair
	full := false
	err := f.machine.store.View(func(kv replica.KV) error {
		return scanOutbox(kv, f.cursor+1, func(p *outboxPair) (bool, error) {
			if p.folded && w.pairs > 0 {
				full = true
				return false, nil
			}
			if w.pairs == 0 {
				w.first = p.first
			}
			w.last, w.bytes, w.pairs = p.seq, w.bytes+p.size, w.pairs+1
			full = p.folded || w.bytes >= f.bounds.WindowBytes || w.pairs == f.bounds.WindowPairs
			if full {
				newest = *p
				newest.data = slices.Clone(p.data)
			}
			return !full, nil
		})
	})
	if err != nil || !full {
		return segment{}, err
	}
	if newest.data == nil { // ends where a run begins, which is old enough
		return w, nil
	}
	if old, err := f.old(box, newest, now); !old || err != nil {
		return segment{}, err
	}
	return w, nil
}

// old reports whether whoever keeps up has read an entry.
func (f *OutboxFolder) old(box OutboxState, p outboxPair, now time.Time) (bool, error) {
	if p.seq+f.bounds.KeepEvents > box.Head || f.machine.outbox.Load().after(p.seq) < f.bounds.KeepBytes {
		return false, nil
	}
	o, err := replica.ReadOutline(p.data)
	return err == nil && now.Sub(o.Last.Wall()) >= f.bounds.KeepAge, err
}

// fold puts entries on the stack, and returns the command that folds them if it is worth it.
func (f *OutboxFolder) fold(s segment) (*logv1.Command, error) {
	records, err := f.read(s)
	if err != nil {
		return nil, err
	}
	f.segments = append(f.segments, s)
	run, ok := f.worthFolding(records, s)
	if !ok {
		f.counts.Vain++
		return nil, nil
	}
	f.proposed = segment{s.first, s.last, uint64(foldedHeadBytes + len(run)), 1}
	return &logv1.Command{Command: &logv1.Command_OutboxFold{OutboxFold: &logv1.OutboxFoldCommand{Run: run}}}, nil
}

// read returns the entries of a segment.
func (f *OutboxFolder) read(s segment) (records []OutboxRecord, err error) {
	err = f.machine.store.View(func(kv replica.KV) error {
		return scanOutbox(kv, s.first, func(p *outboxPair) (bool, error) {
			if p.seq > s.last {
				return false, nil
			}
			f.counts.Read += p.size
			records = append(records, OutboxRecord{First: p.first, Seq: p.seq, Data: slices.Clone(p.data)})
			return p.seq < s.last, nil
		})
	})
	return records, err
}

// worthFolding returns the run that stands for records, if it is at most three quarters of them. What cannot be
// folded is not worth it either.
func (f *OutboxFolder) worthFolding(records []OutboxRecord, s segment) ([]byte, bool) {
	if len(records) < 2 {
		return nil, false
	}
	run, err := FoldOutbox(records)
	if err != nil || len(run) > f.bounds.RunBytes || uint64(foldedHeadBytes+len(run))*4 > s.bytes*3 {
		return nil, false
	}
	// The entries are lost with the fold: what takes their place must be what others can read.
	if _, err := replica.DecodeRun(run); err != nil {
		return nil, false
	}
	return run, true
}
