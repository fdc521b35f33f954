package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// Keys in any order, through many fingers, are linked in order on every level.
func TestMemtableKeepsEveryLevelInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	m := newMemtable()
	want := map[string]bool{}
	ends := map[byte]int{}
	for seq := range uint64(6000) {
		table := byte('A' + rng.IntN(3)*rng.IntN(9))
		key := fmt.Appendf(nil, "%c%06d", table, rng.IntN(100_000))
		if rng.IntN(2) == 0 { // at the end of the table, as a queue grows
			ends[table]++
			key = fmt.Appendf(nil, "%cx%06d", table, ends[table])
		}
		if rng.IntN(4) == 0 {
			got := m.getForWrite(key, seq)
			if has := want[string(key)]; (got != nil) != has || (m.get(key, seq) != nil) != has {
				t.Fatalf("key %q: found %v, want %v", key, got, has)
			}
		}
		m.put(seq, key, key)
		m.settle(seq%2 == 0)
		want[string(key)] = true
	}
	for level := range int(m.height.Load()) {
		last, count := []byte{}, 0
		for n := m.head.next[level].Load(); n != nil; n = n.next[level].Load() {
			if bytes.Compare(n.key, last) <= 0 {
				t.Fatalf("level %d: %q after %q", level, n.key, last)
			}
			if level == 0 && !want[string(n.key)] {
				t.Fatalf("%q was never put", n.key)
			}
			last = n.key
			count++
		}
		if low := len(want) >> (2*level + 1); count < low {
			t.Errorf("level %d has %d of %d keys, want %d", level, count, len(want), low)
		}
		if level == 0 && count != len(want) {
			t.Errorf("%d keys, want %d", count, len(want))
		}
	}
}

// A key that is written again and again while nobody needs what it was costs no more memory.
func TestOverwritingCostsNoMemory(t *testing.T) {
	m := newMemtable()
	for _, size := range []int{100, 10_000} {
		key := fmt.Append(nil, size)
		value := make([]byte, size)
		var after int64
		for seq := range uint64(50) {
			m.put(seq, key, value)
			m.settle(true)
			if seq == 1 {
				after = m.bytes.Load() // both versions that take turns are there
			}
		}
		if got := m.bytes.Load(); got != after {
			t.Errorf("%d bytes after 50 updates of %d, %d after two", got, size, after)
		}
	}
	grown := m.bytes.Load()
	for seq := uint64(100); seq < 103; seq++ { // readers keep each of them
		m.put(seq, []byte("10000"), make([]byte, 10_000))
		m.settle(false)
	}
	if got := m.bytes.Load(); got < grown+20_000 {
		t.Errorf("%d bytes hold four versions, %d held two", got, grown)
	}
}

// What grows bit by bit is counted as what it is.
func TestGrowingValuesAreCountedOnce(t *testing.T) {
	m := newMemtable()
	const largest = 200_000
	for size := aloneBytes; size < largest; size += 1000 {
		m.put(uint64(size), []byte("k"), make([]byte, size))
		m.settle(true)
	}
	if got := m.bytes.Load(); got < largest || got > 3*largest {
		t.Errorf("%d bytes hold two versions of up to %d", got, largest)
	}
	m.put(1<<40, []byte("refused"), make([]byte, largest))
	before := m.bytes.Load()
	m.undo()
	if got := m.bytes.Load(); got > before-largest {
		t.Errorf("%d bytes after a refused update, %d before", got, before)
	}
}
