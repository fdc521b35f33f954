package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/atolldb/atoll/crdt/replica"
)

// The counts in bytes. Those of the storage are per key or element, beyond the user's own bytes, and made
// of three parts: what the CRDT needs to know of a write, what keys need to be in order and apart, and what
// the store needs to notice damage.
const (
	keyMetadata     = "stored with a register"
	elementMetadata = "stored with a set's element"
	smallMetadata   = "stored with a set's element, sets of 10"
	ofCRDT          = ", of it CRDT metadata"
	ofKeys          = ", of it structure of keys"
	ofRecords       = ", of it the store's records with their checksums"
	andKeys         = " and structure of keys"
	ofFile          = ": the file's pages, user's bytes included"

	// smallSet is how many elements a small set has.
	smallSet = 10
)

// content is what is stored to count bytes.
type content struct {
	name string
	// make returns the nth operation.
	make func(n int) replica.Op
	// own is how many bytes of the user an operation stores, and ownValue how many of them are not in keys.
	own, ownValue float64
}

// contents are what is counted.
var contents = []content{
	{
		name: keyMetadata,
		make: func(n int) replica.Op {
			return replica.Op{Kind: replica.OpPut, Namespace: namespace, Key: key(n), Value: make([]byte, valueBytes)}
		},
		own: float64(len(namespace) + keyBytes + valueBytes), ownValue: valueBytes,
	},
	{
		name: elementMetadata,
		make: func(n int) replica.Op { return addTo("set", n) },
		own:  elementBytes,
	},
	{
		// Small sets have their elements in the value of one pair.
		name: smallMetadata,
		make: func(n int) replica.Op { return addTo(key(n/smallSet), n) },
		own:  elementBytes + float64(len(namespace)+keyBytes)/smallSet, ownValue: elementBytes,
	},
}

func addTo(set string, n int) replica.Op {
	return replica.Op{Kind: replica.OpSetAdd, Namespace: namespace, Key: set, Elements: elements(uint64(n), 1)}
}

// bytesCase counts what a store holds beyond the user's bytes. It is the same in every round.
type bytesCase struct{}

func (bytesCase) name() string { return "bytes" }

func (bytesCase) measure(e *env) error {
	if e.round > 0 {
		return nil
	}
	e.begin()
	s := e.settings
	for i := range contents {
		if err := countStored(e, &contents[i]); err != nil {
			return err
		}
	}
	e.count("one value: with a set's element", float64(len(wholeSet(s.mergeInto).Append(nil)))/float64(s.mergeInto)-elementBytes, "B")
	if automergeOpen == "" {
		return nil
	}
	n, err := automergeBytes(s.mergeInto)
	e.count("automerge, saved: a set's element, user's bytes included", float64(n)/float64(s.mergeInto), "B")
	return err
}

// countStored stores a content, and counts.
func countStored(e *env, c *content) (err error) {
	d, err := openStore(filepath.Join(e.dir, "bytes"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	total := e.settings.stored
	for at := 0; at < total; at += e.settings.mergeBatch {
		var ops []replica.Op
		for n := at; n < at+e.settings.mergeBatch; n++ {
			ops = append(ops, c.make(n))
		}
		if err := errors.Join(d.execute(ops), d.flushIfFull()); err != nil {
			return err
		}
	}
	if err := d.Flush(); err != nil {
		return err
	}
	keys, values := 0, 0
	err = d.View(func(kv replica.KV) error {
		return kv.Scan(nil, nil, func(k, v []byte) (bool, error) {
			keys += len(k)
			values += len(v)
			return true, nil
		})
	})
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	stored, pages, err := bboltBytes(d.path)
	each := float64(total)
	e.count(c.name, float64(stored)/each-c.own, "B")
	e.count(c.name+ofCRDT, float64(values)/each-c.ownValue, "B")
	e.count(c.name+ofCRDT+andKeys, float64(keys+values)/each-c.own, "B")
	e.count(c.name+ofKeys, float64(keys)/each-(c.own-c.ownValue), "B")
	e.count(c.name+ofRecords, float64(stored-keys-values)/each, "B")
	e.count(c.name+ofFile, float64(pages)/each, "B")
	return err
}

// bboltBytes returns the bytes of all keys and values in a closed store's file, and of the pages they
// take.
func bboltBytes(path string) (stored, pages int, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			stats := b.Stats()
			pages += stats.BranchAlloc + stats.LeafAlloc
			return b.ForEach(func(k, v []byte) error {
				stored += len(k) + len(v)
				return nil
			})
		})
	})
	return stored, pages, err
}

// The counts of encoded deltas.
const (
	withoutNames   = ", without namespace and key"
	deltaCount     = "delta of a counter add"
	deltaCounts    = "deltas of a batch of 1000 adds to one counter"
	deltaAdd       = "delta of a set add of 16 B"
	deltaAgain     = "delta of adding an element again"
	deltaBulk      = "delta of 1000 set adds of 16 B, per element"
	deltaPut       = "delta of a put, beyond the value"
	deltaClear     = "delta of a clear"
	deltaBatch     = 1000
	deltaWarmup    = 20
	warmupPerBatch = 1000
)

// deltaCase encodes deltas.
type deltaCase struct{}

func (deltaCase) name() string { return "deltas" }

func (deltaCase) measure(e *env) error {
	if e.round > 0 {
		return nil
	}
	e.begin()
	r, err := replica.Open(replica.NewMemory(), local)
	if err != nil {
		return err
	}
	// Sequence numbers are as long as they are between 16 thousand and 2 million operations.
	for range deltaWarmup {
		if _, err := encodedBytes(r, repeat(remoteOp(mergePuts, "", 5), warmupPerBatch)); err != nil {
			return err
		}
	}
	set := func(kind replica.OpKind, elements [][]byte) replica.Op {
		return replica.Op{Kind: kind, Namespace: namespace, Key: key(1), Elements: elements}
	}
	names := len(namespace) + keyBytes
	for _, d := range []struct {
		name  string
		ops   []replica.Op
		minus int
		per   int
	}{
		{deltaCount, repeat(remoteOp(mergeCounts, "", 0), 1), names, 1},
		{deltaCounts, repeat(remoteOp(mergeCounts, "", 0), deltaBatch), names * deltaBatch, 1},
		{deltaAdd, []replica.Op{set(replica.OpSetAdd, elements(0, 1))}, names, 1},
		{deltaAgain, []replica.Op{set(replica.OpSetAdd, elements(0, 1))}, names, 1},
		{deltaBulk, []replica.Op{set(replica.OpSetAdd, elements(1, deltaBatch))}, names, deltaBatch},
		{deltaPut, []replica.Op{remoteOp(mergePuts, "", 2)}, names, 1},
		{deltaClear, []replica.Op{set(replica.OpSetClear, nil)}, names, 1},
	} {
		n, err := encodedBytes(r, d.ops)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if d.name == deltaPut {
			n -= valueBytes
		}
		e.count(d.name, float64(n)/float64(d.per), "B")
		e.count(d.name+withoutNames, float64(n-d.minus)/float64(d.per), "B")
	}
	return nil
}

func repeat(op replica.Op, times int) []replica.Op {
	ops := make([]replica.Op, times)
	for i := range ops {
		ops[i] = op
	}
	return ops
}

// encodedBytes executes operations and returns the size of their deltas.
func encodedBytes(r *replica.Replica, ops []replica.Op) (int, error) {
	_, deltas, err := r.Execute(noon, ops)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, d := range deltas {
		sum += len(replica.EncodeDelta(d))
	}
	return sum, nil
}
