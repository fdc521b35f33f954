package raftlog

import (
	"sort"
	"sync"
)

// cache bounds, over all groups of a node, what they keep of their latest entries in memory, so that
// applying and replicating them reads nothing from Pebble. The oldest append goes first, whose ever
// it is: an idle group needs its tail the least.
//
// What it counts is at least what is kept: entries that were truncated or cut off count until their
// append's turn comes.
type cache struct {
	limit int64

	mu struct {
		sync.Mutex
		bytes   int64
		appends []cachedAppend // the oldest first
	}
}

// cachedAppend is what one Append added.
type cachedAppend struct {
	group *Group
	last  uint64
	bytes int64
}

// entryMemory is about what an Entry takes beside its data.
const entryMemory = 128

func (c *cache) add(a cachedAppend) {
	c.mu.Lock()
	c.mu.appends = append(c.mu.appends, a)
	c.mu.bytes += a.bytes
	c.mu.Unlock()
	for {
		old, over := c.next()
		if !over {
			return
		}
		old.group.forget(old.last)
	}
}

// next takes out the oldest append if the cache is over its limit.
func (c *cache) next() (old cachedAppend, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.bytes <= c.limit {
		return cachedAppend{}, false
	}
	old = c.mu.appends[0]
	c.mu.appends[0].group = nil // the array outlives the slice's head
	c.mu.appends = c.mu.appends[1:]
	c.mu.bytes -= old.bytes
	return old, true
}

// tail is the entries of a group that are in memory: the last ones, without gaps, each append's in a
// slice of its own.
type tail struct{ appends [][]Entry }

func (t *tail) get(index uint64) (Entry, bool) {
	at := sort.Search(len(t.appends), func(i int) bool { return lastOf(t.appends[i]) >= index })
	if at == len(t.appends) || index < t.appends[at][0].Index {
		return Entry{}, false
	}
	return t.appends[at][index-t.appends[at][0].Index], true
}

// forget drops the appends that end at last or before it.
func (t *tail) forget(last uint64) {
	n := 0
	for n < len(t.appends) && lastOf(t.appends[n]) <= last {
		t.appends[n] = nil // the array outlives the slice's head
		n++
	}
	t.appends = t.appends[n:]
}

// truncate drops the entries from first on.
func (t *tail) truncate(first uint64) {
	n := len(t.appends)
	for n > 0 && t.appends[n-1][0].Index >= first {
		n--
		t.appends[n] = nil
	}
	t.appends = t.appends[:n]
	if n > 0 && lastOf(t.appends[n-1]) >= first {
		t.appends[n-1] = t.appends[n-1][:first-t.appends[n-1][0].Index]
	}
}

func lastOf(entries []Entry) uint64 { return entries[len(entries)-1].Index }
