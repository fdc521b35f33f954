package store

import (
	"bytes"
	"sync/atomic"
)

const (
	// maxHeight is enough levels for tens of millions of keys, as each has a quarter of the one below.
	maxHeight = 12
	// fingerSteps is how far the writer looks from where it was before it starts from the top.
	fingerSteps = 3
	// minSlabBytes and maxSlabBytes bound what is allocated at once for keys and small values.
	minSlabBytes, maxSlabBytes = 2 << 10, 64 << 10
	// aloneBytes is from where on a value has an allocation of its own.
	aloneBytes = 4 << 10
	// nodeBytes and versionBytes are about what a key and a version cost besides their bytes.
	nodeBytes, versionBytes = 112, 48
)

// memtable holds pairs that are not on disk yet, in key order and in several versions. One goroutine
// writes; any number read at the same time, without locks: a reader sees the newest version that is
// not newer than its own sequence number, and everything is linked in by one atomic store after it
// is complete. A key is never taken out: a deletion is a version as well.
type memtable struct {
	head   node
	height atomic.Int32 // levels in use
	bytes  atomic.Int64 // about what it holds in memory

	// readers are the views that began on this table while it took writes; the store's lock guards it.
	readers int

	// The rest is the writer's.
	fingers  [8]finger
	touched  []*node // got a version from the update under way
	random   uint64
	slab     []byte
	slabSize int
	nodes    []node
	versions []version
	towers   []atomic.Pointer[node]
}

// node is one key.
type node struct {
	key    []byte
	newest atomic.Pointer[version] // nil if the first write was rolled back
	next   []atomic.Pointer[node]
	// spare is an older version that no reader can reach any more; the writer uses it again.
	spare *version
}

// version is one value of a key, or its absence.
type version struct {
	seq     uint64
	deleted bool
	record  []byte // as it goes to disk
	older   atomic.Pointer[version]
}

func newMemtable() *memtable {
	m := &memtable{random: 0x9E3779B97F4A7C15}
	m.head.next = make([]atomic.Pointer[node], maxHeight)
	m.height.Store(1)
	return m
}

// at returns the version that a reader of sequence number seq sees, nil if there is none.
func (n *node) at(seq uint64) *version {
	v := n.newest.Load()
	for v != nil && v.seq > seq {
		v = v.older.Load()
	}
	return v
}

// get returns the version of key that a reader of seq sees, nil if there is none.
func (m *memtable) get(key []byte, seq uint64) *version { return m.seek(key, nil).is(key, seq) }

// first returns the first key at or after start with a version for a reader of seq.
func (m *memtable) first(start []byte, seq uint64) *node { return m.seek(start, nil).visible(seq) }

// getForWrite and firstForWrite are get and first for the writer.
func (m *memtable) getForWrite(key []byte, seq uint64) *version {
	return m.reach(m.finger(key), key).is(key, seq)
}

func (m *memtable) firstForWrite(start []byte, seq uint64) *node {
	return m.reach(m.finger(start), start).visible(seq)
}

// is returns the version that a reader of seq sees if n is key's node, else nil.
func (n *node) is(key []byte, seq uint64) *version {
	if n == nil || !bytes.Equal(n.key, key) {
		return nil
	}
	return n.at(seq)
}

// following returns the key after n with a version for a reader of seq.
func (n *node) following(seq uint64) *node { return n.next[0].Load().visible(seq) }

func (n *node) visible(seq uint64) *node {
	for n != nil && n.at(seq) == nil {
		n = n.next[0].Load()
	}
	return n
}

// seek returns the first node at or after key. If before is not nil, it gets the last node before
// key on each level in use.
func (m *memtable) seek(key []byte, before *finger) *node {
	n := &m.head
	var after *node // known to be at or after key
	for level := int(m.height.Load()) - 1; level >= 0; level-- {
		for {
			next := n.next[level].Load()
			if next == nil || next == after {
				break
			}
			if bytes.Compare(next.key, key) >= 0 {
				after = next
				break
			}
			n = next
		}
		if before != nil {
			before[level] = n
		}
	}
	return after
}

// put gives key a value in the version of sequence number seq, which no reader looks into before the
// store says that seq is complete.
func (m *memtable) put(seq uint64, key, value []byte) {
	v := m.version(seq, key)
	v.deleted = false
	if size := recordBytes(value); cap(v.record) < size {
		m.forget(v)
		v.record = m.alloc(size)
	}
	v.record = appendRecord(v.record[:0], key, value)
}

// remove makes key absent in the version of sequence number seq.
func (m *memtable) remove(seq uint64, key []byte) {
	v := m.version(seq, key)
	v.deleted = true
	v.record = v.record[:0]
}

// version returns key's version of sequence number seq, to be filled.
func (m *memtable) version(seq uint64, key []byte) *version {
	n := m.place(key)
	newest := n.newest.Load()
	if newest != nil && newest.seq == seq {
		return newest
	}
	v := n.spare
	n.spare = nil
	if v == nil {
		v = m.newVersion()
	}
	v.seq = seq
	v.older.Store(newest)
	n.newest.Store(v)
	m.touched = append(m.touched, n)
	return v
}

// forget stops counting a record that is dropped; memory in a slab is not given back.
func (m *memtable) forget(v *version) {
	if cap(v.record) >= aloneBytes {
		m.bytes.Add(-int64(cap(v.record)))
	}
}

// place returns key's node, which it links in if there is none.
func (m *memtable) place(key []byte) *node {
	f := m.finger(key)
	n := m.reach(f, key)
	if n != nil && bytes.Equal(n.key, key) {
		return n
	}
	height := m.roll()
	n = m.newNode(key, height)
	for level := range height {
		// What was put in through another finger may lie between.
		before := f[level]
		after := before.next[level].Load()
		for after != nil && bytes.Compare(after.key, key) < 0 {
			before, after = after, after.next[level].Load()
		}
		n.next[level].Store(after)
		f[level] = before
	}
	// From the lowest level up: whoever meets the node above finds it below as well.
	for level := range height {
		f[level].next[level].Store(n)
		f[level] = n
	}
	m.height.Store(max(m.height.Load(), int32(height)))
	return n
}

// finger is where the writer was: on each level a node before the key that it sought last. It often
// goes on beside that, to write what it has read, or at the end of a table.
type finger [maxHeight]*node

// finger returns the one for keys that begin like this one.
func (m *memtable) finger(key []byte) *finger {
	f := &m.fingers[0]
	if len(key) > 0 {
		f = &m.fingers[key[0]%byte(len(m.fingers))]
	}
	if f[0] == nil {
		for level := range f {
			f[level] = &m.head
		}
	}
	return f
}

// reach returns the first node at or after key, like seek, and moves the finger there.
func (m *memtable) reach(f *finger, key []byte) *node {
	n := f[0]
	if n == &m.head || bytes.Compare(n.key, key) < 0 {
		for range fingerSteps {
			next := n.next[0].Load()
			if next == nil || bytes.Compare(next.key, key) >= 0 {
				f[0] = n
				return next
			}
			n = next
		}
	}
	return m.seek(key, f)
}

// roll draws a height: each level has a quarter of the one below.
func (m *memtable) roll() int {
	m.random ^= m.random << 13
	m.random ^= m.random >> 7
	m.random ^= m.random << 17
	height := 1
	for bits := m.random; bits&3 == 0 && height < maxHeight; bits >>= 2 {
		height++
	}
	return height
}

// settle ends an update whose versions are complete. If alone, no reader needs what is older.
func (m *memtable) settle(alone bool) {
	for i, n := range m.touched {
		m.touched[i] = nil
		if !alone {
			continue
		}
		v := n.newest.Load()
		if older := v.older.Load(); older != nil {
			v.older.Store(nil)
			n.spare = older
		}
	}
	m.touched = m.touched[:0]
}

// undo takes back the versions of the update under way; after settle there are none. Readers may be
// passing over them, so that they are not used again.
func (m *memtable) undo() {
	for i, n := range m.touched {
		v := n.newest.Load()
		n.newest.Store(v.older.Load())
		m.forget(v)
		m.touched[i] = nil
	}
	m.touched = m.touched[:0]
}

// empty reports whether nothing was ever written; only the writer may ask.
func (m *memtable) empty() bool { return m.head.next[0].Load() == nil }

func (m *memtable) newNode(key []byte, height int) *node {
	if len(m.nodes) == 0 {
		m.nodes = make([]node, max(m.slabSize/512, 4))
	}
	if len(m.towers) < height {
		m.towers = make([]atomic.Pointer[node], max(m.slabSize/256, maxHeight))
	}
	n := &m.nodes[0]
	n.key = append(m.alloc(len(key)), key...)
	n.next = m.towers[:height:height]
	m.nodes, m.towers = m.nodes[1:], m.towers[height:]
	m.bytes.Add(nodeBytes)
	return n
}

func (m *memtable) newVersion() *version {
	if len(m.versions) == 0 {
		m.versions = make([]version, max(m.slabSize/512, 4))
	}
	v := &m.versions[0]
	m.versions = m.versions[1:]
	m.bytes.Add(versionBytes)
	return v
}

// alloc returns an empty slice with room for size bytes.
func (m *memtable) alloc(size int) []byte {
	m.bytes.Add(int64(size))
	if size >= aloneBytes {
		return make([]byte, 0, size)
	}
	if len(m.slab) < size {
		m.slabSize = min(max(2*m.slabSize, minSlabBytes), maxSlabBytes)
		m.slab = make([]byte, max(m.slabSize, size))
	}
	b := m.slab[:0:size]
	m.slab = m.slab[size:]
	return b
}
