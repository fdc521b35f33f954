package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// inMemory returns how many entries the groups keep in memory, and about how many bytes they take.
func inMemory(groups ...*Group) (count int, bytes int64) {
	for _, g := range groups {
		g.mu.Lock()
		for _, e := range slices.Concat(g.mu.tail.appends...) {
			count++
			bytes += int64(len(e.Data) + entryMemory)
		}
		g.mu.Unlock()
	}
	return count, bytes
}

// What was deleted behind the log's back can still be read as long as it is in memory, and no longer.
func TestLatestEntriesAreReadFromMemory(t *testing.T) {
	l := openLog(t, t.TempDir(), Options{CacheBytes: 10 << 10})
	idle, busy := openGroup(t, l, 1), openGroup(t, l, 2)
	if err := idle.Append(entries(1, 1, 3)); err != nil {
		t.Fatal(err)
	}
	lose := func(g *Group) {
		t.Helper()
		if err := l.db.DeleteRange(groupPrefix(tableEntries, g.id), groupEnd(tableEntries, g.id), nil); err != nil {
			t.Fatal(err)
		}
	}
	lose(idle)
	checkEntries(t, idle, 1, 3)
	for i := uint64(1); i <= 200; i++ {
		if err := busy.Append(entries(2, i, i)); err != nil {
			t.Fatal(err)
		}
	}
	lose(busy)
	if _, err := idle.Entry(3); !isCorrupt(err) {
		t.Errorf("the oldest append is still in memory: %v", err)
	}
	if _, err := busy.Entry(100); !isCorrupt(err) {
		t.Errorf("half of the busy group is older than the bound allows: %v", err)
	}
	if got, err := busy.Entry(200); err != nil || string(got.Data) != "group 2 entry 200" {
		t.Errorf("the last entry is %q, %v", got.Data, err)
	}
}

func TestEntriesShareNothingWithTheCaller(t *testing.T) {
	g := openGroup(t, openLog(t, t.TempDir(), Options{}), 1)
	e := Entry{Index: 1, Term: 1, Data: []byte("data"), Extensions: []byte("ext")}
	if err := g.Append([]Entry{e}); err != nil {
		t.Fatal(err)
	}
	e.Data[0], e.Extensions[0] = 'x', 'x'
	got, err := g.Entry(1)
	if err != nil || string(got.Data) != "data" || string(got.Extensions) != "ext" {
		t.Fatalf("%q %q %v", got.Data, got.Extensions, err)
	}
}

// twin is what a group should hold.
type twin struct {
	group   *Group
	entries []Entry // without gaps
	durable uint64
	next    uint64
}

func (w *twin) append(rng *rand.Rand) error {
	var more []Entry
	for range 1 + rng.IntN(5) {
		data := make([]byte, rng.IntN(300))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		more = append(more, Entry{Index: w.next, Term: 1, Data: data})
		w.next++
	}
	w.entries = append(w.entries, more...)
	return w.group.Append(more)
}

func (w *twin) truncate(rng *rand.Rand) error {
	keep := rng.IntN(len(w.entries))
	low := w.entries[keep].Index
	if low <= w.durable {
		return nil
	}
	w.entries, w.next = w.entries[:keep], low
	return w.group.DeleteRange(low, ^uint64(0))
}

func (w *twin) cut(rng *rand.Rand) error {
	at := rng.IntN(len(w.entries))
	w.durable = max(w.durable, w.entries[at].Index)
	w.group.SetDurable(w.durable)
	high := w.entries[at].Index
	w.entries = w.entries[at+1:]
	return w.group.DeleteRange(0, high)
}

func (w *twin) check() error {
	for _, want := range w.entries {
		got, err := w.group.Entry(want.Index)
		if err != nil || !bytes.Equal(got.Data, want.Data) {
			return fmt.Errorf("entry %d is %x, %w; want %x", want.Index, got.Data, err, want.Data)
		}
	}
	if _, err := w.group.Entry(w.next); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("entry %d behind the end: %w", w.next, err)
	}
	return nil
}

// Whatever is appended, truncated and cut, every entry reads as it was written, and the memory keeps
// within its bound.
func TestCacheAgreesWithAModel(t *testing.T) {
	const limit = 20 << 10
	l := openLog(t, t.TempDir(), Options{CacheBytes: limit})
	rng := rand.New(rand.NewPCG(1, 2))
	twins := make([]twin, 4)
	groups := make([]*Group, 4)
	for i := range twins {
		groups[i] = openGroup(t, l, uint32(i))
		twins[i] = twin{group: groups[i], next: 1}
	}
	for step := range 1500 {
		w := &twins[rng.IntN(len(twins))]
		var err error
		switch {
		case len(w.entries) == 0 || rng.IntN(4) > 0:
			err = w.append(rng)
		case rng.IntN(3) > 0:
			err = w.truncate(rng)
		case len(w.entries) > 50:
			err = w.cut(rng)
		}
		if err == nil && step%20 == 0 {
			err = w.check()
		}
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if count, bytes := inMemory(groups...); bytes > limit {
			t.Fatalf("step %d: %d entries of %d bytes are in memory", step, count, bytes)
		}
	}
	if count, _ := inMemory(groups...); count == 0 {
		t.Fatal("nothing is in memory")
	}
}

func TestDroppedGroupsAreEmptyForEver(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	ids := []uint32{0, 7, ^uint32(0)}
	for _, id := range ids {
		g := openGroup(t, l, id)
		if err := errors.Join(g.Append(entries(id, 1, 40)), g.SetUint64([]byte("term"), uint64(id)+7), g.Set([]byte("vote"), fmt.Appendf(nil, "n%d", id))); err != nil {
			t.Fatal(err)
		}
	}
	dropped := openGroup(t, l, 7)
	if err := errors.Join(l.DropGroup(7), l.DropGroup(99)); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, dropped)
	if err := errors.Join(dropped.Append(entries(7, 1, 1)), dropped.SetUint64([]byte("term"), 1)); !errors.Is(err, ErrDropped) {
		t.Fatalf("write to a dropped group: %v", err)
	}
	for round := range 2 {
		again := openGroup(t, l, 7)
		checkEmpty(t, again)
		if term, err := again.GetUint64([]byte("term")); term != 0 || err != nil {
			t.Fatalf("term %d, %v", term, err)
		}
		checkGroup(t, openGroup(t, l, 0))
		checkGroup(t, openGroup(t, l, ^uint32(0)))
		if round == 0 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openLog(t, dir, Options{})
		}
	}
	if err := openGroup(t, l, 7).Append(entries(7, 1, 1)); err != nil {
		t.Fatal(err)
	}
	checkEntries(t, openGroup(t, l, 7), 1, 1)
}

// A group that cannot be opened can still be dropped.
func TestDamagedGroupsCanBeDropped(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir, Options{})
	if err := openGroup(t, l, 1).Append(entries(1, 1, 9)); err != nil {
		t.Fatal(err)
	}
	if err := l.db.Delete(entryKey(1, 5), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, Options{})
	if err := openErr(l, 1); !isCorrupt(err) {
		t.Fatal(err)
	}
	if err := l.DropGroup(1); err != nil {
		t.Fatal(err)
	}
	checkEmpty(t, openGroup(t, l, 1))
}
