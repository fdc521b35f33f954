package world

import (
	"errors"
	"io"

	"github.com/zeebo/xxh3"

	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region"
)

// disk is one replica's storage: what is written, and what of it survives a crash. It keeps a hash of
// everything that is written, so that to compare two of them costs nothing.
type disk struct {
	live, durable *replica.Memory
	sum, kept     uint64
	// files are snapshots on their way to Install, by path.
	files map[string]*file
}

type file struct {
	kv  *replica.Memory
	sum uint64
}

func newDisk() *disk {
	return &disk{live: replica.NewMemory(), durable: replica.NewMemory(), files: map[string]*file{}}
}

// crash loses what was not flushed.
func (d *disk) crash() { d.live, d.sum = d.durable.Clone(), d.kept }

// become makes d a copy of what a file has.
func (d *disk) become(f *file) {
	d.live, d.durable, d.sum, d.kept = f.kv.Clone(), f.kv.Clone(), f.sum, f.sum
}

func (d *disk) copy() *file { return &file{d.live.Clone(), d.sum} }

// View implements region.Store.
func (d *disk) View(fn func(kv replica.KV) error) error { return fn(d.live) }

// Update implements region.Store.
func (d *disk) Update(fn func(kv replica.KV) error) error { return fn(&hashing{d.live, d}) }

// Flush implements region.Store.
func (d *disk) Flush() error {
	d.durable, d.kept = d.live.Clone(), d.sum
	return nil
}

// Buffered implements region.Store.
func (d *disk) Buffered() int64 { return 0 }

// Full implements region.Store.
func (d *disk) Full() <-chan struct{} { return nil }

var errNoFile = errors.New("there is no such snapshot")

// Install implements region.Store.
func (d *disk) Install(path string, check func(kv replica.KV) error) error {
	f := d.files[path]
	delete(d.files, path)
	if f == nil {
		return errNoFile
	}
	if err := check(f.kv); err != nil {
		return err
	}
	d.become(f)
	return nil
}

// Snapshot implements region.Store.
func (d *disk) Snapshot() (region.StoreSnapshot, error) { return snapshot{d.copy()}, nil }

// snapshot is carried by reference: nothing of it is ever sent as bytes.
type snapshot struct{ *file }

// KV implements region.StoreSnapshot.
func (s snapshot) KV() replica.KV { return s.kv }

// WriteTo implements region.Snapshotter.
func (snapshot) WriteTo(io.Writer) (int64, error) { return 0, nil }

// Size implements region.Snapshotter.
func (snapshot) Size() int64 { return 0 }

// Close implements region.Snapshotter.
func (snapshot) Close() error { return nil }

// hashing is a disk's Memory, whose changes go into the disk's hash.
type hashing struct {
	*replica.Memory
	disk *disk
}

func pairSum(key, value []byte) uint64 {
	return xxh3.HashSeed(value, xxh3.Hash(key))
}

// Put implements replica.KV.
func (h *hashing) Put(key, value []byte) error {
	if old, ok, _ := h.Memory.Get(key); ok {
		h.disk.sum -= pairSum(key, old)
	}
	h.disk.sum += pairSum(key, value)
	return h.Memory.Put(key, value)
}

// Delete implements replica.KV.
func (h *hashing) Delete(key []byte) error {
	old, ok, _ := h.Memory.Get(key)
	if !ok {
		return nil
	}
	h.disk.sum -= pairSum(key, old)
	return h.Memory.Delete(key)
}
