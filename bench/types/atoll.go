package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/replica"
	"github.com/atolldb/atoll/region/store"
)

// Atoll's ways to store: synced makes every batch durable by itself; grouped writes as a region does,
// whose log is what makes each batch durable.
const (
	atollSynced  = "atoll, synced"
	atollGrouped = "atoll, as in a region"
	atollMemory  = "atoll, memory"
)

func ours(contender string) bool {
	return contender == atollSynced || contender == atollGrouped || contender == atollMemory
}

// flushBytes is the store's own default for a flush.
const flushBytes = 8 << 20

// disk is a replica in a store.
type disk struct {
	*store.Store
	path string
	// template is a copy of the file as it was filled.
	template string
}

// openDisk makes a store with one set of each size.
func openDisk(ctx context.Context, dir string, s *settings) (*disk, error) {
	d, err := openStore(filepath.Join(dir, "sets"))
	if err != nil {
		return nil, err
	}
	for _, size := range s.sizes() {
		const chunk = 10_000
		for at := 0; at < s.held(size) && err == nil; at += chunk {
			err = d.execute([]replica.Op{{
				Kind: replica.OpSetAdd, Namespace: namespace, Key: setKey(size),
				Elements: elements(uint64(at), min(chunk, s.held(size)-at)),
			}})
			err = errors.Join(err, ctx.Err(), d.flushIfFull())
		}
	}
	d.template = d.path + ".filled"
	if err = errors.Join(err, d.close()); err != nil {
		return nil, err
	}
	if err := copyFile(d.template, d.path); err != nil {
		return nil, err
	}
	opened, err := openStore(d.path)
	if err == nil {
		opened.template = d.template
	}
	return opened, err
}

func openStore(path string) (*disk, error) {
	s, err := store.Open(path, store.Options{Buffer: true})
	if err != nil {
		return nil, err
	}
	return &disk{Store: s, path: path}, nil
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	// What is dirty would be written while somebody measures.
	return errors.Join(err, out.Sync(), out.Close())
}

// copy returns a store as it was filled. remove removes it.
func (d *disk) copy() (*disk, error) {
	path := d.path + ".copy"
	if err := copyFile(path, d.template); err != nil {
		return nil, err
	}
	return openStore(path)
}

func (d *disk) close() error { return d.Close() }

func (d *disk) remove() error { return errors.Join(d.Close(), os.Remove(d.path)) }

// update changes the replica in one transaction, which is in memory until the next flush.
func (d *disk) update(fn func(r *replica.Replica) error) error {
	return d.Update(func(kv replica.KV) error { return inReplica(kv, fn) })
}

func inReplica(kv replica.KV, fn func(r *replica.Replica) error) error {
	r, err := replica.Open(kv, local)
	if err != nil {
		return err
	}
	if err := fn(r); err != nil {
		return err
	}
	return r.Flush()
}

func (d *disk) execute(ops []replica.Op) error {
	return d.update(func(r *replica.Replica) error {
		_, _, err := r.Execute(noon, ops)
		return err
	})
}

func (d *disk) merge(run []byte) error {
	return d.update(func(r *replica.Replica) error { return mergeRun(r, run) })
}

func mergeRun(r *replica.Replica, data []byte) error {
	run, err := replica.DecodeRun(data)
	if err != nil {
		return err
	}
	applied, err := r.MergeRun(run)
	if err == nil && applied != run.To()-run.From+1 {
		err = fmt.Errorf("%d of %d deltas merged", applied, run.To()-run.From+1)
	}
	return err
}

// flushIfFull flushes when a region would for want of room.
func (d *disk) flushIfFull() error {
	if d.Buffered() < flushBytes {
		return nil
	}
	return d.Flush()
}

// diskSet is one of the sets on a disk.
type diskSet struct {
	*disk
	key   string
	after func() error // what follows a batch
}

func (d *disk) synced(size int) (set, error) {
	return &diskSet{d, setKey(size), d.Flush}, nil
}

func (d *disk) grouped(size int) (set, error) {
	return &diskSet{d, setKey(size), d.flushIfFull}, nil
}

// change executes an operation for each element, as if each came from a client of its own.
func (s *diskSet) change(kind replica.OpKind, elements [][]byte) error {
	ops := make([]replica.Op, len(elements))
	for i := range elements {
		ops[i] = replica.Op{Kind: kind, Namespace: namespace, Key: s.key, Elements: elements[i : i+1]}
	}
	if err := s.execute(ops); err != nil {
		return err
	}
	return s.after()
}

func (s *diskSet) add(elements [][]byte) error    { return s.change(replica.OpSetAdd, elements) }
func (s *diskSet) remove(elements [][]byte) error { return s.change(replica.OpSetRemove, elements) }

func (s *diskSet) contains(elements [][]byte) (int, error) {
	found := 0
	err := s.View(func(kv replica.KV) error {
		r, err := replica.Open(kv, local)
		if err != nil {
			return err
		}
		contains, err := r.SetContains(namespace, s.key, elements)
		found = trues(contains)
		return err
	})
	return found, err
}

func trues(all []bool) int {
	n := 0
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

func (s *diskSet) settle() error { return s.Flush() }

// close leaves the disk to the next case.
func (s *diskSet) close() error { return nil }

// sizeOf returns the size of a set.
func (d *disk) sizeOf(key string) (n uint64, err error) {
	err = d.View(func(kv replica.KV) error {
		r, err := replica.Open(kv, local)
		if err != nil {
			return err
		}
		o, _, err := r.LookupType(namespace, key, crdt.TypeAWSet, noon)
		n = o.Size
		return err
	})
	return n, err
}
