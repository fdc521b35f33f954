package region

import (
	"context"
	"encoding/binary"
	"slices"
	"sort"
	"sync"

	"github.com/atolldb/atoll/crdt"
)

const (
	// feedBytes bounds what a partition remembers of its last changes, for watchers that are behind or
	// come back.
	feedBytes = 2 << 20
	// feedBatch is how many changes Next returns at once, rounded up to a whole entry.
	feedBatch = 512
	// maxFeeds bounds a partition's watchers.
	maxFeeds = 4096
	// changeOverhead is what a change takes in memory besides its names.
	changeOverhead = 80

	cursorVersion = 1
	maxCursor     = 64 << 10
)

// Cause is why a key changed.
type Cause uint8

const (
	// CauseLocal is a write in this region.
	CauseLocal Cause = iota + 1
	// CauseRemote is a write in another region.
	CauseRemote
	// CauseExpired is a value's expiry.
	CauseExpired
	// CauseRestored is a write in this region of what had lost against a concurrent one.
	CauseRestored
	// CauseRepaired is that the state of another region's replica was taken over: the value may have changed.
	CauseRepaired
)

// Change says that a key changed.
type Change struct {
	Namespace, Key string
	Type           crdt.Type
	Cause          Cause
}

// change is a Change with its place in this region's log, and in all regions' events.
type change struct {
	Change
	index uint64
	dot   crdt.Dot // zero if it was no event, as an expiry is not
}

func (c *change) bytes() int { return len(c.Namespace) + len(c.Key) + changeOverhead }

// changes keeps a partition's last changes in memory. It is filled by the applying goroutine and read
// by any.
type changes struct {
	self    crdt.Actor
	changed *broadcast
	mu      struct {
		sync.Mutex
		ring  []change // ordered by index
		first uint64   // the number of ring[0]; numbers are never used twice
		bytes int
		// What happened up to floor, and in the entries up to floorIndex, is not in the ring.
		floor      crdt.VersionVector
		floorIndex uint64
		// end is how far the ring reaches.
		end      crdt.VersionVector
		endIndex uint64
		feeds    int
	}
}

func newChanges(self crdt.Actor) *changes { return &changes{self: self, changed: newBroadcast()} }

// restart forgets everything: the state is that of view, and how it came about is not known.
func (c *changes) restart(view *MachineView) {
	c.mu.Lock()
	c.mu.first += uint64(len(c.mu.ring)) + 1 // one more, so that all feeds fall behind
	c.mu.ring, c.mu.bytes = nil, 0
	c.mu.floor, c.mu.floorIndex = view.Ahead, view.Position.Index
	c.mu.end, c.mu.endIndex = view.Vector, view.Position.Index
	c.mu.Unlock()
	c.changed.notify()
}

// add appends what the entries up to view changed.
func (c *changes) add(view *MachineView, changed []change) {
	c.mu.Lock()
	c.mu.end, c.mu.endIndex = view.Vector, view.Position.Index
	if !view.Ahead.Equal(view.Vector) && !c.mu.floor.Descends(view.Ahead) {
		// What a resync changes has no events in the ring, so who has not seen the donor's has to list.
		c.mu.floor = c.mu.floor.Clone()
		c.mu.floor.Join(view.Ahead)
	}
	for i := range changed {
		c.mu.bytes += changed[i].bytes()
	}
	c.mu.ring = append(c.mu.ring, changed...)
	c.evictLocked()
	c.mu.Unlock()
	if len(changed) > 0 {
		c.changed.notify()
	}
}

// evictLocked drops the oldest entries' changes, whole entries only.
func (c *changes) evictLocked() {
	drop := 0
	for c.mu.bytes > feedBytes && drop < len(c.mu.ring) {
		index := c.mu.ring[drop].index
		if drop == 0 {
			c.mu.floor = c.mu.floor.Clone() // views share it
		}
		for drop < len(c.mu.ring) && c.mu.ring[drop].index == index {
			gone := &c.mu.ring[drop]
			c.mu.bytes -= gone.bytes()
			if gone.dot.Seq > c.mu.floor.Get(gone.dot.Actor) {
				c.mu.floor.Set(gone.dot.Actor, gone.dot.Seq)
			}
			drop++
		}
		c.mu.floorIndex = index
	}
	clear(c.mu.ring[:drop])
	c.mu.ring = c.mu.ring[drop:]
	c.mu.first += uint64(drop)
}

// Feed follows one partition's changes from a cursor on. One goroutine at a time may use it. Close it.
type Feed struct {
	from *changes
	next uint64 // the number of the next change
	// seen is what the cursor says was seen already in whichever region, and after what it says of this
	// region's log.
	seen   crdt.VersionVector
	after  uint64
	resync bool
	// vector and index are the cursor.
	vector crdt.VersionVector
	index  uint64
}

// Watch follows the partition's changes from a cursor on, at any replica: an empty one means from now
// on. Errors: ErrBadCursor, ErrTooManyWatchers.
func (p *Partition) Watch(cursor []byte) (*Feed, error) { return p.machine.feed.open(cursor) }

func (c *changes) open(cursor []byte) (*Feed, error) {
	at, err := decodeCursor(cursor)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.feeds >= maxFeeds {
		return nil, ErrTooManyWatchers
	}
	c.mu.feeds++
	f := &Feed{from: c, next: c.mu.first + uint64(len(c.mu.ring)), vector: c.mu.end.Clone(), index: c.mu.endIndex}
	switch {
	case len(cursor) == 0:
	case at.actor == c.self && at.index >= c.mu.floorIndex:
		behind := sort.Search(len(c.mu.ring), func(i int) bool { return c.mu.ring[i].index > at.index })
		f.next = c.mu.first + uint64(behind)
		f.vector, f.index, f.after = at.vector, at.index, at.index
		f.seen = at.vector.Clone() // of other regions' events more than has arrived here, if the cursor came from one
	case at.actor != c.self && at.vector.Descends(c.mu.floor):
		f.next, f.seen = c.mu.first, at.vector
		f.vector, f.index = at.vector.Clone(), c.mu.floorIndex
	default:
		f.resync = true
	}
	return f, nil
}

// Resync reports whether what happened since the cursor is not known any more: the caller must list
// the partition first, from a read that begins now, and then follow.
func (f *Feed) Resync() bool { return f.resync }

// Next returns the next changes, at least one, and waits for them. Errors: ErrFeedBehind if the caller
// was too slow, ctx's own.
func (f *Feed) Next(ctx context.Context) ([]Change, error) {
	for {
		more := f.from.changed.changed()
		found, err := f.take()
		if err != nil || len(found) > 0 {
			return found, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-more:
		}
	}
}

// take returns the changes that are there.
func (f *Feed) take() ([]Change, error) {
	c := f.from
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.next < c.mu.first {
		return nil, ErrFeedBehind
	}
	var found []Change
	for i := f.next - c.mu.first; i < uint64(len(c.mu.ring)); i++ {
		next := &c.mu.ring[i]
		if len(found) >= feedBatch && next.index != f.index {
			return found, nil
		}
		known := next.index <= f.after || next.dot.Seq > 0 && f.seen.Covers(next.dot)
		f.next, f.index = f.next+1, next.index
		if next.dot.Seq > f.vector.Get(next.dot.Actor) {
			f.vector.Set(next.dot.Actor, next.dot.Seq)
		}
		if !known {
			found = append(found, next.Change)
		}
	}
	f.index = max(f.index, c.mu.endIndex)
	f.vector = c.mu.end.Clone()
	f.vector.Join(f.seen)
	return found, nil
}

// Cursor returns where the feed is: behind the changes that Next returned last. It is valid at every
// replica in every region.
func (f *Feed) Cursor() []byte {
	return encodeCursor(cursorPosition{actor: f.from.self, index: f.index, vector: f.vector})
}

// Close ends the feed.
func (f *Feed) Close() {
	f.from.mu.Lock()
	defer f.from.mu.Unlock()
	f.from.mu.feeds--
}

// cursorPosition is a place in a partition's changes. In the region that made it, index alone counts;
// elsewhere vector does.
type cursorPosition struct {
	actor  crdt.Actor
	index  uint64
	vector crdt.VersionVector
}

// encodeCursor writes version 1 | actor | index | vector, numbers as varints.
func encodeCursor(p cursorPosition) []byte {
	b := binary.AppendUvarint([]byte{cursorVersion}, uint64(p.actor))
	return p.vector.Append(binary.AppendUvarint(b, p.index))
}

func decodeCursor(b []byte) (cursorPosition, error) {
	if len(b) == 0 {
		return cursorPosition{}, nil
	}
	if len(b) > maxCursor || b[0] != cursorVersion {
		return cursorPosition{}, ErrBadCursor
	}
	actor, n := binary.Uvarint(b[1:])
	if n <= 0 || actor > uint64(^crdt.Actor(0)) {
		return cursorPosition{}, ErrBadCursor
	}
	b = b[1+n:]
	index, n := binary.Uvarint(b)
	if n <= 0 {
		return cursorPosition{}, ErrBadCursor
	}
	vector, err := crdt.DecodeVersionVector(slices.Clone(b[n:]))
	if err != nil {
		return cursorPosition{}, ErrBadCursor
	}
	return cursorPosition{crdt.Actor(actor), index, vector}, nil
}
