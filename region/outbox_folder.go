package region

import (
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt/replica"
	logv1 "github.com/atolldb/atoll/proto/atoll/log/v1"
)

const (
	// foldFrom is the size of an outbox below which nothing is folded.
	foldFrom = 512 << 10
	// The newest entries stay as they are: so much, so many, and so long. Who keeps up reads them soon.
	foldKeepBytes  = 256 << 10
	foldKeepEvents = 1024
	foldKeepAge    = 5 * time.Second
	// A window is what is folded together for the first time.
	windowBytes = 256 << 10
	windowPairs = 2048
	// foldInputBytes and foldInputPairs bound what one fold reads, and so what is taken out of the outbox at once.
	foldInputBytes = 6 << 20
	foldInputPairs = 8192
	// foldedBytes bounds a run: it is merged whole, as the largest write of a client is.
	foldedBytes = 4 << 20
)

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
	// cursor is the last event that was looked at.
	cursor uint64
	// segments follow each other up to cursor, and shrink towards it.
	segments []segment
	counts   FoldCounts
}

// FoldCounts counts what an OutboxFolder did.
type FoldCounts struct {
	// Folds were proposed, Vain were not worth it. Read and Written are the bytes of all that was tried, and of what was
	// proposed.
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

// tooLarge reports whether the segment is more than one fold may read.
func (s segment) tooLarge() bool { return s.bytes > foldInputBytes || s.pairs > foldInputPairs }

// NewOutboxFolder returns a folder that has seen nothing. A new leader needs a new one.
func NewOutboxFolder(m *Machine) *OutboxFolder { return &OutboxFolder{machine: m} }

// Counts returns what was done so far.
func (f *OutboxFolder) Counts() FoldCounts { return f.counts }

// Step does one fold, if something is old enough at now, with propose to have a command applied. more says that
// another step may have something to do at once.
func (f *OutboxFolder) Step(now time.Time, propose func(*logv1.Command) error) (more bool, err error) {
	box := f.machine.View().Outbox
	f.forget(box.First)
	n := len(f.segments)
	if n >= 2 && f.segments[n-1].bytes*2 >= f.segments[n-2].bytes {
		both := f.segments[n-2].with(f.segments[n-1])
		if both.tooLarge() {
			f.segments = slices.Delete(f.segments, 0, n-1)
			return true, nil
		}
		f.segments = f.segments[:n-2]
		return true, f.fold(both, propose)
	}
	window, err := f.window(box, now)
	if err != nil || window.pairs == 0 {
		return false, err
	}
	f.cursor = window.last
	if window.pairs == 1 {
		f.segments = append(f.segments, window)
		return true, nil
	}
	for n := len(f.segments); n > 0 && f.segments[n-1].bytes*4 <= window.bytes; n-- {
		window = f.segments[n-1].with(window)
		f.segments = f.segments[:n-1]
	}
	return true, f.fold(window, propose)
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
	if box.Bytes < foldFrom || f.cursor+foldKeepEvents >= box.Head {
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
			full = p.folded || w.bytes >= windowBytes || w.pairs == windowPairs
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
	if p.seq+foldKeepEvents > box.Head || f.machine.outbox.Load().after(p.seq) < foldKeepBytes {
		return false, nil
	}
	o, err := replica.ReadOutline(p.data)
	return err == nil && now.Sub(o.Last.Wall()) >= foldKeepAge, err
}

// fold folds entries if it is worth it, and puts them on the stack.
func (f *OutboxFolder) fold(s segment, propose func(*logv1.Command) error) error {
	records, err := f.read(s)
	if err != nil {
		return err
	}
	f.segments = append(f.segments, s)
	run, ok := worthFolding(records, s)
	if !ok {
		f.counts.Vain++
		return nil
	}
	if err := propose(&logv1.Command{Command: &logv1.Command_OutboxFold{OutboxFold: &logv1.OutboxFoldCommand{Run: run}}}); err != nil {
		return err // it is not tried again
	}
	f.counts.Folds++
	f.counts.Written += uint64(len(run))
	f.segments[len(f.segments)-1] = segment{s.first, s.last, uint64(foldedHeadBytes + len(run)), 1}
	return nil
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
func worthFolding(records []OutboxRecord, s segment) ([]byte, bool) {
	if len(records) < 2 {
		return nil, false
	}
	run, err := FoldOutbox(records)
	if err != nil || len(run) > foldedBytes || uint64(foldedHeadBytes+len(run))*4 > s.bytes*3 {
		return nil, false
	}
	// The entries are lost with the fold: what takes their place must be what others can read.
	if _, err := replica.DecodeRun(run); err != nil {
		return nil, false
	}
	return run, true
}
