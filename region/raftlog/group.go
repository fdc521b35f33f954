package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Group is one Raft group's part of the log. All methods may be called at any time; those that write
// run one at a time.
type Group struct {
	log *Log
	id  uint32

	write   sync.Mutex  // taken before mu, held over the disk write
	dropped bool        // under write
	stalled *stallTimer // under write; runs during a disk write

	mu struct {
		sync.Mutex
		first, last uint64 // 0 and 0 if empty
		durable     uint64
		bytes       uint64
		appended    uint64
		tail        tail
	}
}

func (l *Log) newGroup(id uint32) *Group {
	return &Group{log: l, id: id, stalled: newStallTimer(l.opts.stall, l.onStall)}
}

// Stats are a group's figures.
type Stats struct {
	// First and Last are the bounds of the entries; both 0 if there are none.
	First, Last uint64
	// Bytes is about how much the entries take; deletions are counted by the average entry.
	Bytes uint64
	// Appended counts bytes ever appended since the log was opened, plus what it held then.
	Appended uint64
}

// Stats returns the group's figures.
func (g *Group) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{First: g.mu.first, Last: g.mu.last, Bytes: g.mu.bytes, Appended: g.mu.appended}
}

// FirstIndex returns the first entry's index, 0 if there is none.
func (g *Group) FirstIndex() uint64 { return g.Stats().First }

// LastIndex returns the last entry's index, 0 if there is none.
func (g *Group) LastIndex() uint64 { return g.Stats().Last }

// SetDurable says how far the state machine's file holds this log. DeleteRange then allows to
// remove a prefix up to there, and a suffix only beyond it. It never goes back.
func (g *Group) SetDurable(index uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.durable = max(g.mu.durable, index)
}

// load reads all entries of the group: it checks them and finds the bounds.
func (g *Group) load() (err error) {
	iter, err := g.log.db.NewIter(&pebble.IterOptions{
		LowerBound: groupPrefix(tableEntries, g.id),
		UpperBound: groupEnd(tableEntries, g.id),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for valid := iter.First(); valid; valid = iter.Next() {
		if len(iter.Key()) != entryKeyBytes {
			return g.corrupt("malformed key", nil)
		}
		index := binary.BigEndian.Uint64(iter.Key()[groupBytes:])
		if g.mu.last != 0 && index != g.mu.last+1 {
			return g.corrupt(fmt.Sprintf("entries %d to %d are missing", g.mu.last+1, index-1), nil)
		}
		record, err := iter.ValueAndErr()
		if err != nil {
			return g.log.classify(err, "unreadable entry")
		}
		if _, err := parseRecord(iter.Key(), record, index); err != nil {
			return g.corrupt(err.Error(), err)
		}
		if g.mu.first == 0 {
			g.mu.first = index
		}
		g.mu.last = index
		g.mu.bytes += uint64(len(record))
	}
	g.mu.appended = g.mu.bytes
	return g.log.classify(iter.Error(), "unreadable entries")
}

func groupEnd(table byte, group uint32) []byte {
	if group == ^uint32(0) {
		return []byte{table + 1}
	}
	return groupPrefix(table, group+1)
}

func (g *Group) corrupt(detail string, cause error) error {
	return &CorruptError{Dir: g.log.dir, Detail: fmt.Sprintf("group %d: %s", g.id, detail), Err: cause}
}

// Entry returns the entry at index. Its slices are shared: nobody may change them.
// Errors: ErrNotFound, *CorruptError, ErrFailed, ErrClosed.
func (g *Group) Entry(index uint64) (entry Entry, err error) {
	err = g.log.use(func() error {
		var held, cached bool
		if entry, held, cached = g.lookup(index); cached {
			return nil
		}
		if !held {
			return ErrNotFound
		}
		entry, err = g.read(index)
		return err
	})
	return entry, err
}

// lookup tells whether the group has an entry, and returns it if it is in memory.
func (g *Group) lookup(index uint64) (entry Entry, held, cached bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held = g.mu.first != 0 && index >= g.mu.first && index <= g.mu.last
	if held {
		entry, cached = g.mu.tail.get(index)
	}
	return entry, held, cached
}

// read reads an entry from Pebble.
func (g *Group) read(index uint64) (Entry, error) {
	key := entryKey(g.id, index)
	record, err := g.get(key)
	if errors.Is(err, ErrNotFound) {
		if _, held, _ := g.lookup(index); !held { // deleted meanwhile
			return Entry{}, ErrNotFound
		}
		return Entry{}, g.corrupt(fmt.Sprintf("entry %d is missing", index), nil)
	}
	if err != nil {
		return Entry{}, err
	}
	entry, err := parseRecord(key, record, index)
	if err != nil {
		return Entry{}, g.corrupt(err.Error(), err)
	}
	return entry, nil
}

// forget drops the entries up to last from memory.
func (g *Group) forget(last uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.tail.forget(last)
}

// get returns a copy of a record.
func (g *Group) get(key []byte) ([]byte, error) {
	record, closer, err := g.log.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, g.log.classify(err, "unreadable record")
	}
	return bytes.Clone(record), closer.Close()
}

// Append adds entries, which must follow each other and the last one; it keeps none of their memory.
// A nil error promises that they are synced. Errors: ErrGap, ErrTooLarge, ErrDropped, ErrFailed,
// ErrClosed; nothing was added then, save with ErrFailed, when it is unknown.
func (g *Group) Append(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	g.write.Lock()
	defer g.write.Unlock()
	size, err := g.admit(entries)
	if err != nil {
		return err
	}
	memory := make([]byte, 0, size)
	kept := make([]Entry, len(entries))
	err = g.put(size, func(batch *pebble.Batch) error {
		for i := range entries {
			memory, kept[i], err = setEntry(batch, memory, g.id, &entries[i])
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	g.extend(kept, uint64(len(memory)))
	g.log.cache.add(cachedAppend{
		group: g, last: lastOf(kept), bytes: int64(cap(memory) + len(kept)*entryMemory),
	})
	return nil
}

// setEntry has batch write an entry. It appends key and record to memory and returns the entry with
// its slices in there.
func setEntry(batch *pebble.Batch, memory []byte, group uint32, e *Entry) ([]byte, Entry, error) {
	start := len(memory)
	memory = appendEntryKey(memory, group, e.Index)
	record := len(memory)
	memory = appendRecord(memory, memory[start:record], e)
	end := len(memory)
	kept := *e
	kept.Data = memory[end-len(e.Data) : end : end]
	end -= len(e.Data)
	kept.Extensions = memory[end-len(e.Extensions) : end : end]
	return memory, kept, batch.Set(memory[start:record], memory[record:], nil)
}

// extend adds entries, which are synced, to what readers see.
func (g *Group) extend(entries []Entry, size uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.first == 0 {
		g.mu.first = entries[0].Index
	}
	g.mu.last = lastOf(entries)
	g.mu.bytes += size
	g.mu.appended += size
	g.mu.tail.appends = append(g.mu.tail.appends, entries)
}

// put commits what fill puts in a batch, synced. The caller holds g.write.
func (g *Group) put(size int, fill func(*pebble.Batch) error) error {
	if g.dropped {
		return ErrDropped
	}
	return g.log.use(func() error {
		batch := g.log.db.NewBatchWithSize(size)
		defer batch.Close()
		if err := fill(batch); err != nil {
			return err
		}
		return g.log.commit(batch, g.stalled)
	})
}

// drop deletes everything of the group, see Log.DropGroup.
func (g *Group) drop() error {
	g.write.Lock()
	defer g.write.Unlock()
	err := g.put(0, func(batch *pebble.Batch) error {
		for _, table := range []byte{tableEntries, tableStable} {
			if err := batch.DeleteRange(groupPrefix(table, g.id), groupEnd(table, g.id), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	g.dropped = true
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.first, g.mu.last, g.mu.bytes, g.mu.tail = 0, 0, 0, tail{}
	return nil
}

// admit checks that entries may be appended and returns a bound on their size.
func (g *Group) admit(entries []Entry) (size int, err error) {
	next := entries[0].Index
	if last := g.LastIndex(); next == 0 || (last != 0 && next != last+1) {
		return 0, fmt.Errorf("append entry %d after %d: %w", next, last, ErrGap)
	}
	for i := range entries {
		bytes := len(entries[i].Data) + len(entries[i].Extensions)
		if bytes > MaxEntryBytes {
			return 0, fmt.Errorf("entry %d of %d bytes: %w", entries[i].Index, bytes, ErrTooLarge)
		}
		if entries[i].Index != next {
			return 0, fmt.Errorf("append entry %d as %d: %w", entries[i].Index, next, ErrGap)
		}
		next++
		size += bytes + overheadBytes
	}
	return size, nil
}

// DeleteRange deletes the entries from low to high inclusive, a prefix or a suffix of the log, and
// syncs that. Errors: ErrGap if it is neither; ErrNotDurable if it is a prefix that reaches beyond
// SetDurable or a suffix that begins before its end; ErrDropped, ErrFailed, ErrClosed.
func (g *Group) DeleteRange(low, high uint64) error {
	g.write.Lock()
	defer g.write.Unlock()
	low, high, err := g.cut(low, high)
	if err != nil || low > high {
		return err
	}
	return g.put(0, func(batch *pebble.Batch) error {
		return batch.DeleteRange(entryKey(g.id, low), entryKey(g.id, high+1), nil)
	})
}

// cut checks a deletion and moves the bounds, before the deletion, so that no reader takes a
// deleted entry for a lost one. low > high in the result means that there is nothing to delete.
func (g *Group) cut(low, high uint64) (uint64, uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	low, high = max(low, g.mu.first), min(high, g.mu.last)
	if g.mu.first == 0 || low > high {
		return 1, 0, nil
	}
	prefix, suffix := low == g.mu.first, high == g.mu.last
	switch {
	case suffix && low > g.mu.durable:
	case prefix && high <= g.mu.durable:
	case !prefix && !suffix:
		return 0, 0, fmt.Errorf("delete entries %d to %d: %w", low, high, ErrGap)
	default:
		return 0, 0, fmt.Errorf("delete entries %d to %d, durable is %d: %w", low, high, g.mu.durable, ErrNotDurable)
	}
	count, left := g.mu.last-g.mu.first+1, g.mu.last-g.mu.first-(high-low)
	g.mu.bytes = uint64(float64(g.mu.bytes) * float64(left) / float64(count))
	switch {
	case prefix && suffix:
		g.mu.first, g.mu.last, g.mu.tail = 0, 0, tail{}
	case prefix:
		g.mu.first = high + 1
		g.mu.tail.forget(high)
	default:
		g.mu.last = low - 1
		g.mu.tail.truncate(low)
	}
	return low, high, nil
}
